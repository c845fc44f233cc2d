"""SpatialIndex: blocks of the training documents, sorted by what lies around them.

For every level: ``weights.npy`` (the places), ``places.npy``, ``thresholds.npy`` and ``starts.npy``
(the decisions, see ``tree.py``), and for all occurrences in sorted order ``blocks.npy`` (their
tokens), ``sources.npy`` (document x blocks + number of the block) and ``ranks.npy``, its inverse.
All are opened as memory maps: 2 bytes a token and 8 a block on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.spatial.steps import decoded
from imagegram.layout import TokenLayout
from imagegram.records import Images
from imagegram.store.manifest import Handle

#: Files of a level.
FILES: Final = ("weights", "places", "thresholds", "starts", "blocks", "sources", "ranks")


@runtime_checkable
class Enlarging(Protocol):
    """A tokenizer whose levels say what is added to the enlarged coarser picture."""

    def enlarged(self, coarser: Images, level: int) -> Images:
        """Return the (H, W, 3) uint8 picture that the residuals of a level are added to."""


class LevelIndex(NamedTuple):
    """One level of the index; see the module. ``side`` is that of a block."""

    weights: NDArray[np.int64]
    places: NDArray[np.int64]
    thresholds: NDArray[np.int64]
    starts: NDArray[np.int64]
    blocks: NDArray[np.uint16]
    sources: NDArray[np.int64]
    ranks: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SpatialIndex(Handle):
    """The opened index.

    Attributes:
        layout: layout of the documents.
    """

    layout: TokenLayout

    @property
    def num_documents(self) -> int:
        """Number of training documents."""
        return int(self.artifact.facts["num_documents"])

    @property
    def sides(self) -> tuple[int, ...]:
        """Side of the blocks of every level."""
        return tuple(self.artifact.facts["sides"])

    @cached_property
    def levels(self) -> tuple[LevelIndex, ...]:
        """Memory maps of every level."""
        return tuple(
            LevelIndex(*(np.load(file_of(self.artifact.path, n, f), mmap_mode="r") for f in FILES))
            for n in range(self.layout.num_levels)
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without memory maps."""
        return {"artifact": self.artifact, "layout": self.layout}


def file_of(folder: Path, level: int, name: str) -> Path:
    """Return the path of a file of a level."""
    return folder / f"level{level}_{name}.npy"


def pictures(tokenizer: Any, n: int, level: NDArray[np.uint16], coarser: Images | None) -> Images:
    """Return the (N, H, W, 3) uint8 pictures that the tokens of a level decode to."""
    found = np.empty(level.shape, dtype=np.uint8)
    for document, tokens in enumerate(level):
        base = None if coarser is None else tokenizer.enlarged(coarser[document], n)
        found[document] = decoded(tokens, base)
    return found


def blocks_of(level: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the (N * blocks, side * side * C) tokens of all blocks, in raster order.

    >>> blocks_of(np.arange(8, dtype=np.uint16).reshape(1, 2, 4, 1), 2).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    count, height, width, channels = level.shape
    parts = level.reshape(count, height // side, side, width // side, side, channels)
    return np.ascontiguousarray(parts.swapaxes(2, 3)).reshape(-1, side * side * channels)
