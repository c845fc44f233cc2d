"""The objective of an autoregressive transformer: the next token, in raster or permuted order.

Orders are permuted at first and raster at last, after Yu et al., "Randomized Autoregressive Visual
Generation" (arXiv 2411.00776). Network and loss are in ``training.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.learned import Architecture, as_ids
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.training.tokens import drop_classes, split_classes

if TYPE_CHECKING:
    from imagegram.generators.autoregressive.training import NextTokenModule


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """The objective of an autoregressive transformer.

    Attributes:
        architecture: sizes of the network.
        anneal: shares of the training between which the share of permuted documents falls from 1
            to 0; (0, 0): always raster order, (1, 1): always permuted.
        ends: whether the last id is the end of a document, which pads shorter ones.
        label_dropout: share of the documents whose label is hidden.
    """

    VERSION: ClassVar[int] = 2

    architecture: Architecture
    anneal: tuple[float, float]
    ends: bool
    label_dropout: float = field(default=0.0, metadata=NOT_IDENTITY_AT_DEFAULT)

    def module(self) -> NextTokenModule:
        """Build network and loss."""
        from imagegram.generators.autoregressive.training import NextTokenModule

        return NextTokenModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return ids, their weights in the loss, and orders, uniforms or classes where used.

        Weights have the mean 1 over the whole step, so that the loss of a step is the mean of the
        losses of its pieces, on however many devices.

        Returns:
            (B, T) int64 ids; (B, T) float32 weights. With permuted orders (B, T) int64 orders and
            (B,) float64 uniforms in [0, 1): a document is permuted while its uniform is below
            :meth:`share_permuted`. With labels, last, (B,) int64 classes.
        """
        num_classes = self.architecture.num_classes
        items, classes_B = split_classes(items, num_classes)
        ids_BT = as_ids(items, self.architecture)
        counted_BT = self.counted(ids_BT)
        arrays = [ids_BT, (counted_BT / counted_BT.mean()).astype(np.float32)]
        if self.is_permuted:
            arrays += [rng.random(ids_BT.shape).argsort(axis=1), rng.random(len(ids_BT))]
        if classes_B is not None:
            arrays += [drop_classes(classes_B, num_classes, self.label_dropout, rng)]
        return tuple(arrays)

    @property
    def is_permuted(self) -> bool:
        """Whether orders are permuted at any time."""
        return self.anneal != (0.0, 0.0)

    def counted(self, ids_BT: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of (B, T) ids are tokens of a document or its first end, not padding."""
        if not self.ends:
            return np.ones(ids_BT.shape, dtype=np.bool_)
        is_end_BT = ids_BT == self.architecture.vocab_size - 1
        return np.asarray(is_end_BT.cumsum(axis=1) - is_end_BT == 0)

    def share_permuted(self, done: float) -> float:
        """Return the share of documents whose order is permuted.

        Args:
            done: share of the training that is done, 0 ... 1.

        >>> sizes = Architecture(vocab_size=2, num_tokens=2, width=2, depth=1, num_heads=1)
        >>> objective = NextToken(architecture=sizes, anneal=(0.5, 0.75), ends=False)
        >>> [objective.share_permuted(done) for done in (0.0, 0.5, 0.625, 0.75, 1.0)]
        [1.0, 1.0, 0.5, 0.0, 0.0]
        """
        start, end = self.anneal
        if done < start or start == 1.0:
            return 1.0
        return 0.0 if done >= end else (end - done) / (end - start)
