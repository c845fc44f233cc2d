"""Compiled longest matches of whole token rows: novelty, copies and greedy parses.

A batch of rows is cut into chunks for a thread pool; every kernel releases the interpreter lock.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels import (
    Int,
    ShardViews,
    common_length,
    find,
    key_at,
    locate,
    pointer_at,
    prefix_bucket,
    sort_key,
)
from imagegram.records import EOS_TOKEN_ID

_EOS = EOS_TOKEN_ID


@njit(cache=True, nogil=True)
def longest_match(views: ShardViews, s: Int, ids: NDArray[np.uint16], start: Int, end: Int) -> Int:
    """Length of the longest prefix of ``ids[start:end]`` that occurs in shard ``s``.

    One binary search for the place of the query: its neighbours there share the most with it
    (Manber and Myers 1993); what both bounds share is not compared again.
    """
    lo, hi, depth = prefix_bucket(views, s, ids, start, end)
    if lo == hi:
        if depth < 2:
            return np.int64(0)
        key = sort_key(np.int64(ids[start]))
        return np.int64(views.firsts[s, key] < views.firsts[s, key + 1])
    below = above = best = np.int64(depth)
    while lo < hi:
        mid = (lo + hi) >> 1
        shared = min(below, above)
        position = pointer_at(views, s, mid) + shared
        shared += common_length(views, s, position, ids, start + shared, end)
        best = max(best, shared)
        if start + shared == end:
            return best
        position = pointer_at(views, s, mid) + shared
        if key_at(views, s, position) < sort_key(np.int64(ids[start + shared])):
            lo, below = mid + 1, shared
        else:
            hi, above = mid, shared
    return best


@njit(cache=True, nogil=True)
def match_rows(views: ShardViews, rows: NDArray[np.uint16], lengths: NDArray[np.int32]) -> None:
    """Longest match at every start of every row, over all shards.

    Args:
        views: the shards.
        rows: (B, T) tokens.
        lengths: (B, T) written.
    """
    num_tokens = rows.shape[1]
    for b in range(rows.shape[0]):
        for i in range(num_tokens):
            best = np.int64(0)
            for s in range(views.num_tokens.size):
                best = max(best, longest_match(views, s, rows[b], i, num_tokens))
                if i + best == num_tokens:
                    break
            if i + best == num_tokens:  # the rest of the row occurs, so every later start does
                for k in range(i, num_tokens):
                    lengths[b, k] = num_tokens - k
                break
            lengths[b, i] = best


@njit(cache=True, nogil=True)
def count_documents(views: ShardViews, rows: NDArray[np.uint16], counts: NDArray[np.int64]) -> None:
    """Documents that are identical to each row.

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


@njit(cache=True, nogil=True)
def collect_occurrences(
    views: ShardViews,
    ids: NDArray[np.uint16],
    start: Int,
    end: Int,
    documents: NDArray[np.int64],
    positions: NDArray[np.int64],
) -> tuple[Int, Int]:
    """Count ``ids[start:end]`` and write its first occurrences, shard by shard in table order.

    Args:
        views: the shards.
        ids: (T,) tokens.
        start: first token of the query.
        end: its end.
        documents: (limit,) written: global document ids.
        positions: (limit,) written: positions inside the documents.

    Returns:
        All occurrences, and how many were written.
    """
    count = written = np.int64(0)
    for s in range(views.num_tokens.size):
        lo, hi = find(views, s, ids, start, end)
        count += hi - lo
        for rank in range(lo, min(hi, lo + documents.size - written)):
            document, position = locate(views, s, pointer_at(views, s, rank))
            documents[written] = document
            positions[written] = position
            written += 1
    return count, written


@njit(cache=True, nogil=True)
def parse_row(
    views: ShardViews,
    ids: NDArray[np.uint16],
    phrases: NDArray[np.int64],
    documents: NDArray[np.int64],
    positions: NDArray[np.int64],
) -> Int:
    """Greedy parse of a row into longest matches.

    Args:
        views: the shards.
        ids: (T,) tokens.
        phrases: (T, 4) written: start, length, count, occurrences written.
        documents: (T, limit) written.
        positions: (T, limit) written.

    Returns:
        Number of phrases.
    """
    number, start = 0, np.int64(0)
    while start < ids.size:
        length = np.int64(0)
        for s in range(views.num_tokens.size):
            length = max(length, longest_match(views, s, ids, start, ids.size))
        count = written = np.int64(0)
        if length:
            count, written = collect_occurrences(
                views, ids, start, start + length, documents[number], positions[number]
            )
        length = max(length, np.int64(1))  # a token that no shard holds is a phrase of its own
        phrases[number, 0], phrases[number, 1] = start, length
        phrases[number, 2], phrases[number, 3] = count, written
        start += length
        number += 1
    return number
