"""The objective of MaskGIT: predict the masked tokens of a document, whatever share is masked.

The share is arccos(u) / (pi / 2), u uniform in [0, 1): more often many than few (Chang et al. 2022,
arXiv 2202.04200; Yu et al. 2024, arXiv 2406.07550). Network and loss are in ``training.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.learned import Architecture
from imagegram.generators.maskgit.masks import random_masks
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.training.tokens import drop_classes, split_classes

if TYPE_CHECKING:
    from imagegram.generators.maskgit.training import MaskedPredictionModule

#: Networks that predict; see ``backbones.py``.
BACKBONES: Final = ("transformer", "bert", "uvit")


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction:
    """The objective of MaskGIT.

    Attributes:
        architecture: sizes of the network.
        label_smoothing: smoothing of the cross entropy, 0 ... 1.
        unmasked_weight: weight of tokens that were not masked; masked ones have 1.
        backbone: one of :data:`BACKBONES`.
        label_dropout: share of the documents whose label is hidden.
    """

    VERSION: ClassVar[int] = 2

    architecture: Architecture
    label_smoothing: float
    unmasked_weight: float
    backbone: str = field(default="transformer", metadata=NOT_IDENTITY_AT_DEFAULT)
    label_dropout: float = field(default=0.0, metadata=NOT_IDENTITY_AT_DEFAULT)

    def module(self) -> MaskedPredictionModule:
        """Build the network with its loss."""
        from imagegram.generators.maskgit.training import MaskedPredictionModule

        return MaskedPredictionModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return (B, T) ids, masks with at least one True a row, and weights in the loss.

        With labels, (B,) int64 classes are the last.

        Weights have the mean 1 over the whole step, so that the loss of a step is the mean of the
        losses of its pieces, on however many devices.
        """
        num_classes = self.architecture.num_classes
        items, classes_B = split_classes(items, num_classes)
        shares_B = np.arccos(rng.random(len(items))) / (math.pi / 2)
        counts_B = np.maximum(np.rint(shares_B * items.shape[1]), 1)
        masked_BT = random_masks(counts_B, items.shape[1], rng)
        weights_BT = np.where(masked_BT, 1.0, self.unmasked_weight)
        weights_BT /= weights_BT.mean()
        arrays = (items.astype(np.int64), masked_BT, weights_BT.astype(np.float32))
        if classes_B is None:
            return arrays
        return (*arrays, drop_classes(classes_B, num_classes, self.label_dropout, rng))
