"""The native engine: one call writes one pass of one sample, without Python's lock.

Defined by ``reference.py``: tokens and trace are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.spatial.grids import fill_around, fill_grid
from imagegram.generators.spatial.index import LevelIndex, SpatialIndex
from imagegram.generators.spatial.kernels import Row, Scratch, Steps, take_step
from imagegram.generators.spatial.passes import is_grid, ranks_of
from imagegram.generators.spatial.places import GRID_SIZE, SIZE, WINDOW
from imagegram.generators.spatial.steps import (
    ANY,
    AROUND,
    NEIGHBOURS,
    Job,
    Knobs,
    decoded,
    knobs_of,
    nesting,
)
from imagegram.generators.spatial.surroundings import fill, measure
from imagegram.generators.spatial.tree import descend
from imagegram.records import Tokens, Trace

_NONE: Final = -1
_AROUND: Final = np.array(AROUND, dtype=np.int64)


@njit(cache=True, nogil=True)
def _continuations(
    sources: Any, row: Any, column: Any, coarse: Any, coarse_size: Any, columns: Any, found: Any
) -> None:
    """Write the occurrences that go on where those of three neighbours end, or -1.

    ``sources`` are the occurrences of this level's blocks, ``coarse`` those of the coarser one's,
    of which ``coarse_size`` has rows and columns of blocks a block of this level's side.
    """
    rows = sources.shape[0]
    per = rows * columns
    found[:] = _NONE
    if column > 0 and sources[row, column - 1] >= 0:
        source = sources[row, column - 1]
        if source % columns < columns - 1:
            found[0] = source + 1
    if row > 0 and sources[row - 1, column] >= 0:
        source = sources[row - 1, column]
        if source % per // columns < rows - 1:
            found[1] = source + columns
    if coarse.size and coarse_size > 0:
        of_rows, of_columns = coarse.shape
        source = coarse[row // coarse_size, column // coarse_size]
        if source >= 0:
            document, block = source // (of_rows * of_columns), source % (of_rows * of_columns)
            y = block // of_columns * coarse_size + row % coarse_size
            x = block % of_columns * coarse_size + column % coarse_size
            found[2] = document * per + y * columns + x


@njit(cache=True, nogil=True)
def write_level(
    index: LevelIndex,
    steps: Steps,
    knobs: Knobs,
    side: Any,
    coarser: Any,
    has_coarser: Any,
    coarse_sources: Any,
    nested: Any,
    level: Any,
    row: Row,
    sources: Any,
    scratch: Scratch,
) -> None:
    """Write, or trace, one level of one sample of a pyramid.

    Args:
        index: of the level.
        steps: of the level.
        knobs: of the level.
        side: of a block.
        coarser: (H', W', 3) uint8 picture, if there is one.
        has_coarser: whether there is.
        coarse_sources: (rows, columns) occurrences of its blocks, or empty.
        nested: blocks of this level a row of a coarser block; 0: they do not nest.
        level: (H, W, 3) tokens, a view of ``row``.
        row: tokens and trace of the sample, written.
        sources: (rows, columns) int64 occurrences of the blocks, written; -1: none.
        scratch: what clusters gave; updated.
    """
    columns = sources.shape[1]
    values, places = np.zeros(SIZE, np.int64), np.zeros(index.weights.shape[0], np.int64)
    path = np.zeros(index.places.size + 1, np.int64)
    found, around = np.zeros(NEIGHBOURS, np.int64), np.zeros(0, np.int64)
    for at in range(sources.size):
        i, j = at // columns, at % columns
        fill(coarser, level, side, i, j, has_coarser, values)
        measure(values, index.weights, places)
        descend(index.places, index.thresholds, places, path)
        if knobs.follow >= 0:
            _continuations(sources, i, j, coarse_sources, nested, columns, found)
        sources[i, j] = take_step(index, steps, knobs, at, path, around, found, row, scratch)


@njit(cache=True, nogil=True)
def _grid_continuations(
    origins: Any, row: Any, column: Any, unit: Any, step_at: Any, per: Any, found: Any
) -> None:
    """Write the occurrences that go on where those of the eight neighbours lie, or -1."""
    height, width = origins.shape
    for n in range(found.size):
        found[n] = _NONE
        dy, dx = _AROUND[n, 0] * unit, _AROUND[n, 1] * unit
        y, x = row + dy, column + dx
        if 0 <= y < height and 0 <= x < width and origins[y, x] >= 0:
            document, place = origins[y, x] // origins.size, origins[y, x] % origins.size
            y, x = place // width - dy, place % width - dx
            if 0 <= y < height and 0 <= x < width and step_at[y, x] >= 0:
                found[n] = document * per + step_at[y, x]


@njit(cache=True, nogil=True)
def write_pass(
    index: LevelIndex,
    steps: Steps,
    knobs: Knobs,
    step_at: Any,
    row: Row,
    origins: Any,
    scratch: Scratch,
) -> None:
    """Write, or trace, one pass of one sample of a grid.

    Args:
        index: of the pass.
        steps: of the pass.
        knobs: of the pass.
        step_at: (H, W) int64 number of the step at each place, or -1.
        row: tokens and trace of the sample, written.
        origins: (H, W) int64 document x H W + place that each place was taken from; written.
        scratch: what clusters gave; updated.
    """
    height, width = origins.shape
    grid, per = row.tokens.reshape(height, width), steps.positions.shape[0]
    values, places = np.zeros(GRID_SIZE, np.int64), np.zeros(index.weights.shape[0], np.int64)
    path = np.zeros(index.places.size + 1, np.int64)
    found, around = np.zeros(_AROUND.shape[0], np.int64), np.zeros(len(WINDOW), np.int64)
    none = steps.apart.shape[0] - 1
    for at in range(per):
        y, x = steps.positions[at, 0] // width, steps.positions[at, 0] % width
        fill_grid(steps.codes, grid, steps.ranks, steps.unit, y, x, values)
        measure(values, index.weights, places)
        descend(index.places, index.thresholds, places, path)
        if knobs.follow >= 0:
            _grid_continuations(origins, y, x, steps.unit, step_at, per, found)
        if knobs.nearest != ANY:
            fill_around(grid, steps.ranks, steps.unit, y, x, none, around)
        source = take_step(index, steps, knobs, at, path, around, found, row, scratch)
        if source >= 0:
            origins[y, x] = source // per * origins.size + steps.positions[source % per, 0]


def write_rows(
    index: SpatialIndex, tokenizer: Any, job: Job, advance: Callable[[int], None]
) -> tuple[Tokens, Trace]:
    """Write (B, T) tokens and their trace, on up to ``job.workers`` threads."""
    knobs = knobs_of(job.sampler, index.passes, index.num_clusters)
    tokens_BT, trace = job.start()
    ranks = ranks_of(index.passes) if is_grid(index.layout) else np.zeros((0, 0), np.int64)
    arrays = [tokens_BT, *(trace[name] for name in Row._fields[1:])]

    def write(b: int) -> None:
        count = index.num_documents
        scratch = Scratch(*(np.zeros(size, np.int64) for size in (count, count, count, 1)))
        random = np.array([job.seed, job.samples[b]], dtype=np.uint64)
        row = Row(*(array[b] for array in arrays))
        steps = [
            Steps(
                part.positions,
                index.codes,
                index.apart,
                index.grids,
                ranks,
                part.unit,
                random,
                job.forced is not None,
            )
            for part in index.passes
        ]
        if is_grid(index.layout):
            _write_grid(index, knobs, steps, row, scratch)
        else:
            _write_pyramid(index, tokenizer, knobs, steps, row, scratch)
        advance(index.layout.num_tokens)

    with ThreadPoolExecutor(max(1, min(job.workers, len(job.samples)))) as pool:
        list(pool.map(write, range(len(job.samples))))
    return tokens_BT, trace


def _write_grid(
    index: SpatialIndex, knobs: Sequence[Knobs], steps: Sequence[Steps], row: Row, scratch: Scratch
) -> None:
    origins = np.full(steps[0].ranks.shape, _NONE, dtype=np.int64)
    for n, part in enumerate(index.passes):
        scratch.steps[:] = 0
        write_pass(index.levels[n], steps[n], knobs[n], part.step_at, row, origins, scratch)


def _write_pyramid(
    index: SpatialIndex,
    tokenizer: Any,
    knobs: Sequence[Knobs],
    steps: Sequence[Steps],
    row: Row,
    scratch: Scratch,
) -> None:
    layout = index.layout
    coarser, coarse = np.zeros((1, 1, 3), np.uint8), np.zeros((0, 0), np.int64)
    base: NDArray[np.uint8] | None = None
    for n, part in enumerate(index.passes):
        level = row.tokens[layout.level_slices[n]].reshape(part.height, part.width, -1)
        sources = np.full((part.height // part.side, part.width // part.side), _NONE, np.int64)
        nested = nesting(coarse.shape, sources.shape)
        scratch.steps[:] = 0
        write_level(
            index.levels[n],
            steps[n],
            knobs[n],
            part.side,
            coarser,
            n > 0,
            coarse,
            nested,
            level,
            row,
            sources,
            scratch,
        )
        coarse = sources
        if n + 1 < layout.num_levels:
            coarser = decoded(level, base)
            base = tokenizer.enlarged(coarser, n + 1)
