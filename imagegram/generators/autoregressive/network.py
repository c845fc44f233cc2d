"""A causal transformer over tokens in any order: tokens so far, to logits of the next one.

Every step adds up what it has seen (id and position of the token before it) and what it is asked
for (the *target* position), after Yu et al., "Randomized Autoregressive Visual Generation" (arXiv
2411.00776): without the target, two orders with the same beginning would ask one question and
expect two answers. In raster order the target says nothing new.

Array names: ``B`` samples, ``T`` steps, ``V`` ids, ``W`` features of a step.

>>> network = Autoregressive(vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2)
>>> features = network(torch.tensor([[0, 4, 1]]))
>>> tuple(network.to_logits(features).shape)
(1, 3, 5)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagegram.generators.autoregressive.causal import CausalNetwork
from imagegram.models.transformer import Head, KeyValues, Transformer


@dataclass
class Steps:
    """What the steps of some rows share.

    Attributes:
        caches: keys and values of earlier steps, one a block.
        classes: (B,) class of every row.
    """

    caches: list[KeyValues]
    classes: Tensor


class Autoregressive(CausalNetwork):
    """A transformer whose step t sees the tokens of the steps before t.

    Args:
        vocab_size: number of ids of a token, V.
        num_tokens: number of positions, T.
        width: features of a step, W.
        depth: number of blocks.
        num_heads: divides ``width``.
        num_classes: number of labels, K; class K is no label. 0: the network knows no labels.
    """

    FAMILY = "gpt"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.start = nn.Parameter(torch.empty(1, width))  # stands before the first token
        self.ids = nn.Parameter(torch.empty(vocab_size, width))
        self.positions = nn.Parameter(torch.empty(num_tokens, width))
        self.targets = nn.Parameter(torch.empty(num_tokens, width))
        self.classes = self.class_embeddings()
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)
        self.to_logits = Head(width, vocab_size)

    def begin(self, classes_B: Tensor) -> Steps:
        """Return what the steps of some rows share, before the first.

        Args:
            classes_B: (B,) class of every row; unused where the network knows none.
        """
        caches = self.transformer.caches(len(classes_B), self.num_tokens)
        return Steps(caches=caches, classes=classes_B)

    def forward(
        self, ids_BT: Tensor, order_BT: Tensor | None = None, classes_B: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, W) features of all steps at once; ``to_logits`` makes logits of them.

        Args:
            ids_BT: (B, T) int64 ids, in the order of the positions.
            order_BT: (B, T) int64 position of the token of every step; None: raster order.
            classes_B: (B,) int64 class of every row; unused where the network knows none.
        """
        seen_BTW = self.ids[ids_BT] + self.positions[: ids_BT.shape[1]]
        targets_BTW = self.targets[: ids_BT.shape[1]].expand_as(seen_BTW)
        if order_BT is not None:
            places_BTW = order_BT[..., None].expand_as(seen_BTW)
            seen_BTW = seen_BTW.gather(1, places_BTW)
            targets_BTW = self.targets[order_BT]
        first_B1W = self.first(len(ids_BT), classes_B)[:, None]
        inputs_BTW = torch.cat([first_B1W, seen_BTW[:, :-1]], dim=1) + targets_BTW
        features: Tensor = self.transformer(inputs_BTW, causal=True)
        return features

    def step(self, last_B: Tensor | None, step: int, steps: Steps) -> Tensor:
        """Return (B, V) logits of the token of one step, in raster order.

        Args:
            last_B: (B,) ids of the step before; None: this is the first.
            step: 0 ... T - 1.
            steps: of :meth:`begin`, after the steps before.
        """
        if last_B is None:
            seen_BW = self.first(len(steps.classes), steps.classes)
        else:
            seen_BW = self.ids[last_B] + self.positions[step - 1]
        inputs_B1W = (seen_BW + self.targets[step])[:, None]
        features_B1W = self.transformer(inputs_B1W, caches=steps.caches)
        logits: Tensor = self.to_logits(features_B1W[:, 0])
        return logits
