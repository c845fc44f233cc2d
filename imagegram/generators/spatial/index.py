"""SpatialIndex: blocks of the training documents, sorted by what lies around them.

For every pass (of a pyramid: every level): ``weights.npy`` (the places), ``places.npy``,
``thresholds.npy`` and ``starts.npy`` (the decisions, see ``tree.py``), and for all occurrences in
sorted order ``blocks.npy`` (their tokens), ``sources.npy`` (document x steps + number of the step)
and ``ranks.npy``, its inverse.
All are opened as memory maps: 2 bytes a token and 8 a block on disk. ``codes.npy``: numbers of the
codes of a grid. ``clusters.npy``: near-duplicates, which are one document to all limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.spatial.passes import Pass, grid_passes, is_grid, pyramid_passes
from imagegram.generators.spatial.steps import decoded
from imagegram.layout import TokenLayout
from imagegram.records import Images
from imagegram.store.manifest import Handle

#: Files of a pass.
FILES: Final = ("weights", "places", "thresholds", "starts", "blocks", "sources", "ranks")
#: Files of the numbers of codes, and of clusters.
CODES: Final = "codes.npy"
CLUSTERS: Final = "clusters.npy"


@runtime_checkable
class Enlarging(Protocol):
    """A tokenizer whose levels say what is added to the enlarged coarser picture."""

    def enlarged(self, coarser: Images, level: int) -> Images:
        """Return the (H, W, 3) uint8 picture that the residuals of a level are added to."""


def check_residuals(tokenizer: Any, *, generator: str) -> None:
    """Refuse a pyramid with fewer values of a residual: here one is its id less 128.

    Raises:
        ConfigError: saying what to type.
    """
    number = getattr(tokenizer, "residual_levels", None)
    if number is not None:
        raise ConfigError(
            f"generator={generator} adds residuals of all 256 values, and tokenizer="
            f"{tokenizer.name} has tokenizer.residual_levels={number}; type "
            "tokenizer.residual_levels=null, or generator=ngram"
        )


class LevelIndex(NamedTuple):
    """One pass of the index; see the module. ``clusters`` are the same for all."""

    weights: NDArray[np.int64]
    places: NDArray[np.int64]
    thresholds: NDArray[np.int64]
    starts: NDArray[np.int64]
    blocks: NDArray[np.uint16]
    sources: NDArray[np.int64]
    ranks: NDArray[np.int64]
    clusters: NDArray[np.int64]


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

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """(N,) lowest document of each document's cluster of near-duplicates."""
        labels: NDArray[np.int64] = np.load(self.artifact.path / CLUSTERS)
        return labels

    @property
    def num_clusters(self) -> int:
        """Number of training documents, near-duplicates counted once."""
        return len(np.unique(self.clusters))

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """What the steps draw, and in what order."""
        facts = self.artifact.facts
        if is_grid(self.layout):
            return grid_passes(self.layout, facts["grid_order"])
        return pyramid_passes(self.layout, tuple(facts["sides"]))

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """(V, A) numbers of the codes of a grid; (0, 0) of a pyramid."""
        path = self.artifact.path / CODES
        return np.load(path) if is_grid(self.layout) else np.zeros((0, 0), dtype=np.int64)

    @cached_property
    def apart(self) -> NDArray[np.int64]:
        """(V + 1, V + 1) squared distances of codes, see ``distances_between``."""
        from imagegram.generators.spatial.grids import distances_between

        return distances_between(self.codes)

    @cached_property
    def grids(self) -> NDArray[np.uint16]:
        """(N, H, W) training documents of a grid; of a pyramid, none."""
        count = self.num_documents if is_grid(self.layout) else 0
        rows = np.empty((count, self.layout.num_tokens), dtype=np.uint16)
        for part, level in zip(self.passes, self.levels, strict=True) if count else ():
            tokens = np.asarray(level.blocks)[np.asarray(level.ranks)]
            rows[:, part.positions] = tokens.reshape(count, *part.positions.shape)
        return rows.reshape(count, self.passes[0].height, -1) if count else rows[:, None]

    @cached_property
    def levels(self) -> tuple[LevelIndex, ...]:
        """Memory maps of every pass."""
        found = []
        for n in range(len(self.passes)):
            files = (file_of(self.artifact.path, n, name) for name in FILES)
            arrays = (np.load(file, mmap_mode="r") for file in files)
            found.append(LevelIndex._make((*arrays, self.clusters)))
        return tuple(found)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without memory maps."""
        return {"artifact": self.artifact, "layout": self.layout}


def file_of(folder: Path, level: int, name: str) -> Path:
    """Return the path of a file of a pass."""
    return folder / f"level{level}_{name}.npy"


def pictures(tokenizer: Any, n: int, level: NDArray[np.uint16], coarser: Images | None) -> Images:
    """Return the (N, H, W, 3) uint8 pictures that the tokens of a level decode to."""
    found = np.empty(level.shape, dtype=np.uint8)
    for document, tokens in enumerate(level):
        base = None if coarser is None else tokenizer.enlarged(coarser[document], n)
        found[document] = decoded(tokens, base)
    return found
