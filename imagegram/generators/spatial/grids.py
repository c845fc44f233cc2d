"""Surroundings of a place of a grid of codes: the codes drawn before it, as whole numbers.

They are the codes of a square around the place, as far apart as the neighbours of its pass, as
numbers (``occurrences.numbers_of``), 0 where nothing is drawn yet; where it lies; how lively that
is.

>>> grid_surroundings_reference(
...     np.ones((1, AXES), np.int64), np.zeros((1, 2), int), np.array([[0, 1]]), 1, 0, 1
... )[GRID_ROW:].tolist()
[0, 128, 0]
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.spatial.places import (
    AXES,
    GRID_ACTIVITY,
    GRID_COLUMN,
    GRID_ROW,
    GRID_SIZE,
    WINDOW,
)

#: Rows and columns are parts of this.
WHOLE: Final = 256
_WINDOW: Final = np.array(WINDOW, dtype=np.int64)
_RINGS: Final = np.abs(_WINDOW).max(axis=1)
#: Neighbours that touch the place; weights of all where surroundings are compared.
_NEAR: Final = _RINGS == 1
_WEIGHTS: Final = (4 - _RINGS) ** 2
_NEAR_FIRST: Final = np.argsort(_RINGS, kind="stable")


def grid_surroundings_reference(
    codes_VA: NDArray[np.int64],
    grid: NDArray[Any],
    ranks: NDArray[np.int64],
    unit: int,
    row: int,
    column: int,
) -> NDArray[np.int64]:
    """Return the (GRID_SIZE,) surroundings of a place: the definition of :func:`fill_grid`.

    Args:
        codes_VA: numbers of the codes.
        grid: (H, W) codes; those that are drawn later are not read.
        ranks: (H, W) number of the step that draws each place.
        unit: how far apart neighbours lie.
        row: of the place.
        column: of the place.
    """
    height, width = grid.shape
    values = np.zeros(GRID_SIZE, dtype=np.int64)
    near = []
    for n, (dy, dx) in enumerate(WINDOW):
        y, x = row + dy * unit, column + dx * unit
        if 0 <= y < height and 0 <= x < width and ranks[y, x] < ranks[row, column]:
            values[n * AXES : (n + 1) * AXES] = codes_VA[grid[y, x]]
            if max(abs(dy), abs(dx)) == 1:
                near.append(codes_VA[grid[y, x]])
    values[GRID_ROW] = row * WHOLE // height
    values[GRID_COLUMN] = column * WHOLE // width
    if near:
        values[GRID_ACTIVITY] = (np.max(near, axis=0) - np.min(near, axis=0)).sum()
    return values


@njit(cache=True, nogil=True)
def fill_grid(
    codes: Any, grid: Any, ranks: Any, unit: Any, row: Any, column: Any, values: Any
) -> None:
    """Write the (GRID_SIZE,) int64 surroundings of a place into ``values``."""
    height, width = grid.shape
    low, high = np.zeros(AXES, np.int64), np.zeros(AXES, np.int64)
    found = False
    for n in range(_WINDOW.shape[0]):
        y, x = row + _WINDOW[n, 0] * unit, column + _WINDOW[n, 1] * unit
        if 0 <= y < height and 0 <= x < width and ranks[y, x] < ranks[row, column]:
            code = grid[y, x]
            for a in range(AXES):
                number = codes[code, a]
                values[n * AXES + a] = number
                if _NEAR[n]:
                    low[a] = min(low[a], number) if found else number
                    high[a] = max(high[a], number) if found else number
            found |= _NEAR[n]
        else:
            values[n * AXES : (n + 1) * AXES] = 0
    values[GRID_ROW] = row * WHOLE // height
    values[GRID_COLUMN] = column * WHOLE // width
    values[GRID_ACTIVITY] = (high - low).sum()


def unlikeness_reference(values: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """Return how unlike the surroundings of two places are: the definition of :func:`unlikeness`.

    It is the sum of squared differences of all numbers of the codes around them, where those that
    touch the place weigh 9, those one further away 4, and those at the rim 1.
    """
    off = (values - others)[:GRID_ROW].reshape(len(WINDOW), AXES)
    return int((_WEIGHTS * (off**2).sum(axis=1)).sum())


def distances_between(codes_VA: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (V + 1, V + 1) squared distances of the numbers of codes; the last one: no code.

    Args:
        codes_VA: numbers of the codes; those of no code are 0.
    """
    numbers = np.concatenate((codes_VA, np.zeros((1, codes_VA.shape[1]), dtype=np.int64)))
    apart = np.zeros((len(numbers), len(numbers)), dtype=np.int64)
    for column in numbers.T:
        apart += np.subtract.outer(column, column) ** 2
    return apart


@njit(cache=True, nogil=True)
def fill_around(
    grid: Any, ranks: Any, unit: Any, row: Any, column: Any, none: Any, around: Any
) -> None:
    """Write the (W,) codes around a place into ``around``; ``none`` where none is drawn yet."""
    height, width = grid.shape
    for n in range(_WINDOW.shape[0]):
        y, x = row + _WINDOW[n, 0] * unit, column + _WINDOW[n, 1] * unit
        around[n] = none
        if 0 <= y < height and 0 <= x < width and ranks[y, x] < ranks[row, column]:
            around[n] = grid[y, x]


@njit(cache=True, nogil=True)
def unlikeness(
    apart: Any, grid: Any, ranks: Any, unit: Any, row: Any, column: Any, around: Any, bound: Any
) -> Any:
    """Return how unlike surroundings and those of a place are, or any number from ``bound`` on.

    Args:
        apart: (V + 1, V + 1) int64, see :func:`distances_between`.
        grid: (H, W) codes of another picture.
        ranks: (H, W) int64 order of the places.
        unit: how far apart neighbours lie.
        row: of the place in the other picture.
        column: of the place.
        around: (W,) int64 codes around this place, see :func:`fill_around`.
        bound: where the sum may stop.
    """
    height, width = grid.shape
    none = apart.shape[0] - 1
    total = np.int64(0)
    for n in _NEAR_FIRST:
        y, x = row + _WINDOW[n, 0] * unit, column + _WINDOW[n, 1] * unit
        code = np.int64(none)
        if 0 <= y < height and 0 <= x < width and ranks[y, x] < ranks[row, column]:
            code = np.int64(grid[y, x])
        total += _WEIGHTS[n] * apart[around[n], code]
        if total >= bound:
            break
    return total


@njit(cache=True, nogil=True)
def measure_grid(
    codes: Any, grids: Any, ranks: Any, unit: Any, places: Any, weights: Any, out: Any
) -> None:
    """Measure the places of all steps of a pass.

    Args:
        codes: (V, AXES) int64 numbers of the codes.
        grids: (N, H, W) uint16 codes.
        ranks: (H, W) int64 order of the places.
        unit: how far apart neighbours lie.
        places: (S,) int64 places of the steps.
        weights: (P, GRID_SIZE) int64; with no rows, the surroundings themselves are written.
        out: (N * S, P) or (N * S, GRID_SIZE) int64, written, document by document.
    """
    values = np.zeros(GRID_SIZE, dtype=np.int64)
    width, steps = grids.shape[2], places.size
    for done in range(out.shape[0]):
        at = places[done % steps]
        fill_grid(codes, grids[done // steps], ranks, unit, at // width, at % width, values)
        if weights.shape[0] == 0:
            out[done] = values
        for p in range(weights.shape[0]):
            total = np.int64(0)
            for n in range(GRID_SIZE):
                total += weights[p, n] * values[n]
            out[done, p] = total
