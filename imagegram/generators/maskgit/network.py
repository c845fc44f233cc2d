"""The network of MaskGIT: tokens with some of them masked, to logits of what is masked.

Array names: ``B`` samples, ``T`` positions, ``V`` ids, ``W`` features of a position. The id ``V``
is the mask.

>>> network = MaskGit(vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2)
>>> tuple(network(torch.tensor([[0, 5, 5]])).shape)
(1, 3, 5)
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from imagegram.generators.maskgit.ragged import keep_lengths, seen
from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import Head, Transformer

#: Places that one sees before the first block, itself among them.
_NEIGHBOURS: Final = 3


class MaskGit(HubNetwork):
    """A bidirectional transformer: every position sees all others.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: blocks.
        num_heads: divides ``width``.
        num_classes: number of labels, K; class K is no label. 0: the network knows no labels.
        ragged: whether documents differ in length, see ``ragged.py``.
    """

    FAMILY = "maskgit"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
        ragged: bool = False,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.ragged = ragged
        if ragged:
            keep_lengths(self, num_tokens)
        self.ids = nn.Parameter(torch.empty(vocab_size + 1, width))  # the last one is the mask
        self.positions = nn.Parameter(torch.empty(num_tokens, width))
        self.classes: nn.Parameter | None = None
        if num_classes:
            self.classes = nn.Parameter(torch.empty(num_classes + 1, width))
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)
        self.to_logits = Head(width, vocab_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.ids.device

    def embedded(self, ids_BT: Tensor, there_BT: Tensor | None) -> Tensor:
        """Return the (B, T, W) embeddings of (B, T) ids."""
        return self.ids[ids_BT]

    def forward(
        self, ids_BT: Tensor, classes_B: Tensor | None = None, there_BT: Tensor | None = None
    ) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and (B,) classes to (B, T, V) logits.

        Classes are unused where the network knows none; they are added to every position. What is
        not ``there_BT``, bool, is not seen; None: all is.
        """
        x_BTW = self.embedded(ids_BT, there_BT) + self.positions
        if self.classes is not None:
            assert classes_B is not None
            x_BTW = x_BTW + self.classes[classes_B][:, None]
        logits: Tensor = self.to_logits(self.transformer(x_BTW, seen(there_BT)))
        return logits


class LocalMaskGit(MaskGit):
    """The same, whose places see their neighbours before the first block.

    A transformer of places that are embeddings of their own has to learn for each of them where its
    neighbours are; of texts it reads little more than how often tokens come until then, for
    thousands of steps. A convolution of three places knows it from the beginning.

    Arguments are those of :class:`MaskGit`.
    """

    FAMILY = "local"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
        ragged: bool = False,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            num_tokens=num_tokens,
            width=width,
            depth=depth,
            num_heads=num_heads,
            num_classes=num_classes,
            ragged=ragged,
        )
        self.mix = nn.Conv1d(width, width, _NEIGHBOURS, padding=_NEIGHBOURS // 2)

    def embedded(self, ids_BT: Tensor, there_BT: Tensor | None) -> Tensor:
        """Return the (B, T, W) embeddings of (B, T) ids and of their neighbours, if there."""
        x_BTW = self.ids[ids_BT]
        if there_BT is not None:
            x_BTW = x_BTW * there_BT[..., None]
        mixed: Tensor = self.mix(x_BTW.transpose(1, 2)).transpose(1, 2)
        return x_BTW + mixed
