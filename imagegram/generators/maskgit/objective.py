"""The objectives of masked networks: predict the masked tokens of a document, however many are.

``arccos``: the masked share is arccos(u) / (pi / 2), u uniform in [0, 1): more often many than few
(Chang et al. 2022, arXiv 2202.04200; Yu et al. 2024, arXiv 2406.07550).

``uniform``: the masked share t is uniform in (0, 1], rounded up to whole tokens, and the loss of a
masked token is weighted 1 / t. The loss of a document is then in the mean a bound of its code
length, that of masked diffusion (Sahoo et al. 2024, arXiv 2406.07524) and of networks that fill in
any order (Hoogeboom et al. 2021, arXiv 2110.02037), which are the same (Ou et al. 2024, arXiv
2406.03736): with k of n tokens masked, k uniform in 1 ... n, n times the mean loss of the k.

Network and loss are in ``training.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.learned import Architecture
from imagegram.generators.maskgit.masks import random_masks
from imagegram.generators.maskgit.sizes import is_ragged
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.training.tokens import drop_classes, split_classes

if TYPE_CHECKING:
    from imagegram.generators.maskgit.training import MaskedPredictionModule

#: Networks that predict; see ``backbones.py``.
BACKBONES: Final = ("transformer", "local", "bert", "uvit")
#: How the masked share of a document is drawn.
RATES: Final = ("arccos", "uniform")


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction:
    """The objective of a masked network.

    Attributes:
        architecture: sizes of the network; :class:`RaggedSizes` where documents differ in length.
        label_smoothing: smoothing of the cross entropy, 0 ... 1.
        unmasked_weight: weight of tokens that were not masked; masked ones have 1.
        backbone: one of :data:`BACKBONES`.
        label_dropout: share of the documents whose label is hidden.
        rates: one of :data:`RATES`.
    """

    VERSION: ClassVar[int] = 2

    architecture: Architecture
    label_smoothing: float
    unmasked_weight: float
    backbone: str = field(default="transformer", metadata=NOT_IDENTITY_AT_DEFAULT)
    label_dropout: float = field(default=0.0, metadata=NOT_IDENTITY_AT_DEFAULT)
    rates: str = field(default="arccos", metadata=NOT_IDENTITY_AT_DEFAULT)

    def module(self) -> MaskedPredictionModule:
        """Build the network with its loss."""
        from imagegram.generators.maskgit.training import MaskedPredictionModule

        return MaskedPredictionModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return (B, T) ids, masks with at least one True a row, and weights in the loss.

        Of documents that differ in length, (B, T) bool follow, which ids are tokens: the others
        are 0, never masked, and without weight. With labels, (B,) int64 classes are the last.

        Weights have the mean 1 over the whole step, so that the loss of a step is the mean of the
        losses of its pieces, on however many devices. With ``uniform`` rates it is nats of a token.
        """
        num_classes = self.architecture.num_classes
        items, classes_B = split_classes(items, num_classes)
        ids_BT, there_BT = self.tokens(items)
        sizes_B = np.full(len(items), items.shape[1]) if there_BT is None else there_BT.sum(axis=1)
        counts_B = self._counts(sizes_B, rng)
        masked_BT = random_masks(counts_B, items.shape[1], rng, there_BT)
        masked_weight = (sizes_B / counts_B)[:, None] if self.rates == "uniform" else 1.0
        weights_BT = np.where(masked_BT, masked_weight, self.unmasked_weight)
        if there_BT is not None:
            weights_BT *= there_BT
        weights_BT /= weights_BT.mean()
        arrays = [ids_BT, masked_BT, weights_BT.astype(np.float32)]
        if there_BT is not None:
            arrays += [there_BT]
        if classes_B is not None:
            arrays += [drop_classes(classes_B, num_classes, self.label_dropout, rng)]
        return tuple(arrays)

    def tokens(self, items: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return (B, T) int64 ids of rows; and which are of a document, None: all are."""
        if not is_ragged(self.architecture):
            return items.astype(np.int64), None
        there_BT = np.asarray(items != EOS_TOKEN_ID)
        return np.where(there_BT, items, 0).astype(np.int64), there_BT

    def _counts(self, sizes_B: NDArray[np.int64], rng: np.random.Generator) -> NDArray[Any]:
        """Draw how many of so many tokens of every document are masked, at least one."""
        if self.rates == "uniform":
            # Evenly spread over a step, each uniform: losses differ less from step to step.
            spread_B = np.arange(len(sizes_B)) / max(len(sizes_B), 1)
            shares_B = 1.0 - (rng.random() + spread_B) % 1.0
            return np.maximum(np.ceil(shares_B * sizes_B), 1)
        shares_B = np.arccos(rng.random(len(sizes_B))) / (math.pi / 2)
        return np.maximum(np.rint(shares_B * sizes_B), 1)
