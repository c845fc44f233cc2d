"""Compiled steps of an order: partition by position, inverse, shared lengths, repeats, minima.

Each takes a range of ranks or of the stream, so that threads share the work. Packed integers are
given by address and width (``kernels/memory.py``). ``n`` is the number of tokens of the stream.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import (
    load_packed,
    load_u16,
    prefetch,
    store_packed,
    store_u16,
)
from imagegram.indexes.order import MINIMA_FANOUT

#: Largest shared length that is stored; longer ones read as this.
LONGEST: Final = 65535
#: Suffixes whose neighbours are fetched together, so that the memory accesses overlap.
_BATCH: Final = 256

#: Integers inside kernels: compiled as int64, int or np.int64 to a type checker.
Int: TypeAlias = Any


@njit(inline="always", cache=True)
def _bucket(i: Int, documents: Int, stride: Int) -> Int:
    """Return a suffix's position in its document + 1: 0 for its separator, stride for the last."""
    return i % stride if i < documents * stride else stride


@njit(cache=True, nogil=True)
def count_buckets(
    table: Int, width: Int, n: Int, first: Int, last: Int, documents: Int, stride: Int
) -> NDArray[np.int64]:
    """Count suffixes of ranks ``first ... last - 1`` by position in the document, (stride + 1,)."""
    counts = np.zeros(stride + 1, np.int64)
    for rank in range(first, last):
        counts[_bucket(load_packed(table, width, n, rank) >> 1, documents, stride)] += 1
    return counts


@njit(cache=True, nogil=True)
def partition(
    table: Int,
    width: Int,
    n: Int,
    first: Int,
    last: Int,
    documents: Int,
    free: NDArray[np.int64],
    aligned: Int,
) -> None:
    """Copy the pointers of ranks ``first ... last - 1`` to the aligned table, in their order.

    Args:
        table: address of the suffix order's packed pointers.
        width: bytes of a pointer, in both tables.
        n: tokens of the stream.
        first: first rank.
        last: end of the ranks.
        documents: number of them, all equally long.
        free: (stride + 1,) next free aligned rank of every position; moved on.
        aligned: address of the aligned order's packed pointers, written.
    """
    stride = free.size - 1
    for rank in range(first, last):
        byte = load_packed(table, width, n, rank)
        bucket = _bucket(byte >> 1, documents, stride)
        store_packed(aligned, width, free[bucket], byte)
        free[bucket] += 1


@njit(cache=True, nogil=True)
def invert(
    table: Int, width: Int, n: Int, first: Int, last: Int, inverse: Int, inverse_width: Int
) -> None:
    """Write the ranks ``first ... last - 1`` to the stream positions of their suffixes."""
    for rank in range(first, last):
        position = load_packed(table, width, n, rank) >> 1
        store_packed(inverse, inverse_width, position, rank)


@njit(cache=True, nogil=True)
def share(
    tokens: Int,
    table: Int,
    width: Int,
    n: Int,
    inverse: Int,
    inverse_width: Int,
    first: Int,
    last: Int,
    documents: Int,
    stride: Int,
    lcp: Int,
) -> None:
    """Write ``lcp`` of the ranks of the suffixes that begin at ``first ... last - 1``.

    In the order of the stream each shares at least one token less than the one before it did (Kasai
    et al. 2001; the predecessor by rank is Karkkainen, Manzini and Puglisi's phi, 2009), so all
    comparisons together are at most two a token. With ``stride`` > 0 suffixes end with their
    document, which keeps that property: inside a document both orders move on together.

    Args:
        tokens: address of the uint16 stream.
        table: address of the packed pointers of this order.
        width: bytes of a pointer.
        n: tokens of the stream.
        inverse: address of the packed ranks.
        inverse_width: bytes of a rank.
        first: stream position.
        last: end of the positions.
        documents: number of them; read with ``stride`` > 0.
        stride: tokens of a document and its separator for the aligned order; 0: suffix order.
        lcp: address of the (n,) uint16 result, by rank.
    """
    ranks = np.empty(_BATCH, np.int64)
    before = np.empty(_BATCH, np.int64)
    shared = 0
    for start in range(first, last, _BATCH):
        size = min(_BATCH, last - start)
        for k in range(size):
            ranks[k] = load_packed(inverse, inverse_width, n, start + k)
            prefetch(table + np.uint64(max(ranks[k] - 1, 0) * width))
        for k in range(size):
            before[k] = load_packed(table, width, n, ranks[k] - 1) >> 1 if ranks[k] else -1
            prefetch(tokens + np.uint64(2 * max(before[k], 0)))
            prefetch(lcp + np.uint64(2 * ranks[k]))
        for k in range(size):
            i, j = start + k, before[k]
            room = n - max(i, j)
            if stride > 0:
                bucket = _bucket(i, documents, stride)
                room = stride - bucket
                if ranks[k] == bucket * documents:  # the one before has another position
                    j = -1
            if j < 0:
                shared = room = 0
            mine, theirs = tokens + np.uint64(2 * i), tokens + np.uint64(2 * max(j, 0))
            while shared < room and load_u16(mine + np.uint64(2 * shared)) == load_u16(
                theirs + np.uint64(2 * shared)
            ):
                shared += 1
            store_u16(lcp + np.uint64(2 * ranks[k]), np.uint16(min(shared, LONGEST)))
            shared = max(shared - 1, 0)


@njit(cache=True, nogil=True)
def repeats(
    inverse: Int,
    inverse_width: Int,
    n: Int,
    lcp: NDArray[np.uint16],
    first: Int,
    last: Int,
) -> NDArray[np.uint16]:
    """Return (last - first,) longest prefixes of suffixes that occur at another place as well."""
    longest = np.empty(last - first, np.uint16)
    address = np.uint64(lcp.ctypes.data)
    for start in range(first, last, _BATCH):
        end = min(start + _BATCH, last)
        for i in range(start, end):
            prefetch(address + np.uint64(2 * load_packed(inverse, inverse_width, n, i)))
        for i in range(start, end):
            rank = load_packed(inverse, inverse_width, n, i)
            longest[i - first] = lcp[rank]
            if rank + 1 < n:
                longest[i - first] = max(lcp[rank], lcp[rank + 1])
    return longest


@njit(cache=True, nogil=True)
def minima_of(level: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the next level: the minimum of every 32 entries; the last block may be short."""
    above = np.empty((level.size + MINIMA_FANOUT - 1) // MINIMA_FANOUT, np.uint16)
    for block in range(above.size):
        above[block] = level[block * MINIMA_FANOUT : (block + 1) * MINIMA_FANOUT].min()
    return above
