"""Passes: which tokens a step draws together, and in what order the steps follow each other.

A pyramid has a pass a level: blocks of pixels in raster order. A grid of codes has one pass in
raster order, or several, ``halving``: first places that lie far apart, then those halfway between
them, so that later steps have neighbours on all sides.

>>> [len(part.places) for part in grid_passes(TokenLayout((4,), (4,), 1), "halving")]
[4, 4, 8]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenLayout

#: Orders in which the places of a grid are drawn.
ORDERS: Final = ("halving", "raster")
#: Places of the first pass of ``halving`` along the longer side, about.
_FIRST: Final = 2


@dataclass(frozen=True, eq=False)
class Pass:
    """Steps of one kind.

    Attributes:
        level: of the layout.
        height, width: of the level.
        side: of the block that a step draws.
        unit: how far apart the neighbours of a step lie.
        places: (S,) int64 places (row x width + column) of the first tokens of the steps, in the
            order in which they are drawn.
        positions: (S, K) int64 positions of the tokens of the steps in a document.
    """

    level: int
    height: int
    width: int
    side: int
    unit: int
    places: NDArray[np.int64]
    positions: NDArray[np.int64]

    @property
    def num_steps(self) -> int:
        """Steps of a sample, S."""
        return len(self.places)

    @property
    def size(self) -> int:
        """Tokens of a step, K."""
        return int(self.positions.shape[1])

    @property
    def lattice(self) -> int:
        """Side of the coarsest grid that holds these places; templates go by it."""
        return -(-max(self.height, self.width) // self.unit)

    @cached_property
    def step_at(self) -> NDArray[np.int64]:
        """(H, W) number of the step that begins at each place; -1: none does."""
        found = np.full(self.height * self.width, -1, dtype=np.int64)
        found[self.places] = np.arange(self.num_steps)
        return found.reshape(self.height, self.width)


def is_grid(layout: TokenLayout) -> bool:
    """Return whether a token is a place of one grid, not a colour of a pyramid's pixel."""
    return layout.is_picture and layout.num_levels == 1 and layout.num_channels == 1


def pyramid_passes(layout: TokenLayout, sides: tuple[int, ...]) -> tuple[Pass, ...]:
    """Return a pass a level, of blocks of the given sides in raster order."""
    found = []
    for level, (part, side) in enumerate(zip(layout.level_slices, sides, strict=True)):
        height, width = layout.heights[level], layout.widths[level]
        positions = np.arange(part.start, part.stop, dtype=np.int64)
        blocks = blocks_of(positions.reshape(1, height, width, -1), side)
        places = (blocks[:, 0] - part.start) // layout.num_channels
        found.append(Pass(level, height, width, side, 1, places, blocks))
    return tuple(found)


def grid_passes(layout: TokenLayout, order: str) -> tuple[Pass, ...]:
    """Return the passes of a grid: one of :data:`ORDERS`."""
    height, width = layout.heights[0], layout.widths[0]
    if order == "raster":
        return (_grid_pass(height, width, 1, np.arange(height * width, dtype=np.int64)),)
    row, column = np.indices((height, width), dtype=np.int64)
    unit = 1
    while 2 * _FIRST * unit <= max(height, width):
        unit *= 2
    # Where the first places do not fit evenly, they keep away from the edges.
    row, column = row - (height - 1) % unit // 2, column - (width - 1) % unit // 2
    drawn = (row % unit == 0) & (column % unit == 0)
    found = [_grid_pass(height, width, unit, np.flatnonzero(drawn))]
    while unit > 1:
        unit //= 2
        between = (row % (2 * unit) == unit) & (column % (2 * unit) == unit)
        beside = (row % unit == 0) & (column % unit == 0) & ~between & ~drawn
        drawn |= between | beside
        parts = (np.flatnonzero(part) for part in (between, beside))
        found += [_grid_pass(height, width, unit, part) for part in parts if part.size]
    return tuple(found)


def _grid_pass(height: int, width: int, unit: int, places: NDArray[np.int64]) -> Pass:
    return Pass(0, height, width, 1, unit, places, places[:, None])


def ranks_of(passes: tuple[Pass, ...]) -> NDArray[np.int64]:
    """Return the (H, W) number of the step that draws each place of a grid.

    >>> ranks_of(grid_passes(TokenLayout((1,), (4,), 1), "halving")).tolist()
    [[0, 2, 1, 3]]
    """
    order = np.concatenate([part.places for part in passes])
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks.reshape(passes[0].height, passes[0].width)


def blocks_of(level: NDArray[Any], side: int) -> NDArray[Any]:
    """Return the (N * blocks, side * side * C) tokens of all blocks, in raster order.

    >>> blocks_of(np.arange(8, dtype=np.uint16).reshape(1, 2, 4, 1), 2).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    count, height, width, channels = level.shape
    parts = level.reshape(count, height // side, side, width // side, side, channels)
    return np.ascontiguousarray(parts.swapaxes(2, 3)).reshape(-1, side * side * channels)
