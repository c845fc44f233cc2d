"""OwnLabels: every row has a label of its own, for real documents that a model scores.

>>> own = OwnLabels(labels=("dog", None), key="label")
>>> own.of_samples(("cat", "dog"), np.arange(2, dtype=np.uint64)).tolist()
[1, -1]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.labels import ANY, label_of
from imagegram.store.fingerprint import NOT_IDENTITY


@dataclass(frozen=True, kw_only=True)
class OwnLabels:
    """Ask every row for its own label.

    Attributes:
        labels: (B,) label of each row; None: it has none.
        key: key of the JSON beside an item that they are the values of.
        name: in messages.
    """

    labels: tuple[str | None, ...]
    key: str
    name: str = field(default="own", metadata=NOT_IDENTITY)

    @classmethod
    def of(cls, metadata: Iterable[Mapping[str, Any]], *, key: str) -> Self:
        """Read the labels of documents from their metadata, in order."""
        return cls(labels=tuple(label_of(one, key) for one in metadata), key=key)

    def of_samples(
        self, names: Sequence[str], samples: NDArray[np.uint64], *, keys: Sequence[str] = ()
    ) -> NDArray[np.int32]:
        """(B,) which of ``names`` every row has; -1: none of them."""
        number = {name: place for place, name in enumerate(names)}
        found = [number.get(label, ANY) if label is not None else ANY for label in self.labels]
        return np.array(found, dtype=np.int32)
