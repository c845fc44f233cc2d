"""The native engine: one call writes one level of one sample, without Python's lock.

Defined by ``reference.py``: tokens and trace are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import draw, entropy_bits, which
from imagegram.generators.ngram.philox import uniforms
from imagegram.generators.spatial import steps
from imagegram.generators.spatial.index import LevelIndex, SpatialIndex
from imagegram.generators.spatial.places import SIZE
from imagegram.generators.spatial.steps import (
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

for _part in (steps.distances_to_mean, steps.weigh, steps.num_distinct):
    register_jitable(nogil=True)(_part)
weigh = njit(cache=True, nogil=True)(steps.weigh)
num_distinct = njit(cache=True, nogil=True)(steps.num_distinct)
_NONE: Final = -1


class Row(NamedTuple):
    """Tokens and trace of one level of one sample, as pictures: (H, W, C) each."""

    tokens: NDArray[np.uint16]
    suffix_len: NDArray[np.uint16]
    num_contexts: NDArray[np.uint32]
    num_distinct: NDArray[np.uint16]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    source_document: NDArray[np.int32]
    source_position: NDArray[np.int32]


class Scratch(NamedTuple):
    """Memory of one thread.

    Attributes:
        steps, tokens: (N,) what each document gave to the level, and to the sample.
        stamps: (N,) when each was last counted.
        clock: (1,) the time.
    """

    steps: NDArray[np.int64]
    tokens: NDArray[np.int64]
    stamps: NDArray[np.int64]
    clock: NDArray[np.int64]


class Place(NamedTuple):
    """A level in a sample.

    Attributes:
        side: of a block.
        first: position of the level's first token.
        nested: blocks of this level a row of a coarser block; 0: they do not nest.
        has_coarser: whether there is a coarser level.
        forced: whether tokens are given.
    """

    side: int
    first: int
    nested: int
    has_coarser: bool
    forced: bool


@njit(inline="always")
def _is_allowed(scratch: Scratch, document: Any, knobs: Knobs, size: Any) -> Any:
    fits = scratch.tokens[document] + size <= knobs.most_tokens
    return fits and scratch.steps[document] < knobs.most_steps


@njit(cache=True, nogil=True)
def _is_supported(sources: Any, per: Any, scratch: Scratch, knobs: Knobs, size: Any) -> Any:
    """Return whether a run of occurrences may decide: enough of them, of enough documents."""
    scratch.clock[0] += 1
    count = documents = 0
    for source in sources:
        document = np.int64(source) // per
        if not _is_allowed(scratch, document, knobs, size):
            continue
        count += 1
        if scratch.stamps[document] != scratch.clock[0]:
            scratch.stamps[document] = scratch.clock[0]
            documents += 1
        if count >= knobs.min_count and documents >= knobs.min_documents:
            return True
    return False


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
def _continued(
    index: LevelIndex, per: Any, found: Any, path: Any, scratch: Scratch, knobs: Knobs, size: Any
) -> Any:
    """Return rank and shared decisions of the continuation that shares most; -1: none does."""
    depth = index.places.size
    best, shared = np.int64(_NONE), np.int64(_NONE)
    for source in found:
        if source < 0 or not _is_allowed(scratch, source // per, knobs, size):
            continue
        rank = np.int64(index.ranks[source])
        least: Any = max(knobs.follow, shared + 1)
        for d in range(depth, least - 1, -1):
            low = index.starts[path[d] << (depth - d)]
            if low <= rank < index.starts[(path[d] + 1) << (depth - d)]:
                best, shared = rank, np.int64(d)
                break
    return best, shared


@njit(cache=True, nogil=True)
def _supported(
    index: LevelIndex, per: Any, path: Any, scratch: Scratch, knobs: Knobs, size: Any
) -> Any:
    """Return first and end of the candidates, and the decisions that they share."""
    depth = index.places.size
    begin, end, shared = np.int64(0), np.int64(0), np.int64(0)
    for d in range(depth, -1, -1):
        begin = np.int64(index.starts[path[d] << (depth - d)])
        end = np.int64(index.starts[(path[d] + 1) << (depth - d)])
        shared = np.int64(d)
        if _is_supported(index.sources[begin:end], per, scratch, knobs, size):
            break
    return begin, end, shared


@njit(cache=True, nogil=True)
def _choose(blocks: Any, p: Any, one: Any, two: Any, forced: bool, given: Any) -> Any:
    """Write the block, or find the given one: its candidate or -1, and its probability."""
    chosen = np.int64(draw(p, one))
    if not forced:
        given[:] = blocks[chosen]
    probability, alike, is_drawn = 0.0, np.int64(0), False
    for m in range(p.size):
        if p[m] > 0.0 and (blocks[m] == given).all():
            probability += p[m]
            alike += 1
            is_drawn |= m == chosen
    if alike == 0:
        return np.int64(_NONE), probability
    if not is_drawn:
        number = which(alike, two)
        for m in range(p.size):
            if p[m] > 0.0 and (blocks[m] == given).all():
                if number == 0:
                    chosen = np.int64(m)
                    break
                number -= 1
    return chosen, probability


@njit(inline="always")
def _note(
    row: Row, y: Any, x: Any, c: Any, shared: Any, total: Any, distinct: Any, share: Any, bits: Any
) -> None:
    row.suffix_len[y, x, c] = shared
    row.num_contexts[y, x, c] = total
    row.num_distinct[y, x, c] = distinct
    row.probability[y, x, c] = share
    row.entropy[y, x, c] = bits


@njit(cache=True, nogil=True)
def write_level(
    index: LevelIndex,
    place: Place,
    knobs: Knobs,
    coarser: Any,
    coarse_sources: Any,
    random: Any,
    row: Row,
    sources: Any,
    scratch: Scratch,
) -> None:
    """Write, or trace, one level of one sample.

    Args:
        index: of the level.
        place: the level in a sample.
        knobs: of the level.
        coarser: (H', W', 3) uint8 picture, if there is one.
        coarse_sources: (rows, columns) occurrences of its blocks, or empty.
        random: (2,) uint64 seed and sample id.
        row: tokens and trace, written.
        sources: (rows, columns) int64 occurrences of the blocks, written; -1: none.
        scratch: what documents gave; updated.
    """
    rows, columns = sources.shape
    side, width, channels = place.side, row.tokens.shape[1], row.tokens.shape[2]
    per, size = rows * columns, side * side * channels
    values, places = np.zeros(SIZE, np.int64), np.zeros(index.weights.shape[0], np.int64)
    path = np.zeros(index.places.size + 1, np.int64)
    found, given = np.zeros(NEIGHBOURS, np.int64), np.zeros(size, np.uint16)
    for at in range(per):
        i, j = at // columns, at % columns
        fill(coarser, row.tokens, side, i, j, place.has_coarser, values)
        measure(values, index.weights, places)
        descend(index.places, index.thresholds, places, path)
        begin, end, shared = np.int64(0), np.int64(0), np.int64(_NONE)
        if knobs.follow >= 0:
            _continuations(sources, i, j, coarse_sources, place.nested, columns, found)
            begin, shared = _continued(index, per, found, path, scratch, knobs, size)
            end = begin + 1
        if shared < 0:
            begin, end, shared = _supported(index, per, path, scratch, knobs, size)
        blocks, run = index.blocks[begin:end], index.sources[begin:end]
        allowed = np.zeros(end - begin, np.bool_)
        for m in range(end - begin):
            allowed[m] = _is_allowed(scratch, np.int64(run[m]) // per, knobs, size)
        p = weigh(blocks, allowed, knobs.temperature)
        for k in range(size):
            y, x = i * side + k // channels // side, j * side + k // channels % side
            given[k] = row.tokens[y, x, k % channels]
        position = place.first + (i * side * width + j * side) * channels
        one, two = uniforms(random[0], random[1], position)
        chosen, probability = _choose(blocks, p, one, two, place.forced, given)
        distinct, bits = min(num_distinct(blocks), 65535), entropy_bits(p) / size
        share = probability ** (1.0 / size)
        if chosen >= 0:
            sources[i, j] = np.int64(run[chosen])
            scratch.steps[sources[i, j] // per] += 1
            scratch.tokens[sources[i, j] // per] += size
        block = sources[i, j] % per
        for k in range(size):
            dy, dx, c = k // channels // side, k // channels % side, k % channels
            y, x = i * side + dy, j * side + dx
            row.tokens[y, x, c] = given[k]
            _note(row, y, x, c, shared, end - begin, distinct, share, bits)
            if chosen >= 0:
                from_y, from_x = block // columns * side + dy, block % columns * side + dx
                row.source_document[y, x, c] = sources[i, j] // per
                row.source_position[y, x, c] = (
                    place.first + (from_y * width + from_x) * channels + c
                )


def write_rows(
    index: SpatialIndex, tokenizer: Any, job: Job, advance: Callable[[int], None]
) -> tuple[Tokens, Trace]:
    """Write (B, T) tokens and their trace, on up to ``job.workers`` threads."""
    layout, sides = index.layout, index.sides
    knobs = knobs_of(job.sampler, layout, sides, index.num_documents)
    tokens_BT, trace = job.start()
    arrays = [tokens_BT, *(trace[name] for name in Row._fields[1:])]

    def write(b: int) -> None:
        count = index.num_documents
        scratch = Scratch(*(np.zeros(size, np.int64) for size in (count, count, count, 1)))
        coarser, coarse = np.zeros((1, 1, 3), np.uint8), np.zeros((0, 0), np.int64)
        base: NDArray[np.uint8] | None = None
        for n, part in enumerate(layout.level_slices):
            height, width, side = layout.heights[n], layout.widths[n], sides[n]
            shape = (height, width, layout.num_channels)
            row = Row(*(array[b, part].reshape(shape) for array in arrays))
            sources = np.full((height // side, width // side), -1, np.int64)
            nested = nesting(coarse.shape, sources.shape)
            scratch.steps[:] = 0
            place = Place(side, part.start, nested, n > 0, job.forced is not None)
            random = np.array([job.seed, job.samples[b]], dtype=np.uint64)
            write_level(
                index.levels[n], place, knobs[n], coarser, coarse, random, row, sources, scratch
            )
            coarse = sources
            if n + 1 < layout.num_levels:
                coarser = decoded(row.tokens, base)
                base = tokenizer.enlarged(coarser, n + 1)
        advance(layout.num_tokens)

    with ThreadPoolExecutor(max(1, min(job.workers, len(job.samples)))) as pool:
        list(pool.map(write, range(len(job.samples))))
    return tokens_BT, trace
