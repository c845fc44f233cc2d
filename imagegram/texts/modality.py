"""Texts, as the stages see them: the other modality is ``images/modality.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Sketches
from imagegram.texts.decode import decode_text
from imagegram.texts.near_duplicates import SketchSearch, cluster_labels
from imagegram.texts.samples import append_texts
from imagegram.texts.sketches import NUM_VALUES, sketch_texts

#: Generated texts in the folder of an image set, one JSON object a line.
TEXTS_FILE: Final = "texts.jsonl"


@dataclass(frozen=True)
class TextModality:
    """Texts; sketches are MinHash values, their limit a share of common phrases."""

    noun: ClassVar[str] = "text"
    nouns: ClassVar[str] = "texts"
    SKETCHES: ClassVar[str] = "sketches.npy"

    def reading(self) -> AbstractContextManager[None]:
        """Nothing to surround."""
        return nullcontext()

    def read(self, data: bytes) -> str:
        """Text of a UTF-8 file; raises Unreadable, see ``texts/decode.py``."""
        return decode_text(data)

    def view(self, item: str, name: str) -> str:
        """Refuse any view: texts have none."""
        raise KeyError(name)

    def facts(self, item: str) -> dict[str, Any]:
        """Characters, and bytes of UTF-8."""
        return {"characters": len(item), "bytes": len(item.encode())}

    def sketch(self, item: str) -> Sketches:
        """(128,) uint32."""
        return np.asarray(sketch_texts([item])[0])

    def stack(self, sketches: Sequence[Sketches]) -> Sketches:
        """(N, 128) uint32."""
        return np.array(sketches, dtype=np.uint32).reshape(-1, NUM_VALUES)

    def search(
        self, sketches: Sketches, *, limit: float
    ) -> Callable[[Sketches], NDArray[np.int64]]:
        """Prepare an exact search for sketches with so large a share of equal values."""
        return SketchSearch.over(sketches, similarity=limit).neighbours

    def cluster(self, sketches: Sketches, *, limit: float) -> NDArray[np.int64]:
        """(N,) labels of clusters with so large a share of equal values."""
        return cluster_labels(sketches, similarity=limit)

    def writer(self, folder: Path, count: int) -> TextWriter:
        """Write ``texts.jsonl``."""
        return TextWriter(folder / TEXTS_FILE)


TEXTS: Final = TextModality()


class TextWriter:
    """Texts in the order in which they are added; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("w", encoding="utf-8", newline="\n")
        self._count = self._characters = 0

    def __enter__(self) -> TextWriter:
        """Begin."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the file."""
        self._stream.close()

    def add(self, items: Sequence[str]) -> None:
        """Append texts."""
        append_texts(self._stream, items, first=self._count)
        self._count += len(items)
        self._characters += sum(map(len, items))

    def facts(self) -> dict[str, Any]:
        """Count the characters of an average text."""
        return {"mean_characters": self._characters / max(self._count, 1)}
