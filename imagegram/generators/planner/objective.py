"""The objective of a planner: every step of a document is a target, and so is its end.

Network and loss are in ``training.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import TokenError
from imagegram.generators.learned import as_ids, counted
from imagegram.generators.planner.sizes import PlannerSizes
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.training.tokens import drop_classes, split_classes

if TYPE_CHECKING:
    from imagegram.generators.planner.training import PlannerModule


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """The objective of a planner.

    Attributes:
        architecture: sizes of the network.
        label_dropout: share of the documents whose label is hidden.
        vectors: (K, V, D) float32 vectors of the codes; None: they are not shown. They follow from
            the tokens, whose identity holds their tokenizer's.
    """

    VERSION: ClassVar[int] = 1

    architecture: PlannerSizes
    label_dropout: float = field(default=0.0, metadata=NOT_IDENTITY_AT_DEFAULT)
    vectors: NDArray[np.float32] | None = field(
        default=None, compare=False, repr=False, metadata=NOT_IDENTITY
    )

    def module(self) -> PlannerModule:
        """Build network and loss."""
        from imagegram.generators.planner.training import PlannerModule

        return PlannerModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return ids, their weights in the loss, and classes where there are labels.

        Weights have the mean 1 over the whole step, so that the loss of a step is the mean of the
        losses of its pieces, on however many devices.

        Returns:
            (B, T) int64 ids; (B, T) float32 weights, 0 behind the end of a document; with labels
            (B,) int64 classes.
        """
        num_classes = self.architecture.num_classes
        tokens_BT, classes_B = split_classes(items, num_classes)
        counted_BT = counted(tokens_BT)
        self._check(tokens_BT, counted_BT)
        weights_BT = (counted_BT / counted_BT.mean()).astype(np.float32)
        arrays = (as_ids(tokens_BT, self.architecture), weights_BT)
        if classes_B is None:
            return arrays
        return (*arrays, drop_classes(classes_B, num_classes, self.label_dropout, rng))

    def _check(self, tokens_BT: NDArray[Any], counted_BT: NDArray[np.bool_]) -> None:
        """Refuse documents that are no whole steps of codes, which would be learned as padding."""
        sizes = self.architecture
        stages_T = np.arange(tokens_BT.shape[1]) % sizes.stages
        size = sizes.codebook_size
        codes_BT = tokens_BT.astype(np.int64) - size * stages_T * (sizes.codebooks > 1)
        is_end_BT = (tokens_BT == EOS_TOKEN_ID) & (stages_T == 0)
        is_legal_BT = ((codes_BT >= 0) & (codes_BT < size)) | is_end_BT
        if not (is_legal_BT | ~counted_BT).all():
            row, place = np.argwhere(~is_legal_BT & counted_BT)[0].tolist()
            stage = int(stages_T[place])
            raise TokenError(
                f"token {place} of a document is {int(tokens_BT[row, place])}, but code {stage} of "
                f"a step of {sizes.stages} is one of {size} ids; its tokenizer breaks its own "
                "layout, tokenize again"
            )
