"""Labels of documents: the class of each document, for conditioning samples on a label.

>>> first = Labels(names=("dog",), by_document=np.array([0, -1], dtype=np.int32))
>>> second = Labels(names=("cat",), by_document=np.array([0], dtype=np.int32))
>>> joined = Labels.join([first, second])
>>> joined.names, joined.by_document.tolist()
(('cat', 'dog'), [1, -1, 0])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: No label: documents of any label may decide.
ANY: Final = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The labels of the documents of an index.

    Attributes:
        names: (K,) labels in sorted order.
        by_document: (N,) int32 index of each document's label in ``names``; -1: no label.
        keys: other keys in the JSON beside the images, for messages.
    """

    names: tuple[str, ...]
    by_document: NDArray[np.int32]
    keys: tuple[str, ...] = ()

    @classmethod
    def join(cls, parts: Sequence[Labels]) -> Labels:
        """Join the labels of several shards, in order."""
        names = sorted({name for part in parts for name in part.names})
        number = {name: i for i, name in enumerate(names)}
        ids = []
        for part in parts:
            numbers = np.array([*(number[name] for name in part.names), ANY], dtype=np.int32)
            ids.append(numbers[part.by_document])  # -1 is the last of them
        by_document = np.concatenate([np.empty(0, np.int32), *ids])
        keys = sorted({key for part in parts for key in part.keys})
        return cls(names=tuple(names), by_document=by_document, keys=tuple(keys))
