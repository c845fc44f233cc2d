"""Labels of documents: the class of each document, for conditioning samples on a label.

>>> first = Labels(names=("dog",), by_document=np.array([0, -1], dtype=np.int32))
>>> second = Labels(names=("cat",), by_document=np.array([0], dtype=np.int32))
>>> joined = Labels.join([first, second])
>>> joined.names, joined.by_document.tolist()
(('cat', 'dog'), [1, -1, 0])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: No label: documents of any label may decide.
ANY: Final = -1
#: The key that also means the text beside an image.
CAPTION: Final = "caption"


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """The labels of documents.

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

    @classmethod
    def of(cls, metadata: Iterable[Mapping[str, Any]], key: str) -> Labels:
        """Collect the labels of documents from their metadata, in order."""
        number: dict[str, int] = {}
        keys: set[str] = set()
        ids = []
        for one in metadata:
            keys.update(one.get("info") or {})
            label = label_of(one, key)
            ids.append(ANY if label is None else number.setdefault(label, len(number)))
        by_document = np.array(ids, dtype=np.int32)
        part = cls(names=tuple(number), by_document=by_document, keys=tuple(keys))
        return cls.join([part])  # in sorted order


def label_of(metadata: Mapping[str, Any], key: str) -> str | None:
    """Return the label of one document; only words and whole numbers are labels.

    >>> label_of({"info": {"label": 7}}, "label"), label_of({"caption": "a dog"}, "caption")
    ('7', 'a dog')
    >>> label_of({"info": {"label": ["cat"]}}, "label") is None
    True
    """
    value = (metadata.get("info") or {}).get(key)
    if value is None and key == CAPTION:
        value = metadata.get(CAPTION)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    return str(value)
