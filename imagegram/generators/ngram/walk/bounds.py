"""Where the interval of a context begins and ends: at the nearest small ``lcp`` values.

A line of the cache holds 32 of them, and each is compared with the length of the context at once:
the answer is 32 bits. ``minima`` tells which lines are worth a look, in the same way.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.compiled import njit
from imagegram.generators.ngram.walk.order import Walk
from imagegram.indexes.kernels.memory import (
    LANES,
    leading_zeros,
    load_u16,
    prefetch,
    smaller_lanes,
    trailing_zeros,
)
from imagegram.indexes.kernels.search import Int
from imagegram.indexes.order import MINIMA_FANOUT

assert LANES == MINIMA_FANOUT
_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64((1 << MINIMA_FANOUT) - 1)
#: A rank is ``block << SHIFT | bit``, and so is the number of an entry of ``minima``.
SHIFT: Final = MINIMA_FANOUT.bit_length() - 1
BITS: Final = MINIMA_FANOUT - 1


@njit(cache=True, nogil=True, counts=False)
def _last_smaller(address: np.uint64, number: Int, depth: Int) -> np.uint64:
    """Compare the entries of a block that is not full."""
    bits = np.uint64(0)
    for k in range(number):
        if np.int64(load_u16(address + np.uint64(2 * k))) < depth:
            bits |= _ONE << np.uint64(k)
    return bits


@njit(inline="always", cache=True, counts=False)
def _smaller(address: np.uint64, size: Int, block: Int, depth: Int) -> np.uint64:
    """Return which entries of a block of 32 are below ``depth``, as bits; none behind the last."""
    first = block << SHIFT
    at = address + np.uint64(2 * first)
    if first + MINIMA_FANOUT <= size:
        return np.uint64(smaller_lanes(at, np.uint16(depth)))
    return _last_smaller(at, size - first, depth)


@njit(inline="always", cache=True, counts=False)
def splits_in(walk: Walk, block: Int, depth: Int) -> np.uint64:
    """Return which of 32 ranks share fewer than ``depth`` tokens with the rank before, as bits."""
    return _smaller(walk.lcp, walk.num_tokens, block, depth)


@njit(inline="always", cache=True, counts=False)
def _level(walk: Walk, level: Int) -> tuple[Int, Int]:
    """Return where a level of ``minima`` begins, and how many entries it has."""
    first, size = np.int64(0), (walk.num_tokens + BITS) >> SHIFT
    for _ in range(level):
        first, size = first + size, (size + BITS) >> SHIFT
    return first, size


@njit(inline="always", cache=True, counts=False)
def blocks_with_splits(walk: Walk, level: Int, block: Int, depth: Int) -> np.uint64:
    """Return which of 32 blocks of a level of ``minima`` hold such a rank, as bits."""
    first, size = _level(walk, level)
    return _smaller(walk.minima + np.uint64(2 * first), size, block, depth)


@njit(inline="always", cache=True, counts=False)
def from_bit(k: Int) -> np.uint64:
    """Return bits ``k`` and above, of 32."""
    return (_ALL << np.uint64(k)) & _ALL


@njit(inline="always", cache=True, counts=False)
def below_bit(k: Int) -> np.uint64:
    """Return bits below ``k``, at most 32."""
    return (_ONE << np.uint64(k)) - _ONE


@njit(inline="always", cache=True, counts=False)
def lowest(bits: np.uint64) -> Int:
    """Return the number of the lowest bit."""
    return np.int64(trailing_zeros(bits))


@njit(inline="always", cache=True, counts=False)
def highest(bits: np.uint64) -> Int:
    """Return the number of the highest bit."""
    return np.int64(63) - np.int64(leading_zeros(bits))


@njit(inline="always", cache=True, counts=False)
def prefetch_around(walk: Walk, rank: Int) -> None:
    """Load what tells the interval around a rank: its line of ``lcp`` and the nearer neighbour."""
    at = walk.lcp + np.uint64(2 * rank)
    prefetch(at)
    if rank & BITS < MINIMA_FANOUT // 2:
        prefetch(at - np.uint64(MINIMA_FANOUT * 2))
    else:
        prefetch(at + np.uint64(MINIMA_FANOUT * 2))


@njit(inline="always", cache=True, counts=False)
def interval_start(walk: Walk, rank: Int, depth: Int) -> Int:
    """Find the largest r <= rank with lcp[r] < depth: where the interval begins."""
    block, bit = rank >> SHIFT, rank & BITS
    bits = splits_in(walk, block, depth) & below_bit(bit + 1)
    if bits:
        return (block << SHIFT) + highest(bits)
    return _start_before(walk, block, depth)


@njit(cache=True, nogil=True, counts=False)
def _start_before(walk: Walk, block: Int, depth: Int) -> Int:
    """Find the largest rank before a block that shares fewer tokens: rank 0 shares none."""
    bits = splits_in(walk, block - 1, depth)
    if bits:
        return ((block - 1) << SHIFT) + highest(bits)
    level = np.int64(0)
    while not bits:  # no block of this level, before this one and beside it, holds one
        parent, bit = block >> SHIFT, block & BITS
        bits = blocks_with_splits(walk, level, parent, depth) & below_bit(bit)
        block, level = parent, level + 1
    while level > 0:
        block, level = (block << SHIFT) + highest(bits), level - 1
        if level > 0:
            bits = blocks_with_splits(walk, level - 1, block, depth)
    return (block << SHIFT) + highest(splits_in(walk, block, depth))


@njit(inline="always", cache=True, counts=False)
def interval_end(walk: Walk, rank: Int, depth: Int) -> Int:
    """Find the least r > rank with lcp[r] < depth, or the number of suffixes: its end."""
    block, bit = (rank + 1) >> SHIFT, (rank + 1) & BITS
    if rank + 1 < walk.num_tokens:
        bits = splits_in(walk, block, depth) & from_bit(bit)
        if bits:
            return (block << SHIFT) + lowest(bits)
    return _end_behind(walk, block, depth)


@njit(cache=True, nogil=True, counts=False)
def _end_behind(walk: Walk, block: Int, depth: Int) -> Int:
    """Find the least rank behind a block that shares fewer tokens, or the number of suffixes."""
    if (block + 1) << SHIFT >= walk.num_tokens:
        return walk.num_tokens
    bits = splits_in(walk, block + 1, depth)
    if bits:
        return ((block + 1) << SHIFT) + lowest(bits)
    level = np.int64(0)
    while not bits:
        parent, bit = block >> SHIFT, block & BITS
        bits = blocks_with_splits(walk, level, parent, depth) & (from_bit(bit) << _ONE)
        if not bits and _level(walk, level)[1] <= MINIMA_FANOUT:
            return walk.num_tokens  # no level above it
        block, level = parent, level + 1
    while level > 0:
        block, level = (block << SHIFT) + lowest(bits), level - 1
        if level > 0:
            bits = blocks_with_splits(walk, level - 1, block, depth)
    return (block << SHIFT) + lowest(splits_in(walk, block, depth))
