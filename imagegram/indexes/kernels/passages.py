"""Single searches, compiled: the place of one query in every shard, and ends of long matches.

Matches longer than the walk of ``matching.py`` compares form passages of starts whose matches end
at the same position. The end of each is found once, so that long copies take no quadratic time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.search import (
    Int,
    ShardViews,
    common_length,
    find,
    locate,
    pointer_at,
    prefix_bucket,
    sort_key,
)
from imagegram.indexes.kernels.suffixes import DEPTH, compare_texts
from imagegram.records import EOS_TOKEN_ID

_EOS = EOS_TOKEN_ID


@njit(cache=True, nogil=True)
def compare_query(
    views: ShardViews, s: Int, position: Int, query: Int, length: Int, known: Int
) -> tuple[Int, Int]:
    """Compare a query with a suffix of a shard; they share ``known`` tokens.

    Args:
        views: the shards.
        s: shard.
        position: position of the suffix in the stream.
        query: address of the query.
        length: number of tokens of the query.
        known: number of tokens known to be shared.

    Returns:
        Shared tokens, and 1 when the suffix sorts before the query, 0 when not or all are shared.
    """
    suffix, there = views.token_address[s] + np.uint64(2 * position), views.num_tokens[s] - position
    size = np.int64(length)  # phrases store theirs in 32 bits
    return compare_texts(query, size, suffix, there, known, size + 1)


@njit(cache=True, nogil=True)
def place_query(
    views: ShardViews,
    ids: NDArray[np.uint16],
    start: Int,
    end: Int,
    query: Int,
    bounds: NDArray[np.int64],
) -> Int:
    """Find the place of ``ids[start:end]`` in every shard, and its longest prefix in any shard.

    One binary search per shard, which skips the tokens that both bounds share. The searches of all
    shards advance together, so that their memory accesses overlap.

    Args:
        views: the shards.
        ids: tokens.
        start: first token of the query.
        end: its end.
        query: its address.
        bounds: (5, S), written: the last rank before the query; the first rank not before it; the
            number of tokens that each of these shares with the query (for a rank outside the
            bucket, the number that the bucket shares); and scratch.

    Returns:
        Number of tokens of the longest prefix.
    """
    low, high, position = bounds[0], bounds[1], bounds[4]
    below, above = bounds[2], bounds[3]
    longest, todo = np.int64(0), 0
    for s in range(low.size):
        lo, hi, depth = prefix_bucket(views, s, ids, start, end)
        if lo == hi:
            key = sort_key(np.int64(ids[start]))
            depth = np.int64(views.firsts[s, key] < views.firsts[s, key + 1])
        low[s], high[s], below[s], above[s] = lo - 1, hi, depth, depth
        longest = max(longest, depth)
        todo += lo < hi
    while todo:
        # First ask for the memory of one step in every shard, then take these steps.
        for s in range(low.size):
            if low[s] + 1 < high[s]:
                position[s] = pointer_at(views, s, (low[s] + high[s]) >> 1)
                shared = min(below[s], above[s])
                prefetch(views.token_address[s] + np.uint64(2 * (position[s] + shared)))
        todo = 0
        for s in range(low.size):
            if low[s] + 1 < high[s]:
                middle, shared = (low[s] + high[s]) >> 1, min(below[s], above[s])
                agree, less = compare_query(views, s, position[s], query, end - start, shared)
                if less:
                    low[s], below[s] = middle, agree
                else:
                    high[s], above[s] = middle, agree
                longest = max(longest, agree)
                todo += low[s] + 1 < high[s]
    return longest


@njit(cache=True, nogil=True)
def extend_rows(views: ShardViews, rows: NDArray[np.uint16], lengths: NDArray[np.int32]) -> None:
    """Complete the matches that :func:`match_groups` cut to DEPTH.

    The end of the longest match never moves back from one start to the next. So all starts of a
    passage have the same end; the first start of the next passage is found by bisection.

    Args:
        views: the shards.
        rows: (B, T) tokens.
        lengths: (B, T) matches cut to DEPTH; completed in place.
    """
    num_tokens = rows.shape[1]
    bounds = np.empty((5, views.num_tokens.size), dtype=np.int64)
    for b in range(rows.shape[0]):
        ids, start = rows[b], np.int64(0)
        text = np.uint64(ids.ctypes.data)
        while start < num_tokens:
            if lengths[b, start] < DEPTH:
                start += 1
                continue
            query = text + np.uint64(2 * start)
            end = start + place_query(views, ids, start, num_tokens, query, bounds)
            # All starts up to end - DEPTH match at least DEPTH tokens. Find the first of them whose
            # match passes end: high. The last one is tried first, because mostly none passes.
            low, high = start, max(end - DEPTH, start) + 1
            middle = high - 1
            while end < num_tokens and low < middle:
                query = text + np.uint64(2 * middle)
                length = end + 1 - middle
                if place_query(views, ids, middle, end + 1, query, bounds) == length:
                    high = middle
                else:
                    low = middle
                middle = (low + high) >> 1
            if end == num_tokens:
                high = num_tokens
            for k in range(start, high):
                lengths[b, k] = end - k
            start = high


# ------------------------------------------------------------------------------- whole documents


@njit(cache=True, nogil=True)
def count_documents(views: ShardViews, rows: NDArray[np.uint16], counts: NDArray[np.int64]) -> None:
    """Count the documents that are identical to each row.

    Args:
        views: the shards.
        rows: (B, T) tokens.
        counts: (B,) written.
    """
    num_tokens = rows.shape[1]
    query = np.empty(num_tokens + 2, dtype=np.uint16)
    query[0] = query[-1] = _EOS
    for b in range(rows.shape[0]):
        query[1:-1] = rows[b]
        counts[b] = 0
        if (rows[b] == _EOS).any():  # no document holds a separator
            continue
        for s in range(views.num_tokens.size):
            lo, hi = find(views, s, query, 0, num_tokens + 2)
            counts[b] += hi - lo
            # A last document without a separator behind it ends with the stream.
            last = views.num_tokens[s] - num_tokens - 1
            if last >= 0 and locate(views, s, last)[1] == -1 and views.num_documents[s]:
                shared = common_length(views, s, last, query, 0, num_tokens + 1)
                counts[b] += shared == num_tokens + 1
