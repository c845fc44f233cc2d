"""Contexts as a tree of decisions, and all occurrences of blocks sorted by them.

Decision d of a context asks one place, the same for all, whether its value is above a threshold
that belongs to the decisions before it: the median of the occurrences that share these. So the
bits of a place are fine where occurrences are many. Occurrences are sorted by their decisions;
those that share the first d of them are a run of the list, of which two look-ups tell both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit

#: Threshold of a node without occurrences to halve: nothing is above it.
NEVER: Final = 2**62
#: Occurrences a leaf, about, at which a context is long enough.
_LEAF: Final = 4
#: Prior weight of the parent's mean and variance in those of a cell, in occurrences.
_PRIOR: Final = 6.0


class Tree(NamedTuple):
    """The decisions of one level.

    Attributes:
        places: (D,) int64 number of the place that each decision asks.
        thresholds: (2^D - 1,) int64 of the nodes, decision by decision.
        starts: (2^D + 1,) int64 first occurrence of each leaf.
        order: (M,) int64 numbers of the occurrences, sorted by leaf, then by number.
    """

    places: NDArray[np.int64]
    thresholds: NDArray[np.int64]
    starts: NDArray[np.int64]
    order: NDArray[np.int64]


def grow(values_MP: NDArray[np.int64], places: Sequence[int]) -> Tree:
    """Sort occurrences by decisions at medians.

    Args:
        values_MP: (M, P) values of the places.
        places: the place of every decision.

    >>> tree = grow(np.array([[5], [1], [9], [7]]), [0, 0])
    >>> tree.order.tolist(), tree.starts.tolist(), tree.thresholds.tolist()
    ([1, 0, 3, 2], [0, 1, 2, 3, 4], [5, 1, 7])
    """
    order = np.arange(len(values_MP), dtype=np.int64)
    starts = np.array([0, len(order)], dtype=np.int64)
    thresholds = []
    for place in places:
        column = np.ascontiguousarray(values_MP[:, place])
        own = np.empty(len(starts) - 1, dtype=np.int64)
        after, bounds = np.empty_like(order), np.empty(2 * len(own) + 1, dtype=np.int64)
        _halve(column, order, starts, own, after, bounds)
        order, starts = after, bounds
        thresholds.append(own)
    none = np.empty(0, dtype=np.int64)
    return Tree(
        places=np.array(places, dtype=np.int64),
        thresholds=np.concatenate([none, *thresholds]),
        starts=starts,
        order=order,
    )


@njit(cache=True, nogil=True)
def _halve(column: Any, order: Any, starts: Any, thresholds: Any, after: Any, bounds: Any) -> None:
    """Halve every run at the median of a place; numbers stay in order on both sides."""
    done = 0
    for cell in range(starts.size - 1):
        first, end = starts[cell], starts[cell + 1]
        thresholds[cell] = NEVER
        if end - first > 1:
            run = np.empty(end - first, dtype=np.int64)
            for i in range(end - first):
                run[i] = column[order[first + i]]
            middle = (end - first - 1) // 2
            thresholds[cell] = np.partition(run, middle)[middle]
        for above in range(2):
            bounds[2 * cell + above] = done
            for i in range(first, end):
                if (column[order[i]] > thresholds[cell]) == (above == 1):
                    after[done] = order[i]
                    done += 1
    bounds[bounds.size - 1] = done


@njit(cache=True, nogil=True)
def descend(places: Any, thresholds: Any, values: Any, path: Any) -> None:
    """Write the (D + 1,) node of a context after each number of decisions."""
    node = np.int64(0)
    path[0] = 0
    for d in range(places.size):
        above = values[places[d]] > thresholds[(1 << d) - 1 + node]
        node = 2 * node + np.int64(above)
        path[d + 1] = node


def depth_of(num_occurrences: int, max_bits: int) -> int:
    """Return the number of decisions: leaves keep about four occurrences."""
    return min(max_bits, max(0, (num_occurrences // _LEAF).bit_length() - 1))


def choose_places(
    values_SP: NDArray[np.int64],
    blocks_SK: NDArray[Any],
    is_held_back: NDArray[np.bool_],
    *,
    given: Sequence[int],
    choice: Sequence[int],
    depth: int,
    advance: Callable[[], None] = lambda: None,
) -> list[int]:
    """Choose the place of every decision, by the gain of information on held-back documents.

    A decision gains what it saves when the blocks of held-back occurrences are coded under a
    Gaussian a cell, with the mean and the variances of the other occurrences there, shrunk to
    those of the cell before. Where nothing gains - cells have become too small to tell - the
    order so far is gone through again.

    Args:
        values_SP: (S, P) values of the places of a sample of occurrences.
        blocks_SK: (S, K) their tokens.
        is_held_back: (S,) whether an occurrence only judges.
        given: places of the first decisions.
        choice: places to choose from.
        depth: number of decisions.
        advance: called after each.
    """
    blocks = np.ascontiguousarray(blocks_SK, dtype=np.float64)
    fitted = ~is_held_back
    cells = np.zeros(len(blocks), dtype=np.int64)
    means = blocks[fitted].mean(axis=0)[None]
    variances = blocks[fitted].var(axis=0)[None]
    best = _bits(cells, 1, fitted, blocks, means, variances)[0]
    chosen: list[int] = []
    repeated = 0
    while len(chosen) < depth:
        candidates = [given[len(chosen)]] if len(chosen) < len(given) else list(choice)
        trials = []
        for place in candidates if not repeated else []:
            halves = _halves(values_SP[:, place], cells, len(means), fitted)
            found = _bits(2 * cells + halves, 2 * len(means), fitted, blocks, means, variances)
            trials.append((found[0], place, halves, *found[1:]))
        trial = min(trials, key=lambda each: each[0], default=None)
        is_given = len(chosen) < len(given)
        if trial is None or (not is_given and trial[0] >= best):
            if not chosen:
                break
            repeated = repeated or len(chosen)
            chosen.append(chosen[len(chosen) - repeated])
        else:
            best, place, halves, means, variances = trial
            chosen.append(place)
            kept, cells = np.unique(2 * cells + halves, return_inverse=True)
            means, variances = means[kept], variances[kept]
        advance()
    return chosen


def _halves(
    column: NDArray[np.int64], cells: NDArray[np.int64], count: int, fitted: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return whether each value is above the median of the fitted ones of its cell."""
    values, of = column[fitted], cells[fitted]
    order = np.lexsort((values, of))
    starts = np.searchsorted(of[order], np.arange(count + 1))
    sizes = np.diff(starts)
    middles = np.minimum(starts[:-1] + np.maximum(sizes - 1, 0) // 2, len(order) - 1)
    thresholds = np.where(sizes > 1, values[order][middles], NEVER)
    return (column > thresholds[cells]).astype(np.int64)


@njit(cache=True, nogil=True)
def _bits(
    cells: Any, count: Any, fitted: Any, blocks: Any, parent_means: Any, parent_variances: Any
) -> Any:
    """Return bits a held-back block, and the (count, K) means and variances of the cells."""
    width = blocks.shape[1]
    numbers = np.zeros(count)
    means, variances = np.zeros((count, width)), np.zeros((count, width))
    for m in range(cells.size):
        if fitted[m]:
            numbers[cells[m]] += 1
            for k in range(width):
                means[cells[m], k] += blocks[m, k]
                variances[cells[m], k] += blocks[m, k] ** 2
    ratio = count // parent_means.shape[0]  # cells of a parent: 1 before the first decision, then 2
    for c in range(count):
        n = numbers[c]
        for k in range(width):
            parent, total = parent_means[c // ratio, k], means[c, k]
            mean = (total + _PRIOR * parent) / (n + _PRIOR)
            squares = variances[c, k] - 2 * mean * total + n * mean * mean
            prior = parent_variances[c // ratio, k] + (parent - mean) ** 2
            means[c, k] = mean
            variances[c, k] = max((squares + _PRIOR * prior) / (n + _PRIOR), 0.0) + 0.25
    bits, judged = 0.0, 0
    for m in range(cells.size):
        if not fitted[m]:
            judged += 1
            for k in range(width):
                variance = variances[cells[m], k]
                bits += (blocks[m, k] - means[cells[m], k]) ** 2 / variance + np.log(variance)
    return bits / (2 * np.log(2.0) * max(judged, 1)), means, variances
