"""One step of the native engine, compiled; ``rows.py`` goes through all of them.

Defined by ``reference.py``: tokens and trace are the same, bit for bit.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import draw, entropy_bits, which
from imagegram.generators.ngram.philox import uniforms
from imagegram.generators.spatial import steps
from imagegram.generators.spatial.grids import unlikeness
from imagegram.generators.spatial.index import LevelIndex
from imagegram.generators.spatial.steps import ANY, Knobs

for _part in (steps.distances_to_mean, steps.weigh, steps.num_distinct):
    register_jitable(nogil=True)(_part)
weigh = njit(cache=True, nogil=True)(steps.weigh)
num_distinct = njit(cache=True, nogil=True)(steps.num_distinct)
_NONE: Final = -1
_FAR: Final = 2**62


class Row(NamedTuple):
    """Tokens and trace of one sample, (T,) each."""

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
        steps, tokens: (N,) what each cluster gave to the level, and to the sample.
        stamps: (N,) when each was last counted.
        clock: (1,) the time.
    """

    steps: NDArray[np.int64]
    tokens: NDArray[np.int64]
    stamps: NDArray[np.int64]
    clock: NDArray[np.int64]


class Steps(NamedTuple):
    """The steps of a pass, and who draws.

    Attributes:
        positions: (S, K) int64 of their tokens.
        codes: (V, A) int64 numbers of the codes of a grid; (0, 0): blocks are compared as they are.
        apart: (V + 1, V + 1) int64 squared distances of these numbers, see ``distances_between``.
        grids: (N, H, W) uint16 training documents of a grid.
        ranks: (H, W) int64 order of its places.
        unit: how far apart neighbours lie.
        random: (2,) uint64 seed and sample id.
        forced: whether tokens are given.
    """

    positions: NDArray[np.int64]
    codes: NDArray[np.int64]
    apart: NDArray[np.int64]
    grids: NDArray[np.uint16]
    ranks: NDArray[np.int64]
    unit: int
    random: NDArray[np.uint64]
    forced: bool


@njit(inline="always")
def _is_allowed(scratch: Scratch, cluster: Any, knobs: Knobs, size: Any) -> Any:
    fits = scratch.tokens[cluster] + size <= knobs.most_tokens
    return fits and scratch.steps[cluster] < knobs.most_steps


