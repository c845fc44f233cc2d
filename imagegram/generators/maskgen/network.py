"""The network of MaskGen: tokens with some of them masked, and a caption, to logits.

After Kim et al., "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware
One-Dimensional Tokens" (arXiv 2501.07730), with one stream: the states of the caption stand before
the tokens, all see all.

Array names: ``B`` samples, ``T`` tokens, ``V`` ids, ``L`` positions of a caption, ``D`` numbers of
a state, ``W`` features. The id ``V`` is the mask.

>>> network = MaskGen(
...     vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2, text_dim=4, text_length=2
... )
>>> there = torch.tensor([[True, False]])
>>> tuple(network(torch.tensor([[0, 5, 5]]), torch.zeros(1, 2, 4), there).shape)
(1, 3, 5)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imagegram.models.hub import HubNetwork
from imagegram.models.text_positions import TextPositions
from imagegram.models.transformer import Head, Transformer


class MaskGen(HubNetwork):
    """A bidirectional transformer over a caption and tokens.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: blocks.
        num_heads: divides ``width``.
        text_dim: numbers of a state of the text encoder, D.
        text_length: most tokens of a caption, L.
    """

    FAMILY = "maskgen"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        text_dim: int,
        text_length: int,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens = vocab_size, num_tokens
        self.ids = nn.Parameter(torch.empty(vocab_size + 1, width))  # the last one is the mask
        self.positions = nn.Parameter(torch.empty(num_tokens, width))
        self.text = TextPositions(text_dim=text_dim, text_length=text_length, width=width)
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)
        self.to_logits = Head(width, vocab_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.ids.device

    def forward(
        self, ids_BT: Tensor, states_BLD: Tensor | None = None, there_BL: Tensor | None = None
    ) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and captions to (B, T, V) logits.

        Args:
            ids_BT: int64 ids.
            states_BLD: (B, L, D) states of captions; None: no row has a caption.
            there_BL: (B, L) bool, tokens of these captions; a row without any has no caption.
        """
        if states_BLD is None or there_BL is None:
            states_BLD, there_BL = self.text.no_text(len(ids_BT))
        text_BLW, seen_BL = self.text(states_BLD, there_BL)
        x_BTW = self.ids[ids_BT] + self.positions
        both = torch.cat((text_BLW.to(x_BTW.dtype), x_BTW), dim=1)
        shown = torch.ones(ids_BT.shape, dtype=torch.bool, device=seen_BL.device)
        mask = torch.cat((seen_BL, shown), dim=1)[:, None, None]
        read_BTW = self.transformer(both, mask)[:, text_BLW.shape[1] :]
        logits: Tensor = self.to_logits(read_BTW)
        return logits


class Asked:
    """A network whose classes are captions, as masked sampling and scoring take it.

    Args:
        network: in evaluation mode, on its device.
        states: (M + 1, L, D) states of M captions, and of none.
        there: (M + 1, L) bool, their tokens.
    """

    def __init__(self, network: MaskGen, states: Tensor, there: Tensor) -> None:
        self.network, self.states, self.there = network, states, there
        self.vocab_size, self.num_tokens = network.vocab_size, network.num_tokens
        #: The class M has no caption.
        self.num_classes = len(states) - 1
        self.ragged = False

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.network.device

    def __call__(self, ids_BT: Tensor, classes_B: Tensor, there_BT: Tensor | None = None) -> Tensor:
        """Map (B, T) ids and (B,) numbers of captions to (B, T, V) logits; all ids are seen."""
        logits: Tensor = self.network(ids_BT, self.states[classes_B], self.there[classes_B])
        return logits
