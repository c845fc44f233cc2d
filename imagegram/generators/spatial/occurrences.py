"""Occurrences: the steps of one pass of all training documents, with what lies around them.

A code of a grid is a few numbers: its codebook vector along the axes on which the codes of the
training documents differ most. So a code may be asked coarsely - is it above the median of the
first axis? - and later finely.

>>> numbers_of(np.array([[0.0, 1], [2, 1]]), np.array([1, 1]))[:, :2].tolist()
[[-1024, 0], [1024, 0]]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.spatial.passes import Pass, blocks_of
from imagegram.generators.spatial.places import AXES, GRID_SIZE, SIZE
from imagegram.records import Images

#: Largest number of a code.
LARGEST: Final = 1024


class Source(Protocol):
    """Occurrences of a pass, document by document."""

    is_grid: ClassVar[bool]

    @property
    def part(self) -> Pass:
        """The pass."""

    def some(self, count: int) -> Source:
        """Return those of about so many documents, spread evenly."""

    def blocks(self) -> NDArray[np.uint16]:
        """Return the (M, K) tokens of all occurrences."""

    def numbers(self, blocks_MK: NDArray[np.uint16]) -> NDArray[Any]:
        """Return the (M, ·) numbers by which blocks are compared."""

    def measured(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (M, P) values of places with (P, ·) weights."""

    def surroundings(self) -> NDArray[np.int64]:
        """Return the (M, ·) surroundings."""


@dataclass(frozen=True, eq=False)
class PyramidSource:
    """Blocks of one level of a pyramid.

    Attributes:
        part: the pass.
        level: (N, H, W, C) tokens.
        coarser: (N, H', W', 3) pictures of the coarser level; None: there is none.
    """

    is_grid: ClassVar[bool] = False

    part: Pass
    level: NDArray[np.uint16]
    coarser: Images | None

    def some(self, count: int) -> PyramidSource:
        """Return those of about so many documents, spread evenly."""
        ids = spread(len(self.level), count)
        coarser = None if self.coarser is None else self.coarser[ids]
        return replace(self, level=self.level[ids], coarser=coarser)

    def blocks(self) -> NDArray[np.uint16]:
        """Return the (M, K) tokens of all blocks."""
        return blocks_of(self.level, self.part.side)

    def numbers(self, blocks_MK: NDArray[np.uint16]) -> NDArray[Any]:
        """Return the tokens themselves: they are numbers."""
        return blocks_MK

    def measured(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (M, P) values of places with (P, SIZE) weights."""
        from imagegram.generators.spatial.surroundings import measure_level

        count = len(self.level)
        values = np.empty((count * self.part.num_steps, len(weights)), dtype=np.int64)
        has_coarser = self.coarser is not None
        seen = self.coarser if has_coarser else np.zeros((count, 1, 1, 3), dtype=np.uint8)
        measure_level(seen, self.level, self.part.side, has_coarser, weights, values)
        return values

    def surroundings(self) -> NDArray[np.int64]:
        """Return the (M, SIZE) surroundings."""
        return self.measured(np.eye(SIZE, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class GridSource:
    """Places of one pass over grids of codes.

    Attributes:
        part: the pass.
        grids: (N, H, W) codes.
        codes: (V, AXES) numbers of the codes, along principal axes.
        vectors: (V, D) those of the codebook as they are: where each of its axes counts the same,
            an axis counts as much as its codes differ along it.
        ranks: (H, W) order of the places.
    """

    is_grid: ClassVar[bool] = True

    part: Pass
    grids: NDArray[np.uint16]
    codes: NDArray[np.int64]
    vectors: NDArray[np.float32]
    ranks: NDArray[np.int64]

    def some(self, count: int) -> GridSource:
        """Return those of about so many documents, spread evenly."""
        return replace(self, grids=self.grids[spread(len(self.grids), count)])

    def blocks(self) -> NDArray[np.uint16]:
        """Return the (M, 1) codes of all places."""
        return self.grids.reshape(len(self.grids), -1)[:, self.part.places].reshape(-1, 1)

    def numbers(self, blocks_MK: NDArray[np.uint16]) -> NDArray[Any]:
        """Return the (M, D) vectors of codes."""
        return self.vectors[blocks_MK[:, 0]]

    def measured(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (M, P) values of places with (P, GRID_SIZE) weights."""
        return self._measured(weights, len(weights))

    def surroundings(self) -> NDArray[np.int64]:
        """Return the (M, GRID_SIZE) surroundings."""
        return self._measured(np.zeros((0, GRID_SIZE), dtype=np.int64), GRID_SIZE)

    def _measured(self, weights: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        from imagegram.generators.spatial.grids import measure_grid

        part = self.part
        values = np.empty((len(self.grids) * part.num_steps, width), dtype=np.int64)
        if width:
            measure_grid(
                self.codes, self.grids, self.ranks, part.unit, part.places, weights, values
            )
        return values


def spread(num_documents: int, count: int) -> NDArray[np.int64]:
    """Return the numbers of about so many documents, spread evenly; of all, where they are fewer.

    >>> spread(10, 3).tolist(), spread(2, 5).tolist()
    ([0, 4, 9], [0, 1])
    """
    return np.unique(np.linspace(0, num_documents - 1, count).astype(np.int64))


def numbers_of(
    vectors_VD: NDArray[np.floating[Any]], counts_V: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return the (V, AXES) numbers of codes: their vectors along principal axes, rounded.

    Args:
        vectors_VD: codebook.
        counts_V: how often the training documents use each code.
    """
    vectors = np.asarray(vectors_VD, dtype=np.float64)
    shares = counts_V / max(int(counts_V.sum()), 1)
    vectors = vectors - shares @ vectors
    _, axes = np.linalg.eigh((vectors * shares[:, None]).T @ vectors)
    along = vectors @ axes[:, ::-1][:, :AXES]
    numbers = np.zeros((len(vectors), AXES), dtype=np.int64)
    scale = LARGEST / max(float(np.abs(along).max()), 1e-12)
    numbers[:, : along.shape[1]] = np.rint(along * scale)
    return numbers