@njit(cache=True, nogil=True)
def _is_supported(
    sources: Any, per: Any, clusters: Any, scratch: Scratch, knobs: Knobs, size: Any
) -> Any:
    """Return whether a run of occurrences may decide: enough of them, of enough documents."""
    scratch.clock[0] += 1
    count = documents = 0
    for source in sources:
        cluster = clusters[np.int64(source) // per]
        if not _is_allowed(scratch, cluster, knobs, size):
            continue
        count += 1
        if scratch.stamps[cluster] != scratch.clock[0]:
            scratch.stamps[cluster] = scratch.clock[0]
            documents += 1
        if count >= knobs.min_count and documents >= knobs.min_documents:
            return True
    return False


@njit(cache=True, nogil=True)
def _shared(index: LevelIndex, path: Any, rank: Any, least: Any) -> Any:
    """Return how many decisions an occurrence shares, at least ``least``; -1: fewer."""
    depth = index.places.size
    for d in range(depth, least - 1, -1):
        low = index.starts[path[d] << (depth - d)]
        if low <= rank < index.starts[(path[d] + 1) << (depth - d)]:
            return np.int64(d)
    return np.int64(_NONE)


@njit(cache=True, nogil=True)
def _continued(
    index: LevelIndex, per: Any, found: Any, path: Any, scratch: Scratch, knobs: Knobs, size: Any
) -> Any:
    """Return rank and shared decisions of the continuation that shares most; -1: none does."""
    best, shared = np.int64(_NONE), np.int64(_NONE)
    for source in found:
        if source < 0:
            continue
        if not _is_allowed(scratch, index.clusters[source // per], knobs, size):
            continue
        rank = np.int64(index.ranks[source])
        own = _shared(index, path, rank, max(knobs.follow, shared + 1))
        if own >= 0:
            best, shared = rank, own
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
        run = index.sources[begin:end]
        if _is_supported(run, per, index.clusters, scratch, knobs, size):
            break
    return begin, end, shared


@njit(cache=True, nogil=True)
def _ranks(index: LevelIndex, begin: Any, end: Any, path: Any, found: Any, knobs: Knobs) -> Any:
    """Return the ranks of the candidates: those supported, and what goes on beside neighbours.

    The latter only where the nearest of all are looked for, each once, if it shares enough.
    """
    ranks = np.empty(end - begin + found.size, np.int64)
    count = end - begin
    for m in range(count):
        ranks[m] = begin + m
    if knobs.follow >= 0 and knobs.nearest != ANY:
        for source in found:
            if source >= 0:
                rank = np.int64(index.ranks[source])
                known = begin <= rank < end or (ranks[end - begin : count] == rank).any()
                if not known and _shared(index, path, rank, knobs.follow) >= 0:
                    ranks[count] = rank
                    count += 1
    return ranks[:count]


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


@njit(cache=True, nogil=True)
def _numbers(codes: Any, blocks: Any) -> Any:
    """Return the (M, A) numbers of (M, 1) codes."""
    found = np.empty((blocks.shape[0], codes.shape[1]), dtype=np.int64)
    for m in range(blocks.shape[0]):
        found[m] = codes[blocks[m, 0]]
    return found


@njit(cache=True, nogil=True)
def _num_codes(vocab_size: Any, blocks: Any) -> Any:
    """Return the number of distinct (M, 1) codes."""
    met, found = np.zeros(vocab_size, np.bool_), np.int64(0)
    for m in range(blocks.shape[0]):
        found += not met[blocks[m, 0]]
        met[blocks[m, 0]] = True
    return found


@njit(cache=True, nogil=True)
def _keep_nearest(steps: Steps, run: Any, around: Any, most: Any, allowed: Any) -> None:
    """Allow only those ``most`` occurrences whose surroundings are most alike, the first first."""
    per, width = steps.positions.shape[0], steps.grids.shape[2]
    kept, distances = np.full(most, _NONE, np.int64), np.full(most, _FAR, np.int64)
    for m in range(run.size):
        if not allowed[m]:
            continue
        allowed[m] = False
        place = steps.positions[run[m] % per, 0]
        distance = unlikeness(
            steps.apart,
            steps.grids[run[m] // per],
            steps.ranks,
            steps.unit,
            place // width,
            place % width,
            around,
            distances[most - 1],
        )
        n = most - 1
        if distance < distances[n]:
            while n > 0 and distance < distances[n - 1]:
                kept[n], distances[n] = kept[n - 1], distances[n - 1]
                n -= 1
            kept[n], distances[n] = m, distance
    for m in kept:
        if m >= 0:
            allowed[m] = True


@njit(cache=True, nogil=True)
def take_step(
    index: LevelIndex,
    steps: Steps,
    knobs: Knobs,
    at: Any,
    path: Any,
    around: Any,
    found: Any,
    row: Row,
    scratch: Scratch,
) -> Any:
    """Write, or trace, one step; return the occurrence that it took, or -1.

    Args:
        index: of the pass.
        steps: of the pass.
        knobs: of the pass.
        at: number of the step.
        path: (D + 1,) int64 node of its context after each decision.
        around: (W,) int64 codes around its place, read where the nearest are looked for.
        found: (F,) int64 occurrences that go on where those of neighbours end, or -1.
        row: tokens and trace, written.
        scratch: what clusters gave; updated.
    """
    per, size = steps.positions.shape
    begin, end, shared = np.int64(0), np.int64(0), np.int64(_NONE)
    if knobs.follow >= 0 and knobs.nearest == ANY:
        begin, shared = _continued(index, per, found, path, scratch, knobs, size)
        end = begin + 1
    if shared < 0:
        begin, end, shared = _supported(index, per, path, scratch, knobs, size)
    ranks = _ranks(index, begin, end, path, found, knobs)
    blocks, run = np.empty((ranks.size, size), np.uint16), np.empty(ranks.size, np.int64)
    allowed = np.zeros(ranks.size, np.bool_)
    for m in range(ranks.size):
        blocks[m], run[m] = index.blocks[ranks[m]], index.sources[ranks[m]]
        allowed[m] = _is_allowed(scratch, index.clusters[run[m] // per], knobs, size)
    is_grid = steps.codes.size > 0
    if knobs.nearest < ranks.size:
        _keep_nearest(steps, run, around, knobs.nearest, allowed)
    if is_grid:
        p = weigh(_numbers(steps.codes, blocks), allowed, knobs.temperature)
    else:
        p = weigh(blocks, allowed, knobs.temperature)
    positions, given = steps.positions[at], np.zeros(size, np.uint16)
    for k in range(size):
        given[k] = row.tokens[positions[k]]
    one, two = uniforms(steps.random[0], steps.random[1], positions[0])
    chosen, probability = _choose(blocks, p, one, two, steps.forced, given)
    distinct = _num_codes(steps.codes.shape[0], blocks) if is_grid else num_distinct(blocks)
    distinct, bits = min(distinct, 65535), entropy_bits(p) / size
    source = np.int64(_NONE)
    if chosen >= 0:
        source = run[chosen]
        cluster = index.clusters[source // per]
        scratch.steps[cluster] += 1
        scratch.tokens[cluster] += size
    for k in range(size):
        position = positions[k]
        row.tokens[position] = given[k]
        row.suffix_len[position] = shared
        row.num_contexts[position] = ranks.size
        row.num_distinct[position] = distinct
        row.probability[position] = probability ** (1.0 / size)
        row.entropy[position] = bits
        if source >= 0:
            row.source_document[position] = source // per
            row.source_position[position] = steps.positions[source % per, k]
    return source
