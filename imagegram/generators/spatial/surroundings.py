"""Surroundings of a block: what lies around the place that a step draws, as whole numbers.

A step draws a block of ``side x side`` places of a level, all channels together. Its surroundings
are 5 x 5 places of the coarser picture, 8 places of the same level that were drawn before it, where
it lies, and how lively all that is. Colours are three numbers: r + 2g + b, r - g and b - g. All
numbers are whole, so that compiled and interpreted code agree bit for bit.

>>> len(surroundings_reference(None, np.zeros((2, 2, 3), np.int64), 1, 0, 1)) == SIZE
True
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.spatial.places import ACTIVITY, COARSE, COLUMN, ROW, SIZE

#: Token of the residual 0, and what is subtracted from a colour of the coarsest level.
ZERO: Final = 128
#: Rows and columns are parts of this.
WHOLE: Final = 256
_LIVELY: Final = 6
#: Places drawn before: (y, y by the block's last row, x, x by its last column).
_BEFORE: Final = np.array(
    [
        (0, 0, -1, 0),  # left of the first and of the last row
        (0, 1, -1, 0),
        (-1, 0, 0, 0),  # above the first and the last column
        (-1, 0, 0, 1),
        (-1, 0, -1, 0),  # the corners above
        (-1, 0, 1, 1),
        (0, 0, -2, 0),  # two to the left, two above
        (-2, 0, 0, 0),
    ]
)


def surroundings_reference(
    coarser: NDArray[Any] | None, level: NDArray[Any], side: int, row: int, column: int
) -> NDArray[np.int64]:
    """Return the (SIZE,) surroundings of a block: the definition of :func:`fill`.

    Args:
        coarser: (H', W', 3) picture of the coarser level; None: there is none, and it reads 0.
        level: (H, W, 3) tokens of the level.
        side: side of the block.
        row: of the block, in blocks.
        column: of the block, in blocks.
    """
    height, width, _ = level.shape
    y, x = row * side, column * side
    values = np.zeros(SIZE, dtype=np.int64)
    if coarser is not None:
        rows, columns = coarser.shape[:2]
        at_y, at_x = y * rows // height, x * columns // width
        for n in range(25):
            near = min(max(at_y + n // 5 - 2, 0), rows - 1)
            beside = min(max(at_x + n % 5 - 2, 0), columns - 1)
            values[3 * n : 3 * n + 3] = _colour(coarser[near, beside])
    last = side - 1
    for n, (dy, dy_last, dx, dx_last) in enumerate(_BEFORE):
        near, beside = y + dy + dy_last * last, x + dx + dx_last * last
        if near >= 0 and 0 <= beside < width:
            colour = level[near, beside].astype(np.int64) - ZERO
            values[COARSE + 3 * n : COARSE + 3 * n + 3] = _colour(colour)
    values[ROW] = row * WHOLE // (height // side)
    values[COLUMN] = column * WHOLE // (width // side)
    luma = values[:COARSE:3].reshape(5, 5)
    lively = np.abs(luma[1:4, 1:4] - luma[2, 2]).sum()
    values[ACTIVITY] = lively + np.abs(values[COARSE : ROW - 3 * (8 - _LIVELY) : 3]).sum()
    return values


def _colour(pixel: NDArray[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in pixel)
    return red + 2 * green + blue, red - green, blue - green


@njit(inline="always")
def _fill_colour(values: Any, at: Any, red: Any, green: Any, blue: Any) -> None:
    values[at] = red + 2 * green + blue
    values[at + 1] = red - green
    values[at + 2] = blue - green


@njit(cache=True, nogil=True)
def fill(
    coarser: Any, level: Any, side: Any, row: Any, column: Any, has_coarser: Any, values: Any
) -> None:
    """Write the (SIZE,) int64 surroundings of a block into ``values``."""
    height, width = level.shape[0], level.shape[1]
    y, x = row * side, column * side
    if has_coarser:
        rows, columns = coarser.shape[0], coarser.shape[1]
        at_y, at_x = y * rows // height, x * columns // width
        for n in range(25):
            near = min(max(at_y + n // 5 - 2, 0), rows - 1)
            beside = min(max(at_x + n % 5 - 2, 0), columns - 1)
            red = np.int64(coarser[near, beside, 0])
            green = np.int64(coarser[near, beside, 1])
            blue = np.int64(coarser[near, beside, 2])
            _fill_colour(values, 3 * n, red, green, blue)
    else:
        values[:COARSE] = 0
    for n in range(8):
        near = y + _BEFORE[n, 0] + _BEFORE[n, 1] * (side - 1)
        beside = x + _BEFORE[n, 2] + _BEFORE[n, 3] * (side - 1)
        at = COARSE + 3 * n
        if near >= 0 and 0 <= beside < width:
            red = np.int64(level[near, beside, 0]) - ZERO
            green = np.int64(level[near, beside, 1]) - ZERO
            blue = np.int64(level[near, beside, 2]) - ZERO
            _fill_colour(values, at, red, green, blue)
        else:
            values[at : at + 3] = 0
    values[ROW] = row * WHOLE // (height // side)
    values[COLUMN] = column * WHOLE // (width // side)
    lively = np.int64(0)
    for n in range(25):
        if 1 <= n // 5 <= 3 and 1 <= n % 5 <= 3:
            lively += abs(values[3 * n] - values[36])
    for n in range(_LIVELY):
        lively += abs(values[COARSE + 3 * n])
    values[ACTIVITY] = lively


@njit(cache=True, nogil=True)
def measure(values: Any, weights: Any, places: Any) -> None:
    """Write the (P,) int64 values of places: whole-numbered sums of the surroundings."""
    for p in range(weights.shape[0]):
        total = np.int64(0)
        for n in range(weights.shape[1]):
            total += np.int64(weights[p, n]) * values[n]
        places[p] = total


@njit(cache=True, nogil=True)
def measure_level(
    coarser: Any, levels: Any, side: Any, has_coarser: Any, weights: Any, out: Any
) -> None:
    """Measure the places of all blocks of a level.

    Args:
        coarser: (N, H', W', 3) uint8.
        levels: (N, H, W, 3) uint16 tokens.
        side: side of a block.
        has_coarser: whether there is a coarser level.
        weights: (P, SIZE) int64.
        out: (N * blocks, P) int64, written, document by document in raster order.
    """
    values = np.zeros(SIZE, dtype=np.int64)
    done = 0
    for document in range(levels.shape[0]):
        level = levels[document]
        for row in range(level.shape[0] // side):
            for column in range(level.shape[1] // side):
                fill(coarser[document], level, side, row, column, has_coarser, values)
                measure(values, weights, out[done])
                done += 1
