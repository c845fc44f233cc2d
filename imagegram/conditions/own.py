"""OwnLabels: every row has a label of its own, for real documents that a model scores.

>>> own = OwnLabels(labels=("dog", None))
>>> own.of_samples(("cat", "dog"), np.arange(2, dtype=np.uint64)).tolist()
[1, -1]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.labels import ANY
from imagegram.store.fingerprint import NOT_IDENTITY


@dataclass(frozen=True, kw_only=True)
class OwnLabels:
    """Ask every row for its own label.

    Attributes:
        labels: (B,) label of each row; None: it has none.
        name: in messages.
    """

    labels: tuple[str | None, ...]
    name: str = field(default="own", metadata=NOT_IDENTITY)

    def of_samples(
        self, names: Sequence[str], samples: NDArray[np.uint64], *, keys: Sequence[str] = ()
    ) -> NDArray[np.int32]:
        """(B,) which of ``names`` every row has; -1: none of them."""
        number = {name: place for place, name in enumerate(names)}
        found = [number.get(label, ANY) if label is not None else ANY for label in self.labels]
        return np.array(found, dtype=np.int32)
