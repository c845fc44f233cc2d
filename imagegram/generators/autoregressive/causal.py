"""What causal networks share: what stands before the first token, with a class where there is one.

Array names: ``B`` rows, ``W`` features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imagegram.models.hub import HubNetwork


class CausalNetwork(HubNetwork):
    """A network that writes the tokens of a row one after the other.

    A subclass sets the three: fresh weights follow from the order in which it does.

    Attributes:
        num_classes: number of labels, K; class K is no label. 0: the network knows no labels.
        start: (1, W) stands before the first token.
        classes: (K + 1, W) of :meth:`class_embeddings`.
    """

    num_classes: int
    start: nn.Parameter
    classes: nn.Parameter | None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.start.device

    def class_embeddings(self) -> nn.Parameter | None:
        """Return fresh embeddings of the classes; None where the network knows none."""
        if not self.num_classes:
            return None
        return nn.Parameter(torch.empty(self.num_classes + 1, self.start.shape[-1]))

    def first(self, rows: int, classes_B: Tensor | None) -> Tensor:
        """Return (B, W) features of what stands before the first token: start and class."""
        first_BW = self.start.expand(rows, -1)
        if self.classes is None:
            return first_BW
        assert classes_B is not None
        return first_BW + self.classes[classes_B]
