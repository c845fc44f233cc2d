"""Greedy parses of many rows, compiled, with the occurrences of their longest phrases.

The phrases are looked up in the order of the shards' tables: the place of each is the same as that
of the phrase before, or a few ranks later.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.passages import compare_query, place_query
from imagegram.indexes.kernels.search import Int, ShardViews, locate, pointer_at
from imagegram.indexes.kernels.suffixes import compare_texts, four_tokens
from imagegram.records import Phrases, Tokens

#: Phrases that a thread looks up at a time.
_PIECE: Final = 4096


def parse_rows(
    views: ShardViews,
    rows: Tokens,
    lengths_BT: NDArray[np.int32],
    *,
    max_occurrences: int,
    threads: int,
    advance: Callable[[int], None],
) -> Phrases:
    """Return the phrases of rows, given their longest matches; see ``Index.parse_rows``.

    Takes 64 bytes a phrase and 4 bytes an occurrence that is kept.
    """
    ends = np.empty(len(rows), dtype=np.int64)
    starts = np.empty(lengths_BT.size, dtype=np.int64)
    starts = starts[: phrase_starts(lengths_BT, starts, ends)]
    lengths = lengths_BT.ravel()[starts]
    flat = rows.ravel()
    order = np.lexsort([phrase_keys(flat, starts, lengths, skipped) for skipped in (4, 0)])
    counts = np.empty(starts.size, dtype=np.int64)

    def look_up(first: int) -> NDArray[np.int32]:
        chosen = order[first : first + _PIECE]
        found = np.empty((chosen.size, max_occurrences), dtype=np.int32)
        number = np.empty(chosen.size, dtype=np.int64)
        occurrences(views, rows, starts[chosen], lengths[chosen], found, number)
        counts[first : first + _PIECE] = number
        return found[np.arange(max_occurrences) < number[:, None]]

    kept: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(look_up, range(0, starts.size, _PIECE)):
            kept.append(part)
    places = np.empty(starts.size, dtype=np.int64)
    places[order] = np.arange(starts.size)
    advance(len(rows))
    return Phrases(
        ends=ends,
        starts=(starts % max(rows.shape[1], 1)).astype(np.int32),
        lengths=lengths,
        places=places,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        documents=np.concatenate(kept),
    )


@njit(cache=True, nogil=True)
def phrase_starts(
    lengths: NDArray[np.int32], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Int:
    """Write where the phrases of rows start: from the left, one longest match after the other.

    Args:
        lengths: (B, T) longest matches.
        starts: (B * T,) written: flat positions.
        ends: (B,) written: number of phrases of this row and all rows before it.

    Returns:
        Number of phrases.
    """
    number = 0
    for b in range(lengths.shape[0]):
        start = np.int64(0)
        while start < lengths.shape[1]:
            starts[number] = b * lengths.shape[1] + start
            start += max(np.int64(lengths[b, start]), np.int64(1))
            number += 1
        ends[b] = number
    return number


@njit(cache=True, nogil=True)
def phrase_keys(
    flat: NDArray[np.uint16], starts: NDArray[np.int64], lengths: NDArray[np.int32], skipped: Int
) -> NDArray[np.uint64]:
    """Return four tokens of every phrase, after some skipped ones, as a number in table order."""
    keys = np.empty(starts.size, dtype=np.uint64)
    text = np.uint64(flat.ctypes.data)
    for p in range(starts.size):
        address = text + np.uint64(2 * (starts[p] + skipped))
        keys[p] = four_tokens(address, max(np.int64(lengths[p]) - skipped, np.int64(0)))
    return keys


@njit(cache=True, nogil=True)
def occurrences(
    views: ShardViews,
    rows: NDArray[np.uint16],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int32],
    documents: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """Write the documents of the first occurrences of phrases, by shard in table order.

    Args:
        views: the shards.
        rows: (B, T) tokens.
        starts: (P,) flat positions of the phrases.
        lengths: (P,) tokens; 0 for a token that occurs nowhere.
        documents: (P, limit) written.
        counts: (P,) written: number of documents written for each phrase.
    """
    num_tokens, limit = rows.shape[1], documents.shape[1]
    text = np.uint64(rows.ctypes.data)
    bounds = np.empty((5, views.num_tokens.size), dtype=np.int64)
    before: Int = np.int64(-1)
    for p in range(starts.size):
        counts[p] = 0
        if not lengths[p]:
            continue
        ids, start, length = rows[starts[p] // num_tokens], starts[p] % num_tokens, lengths[p]
        query, behind = text + np.uint64(2 * starts[p]), 1
        if before >= 0:
            last, size = text + np.uint64(2 * starts[before]), lengths[before]
            agree, behind = compare_texts(query, length, last, size, 0, length + 1)
        if before >= 0 and (behind or agree == length == lengths[before]):
            _move_on(views, query, length, agree, bounds)
        else:
            place_query(views, ids, start, start + length, query, bounds)
        before = p
        for s in range(views.num_tokens.size):
            first, shared = bounds[1, s], bounds[3, s]
            if first == views.num_tokens[s] or shared < length or counts[p] == limit:
                continue
            most = min(first + limit - counts[p], views.num_tokens[s])
            for rank in range(first, _last(views, s, first, most, query, length) + 1):
                documents[p, counts[p]] = locate(views, s, pointer_at(views, s, rank))[0]
                counts[p] += 1


@njit(cache=True, nogil=True)
def _move_on(
    views: ShardViews, query: Int, length: Int, agree: Int, bounds: NDArray[np.int64]
) -> None:
    """Find the places of a query, given the places of a query that sorts before it.

    Args:
        views: the shards.
        query: address of the query.
        length: number of tokens of the query.
        agree: number of tokens that both queries share.
        bounds: (5, S), as of ``place_query``: of the query before, then written for this one.
    """
    places, shared = bounds[1], bounds[3]
    # A shard whose suffix at the place shares fewer tokens with the last query than this query does
    # keeps its place: the suffix still sorts after this query. Others are searched from there.
    for s in range(places.size):
        if places[s] < views.num_tokens[s] and agree <= shared[s]:
            position = pointer_at(views, s, places[s])
            prefetch(views.token_address[s] + np.uint64(2 * position))
    for s in range(places.size):
        end = views.num_tokens[s]
        if places[s] == end or agree > shared[s]:
            continue
        low, high, step = places[s] - 1, end, 1
        shared[s] = 0
        while low + 1 < high:
            # Gallop (steps 1, 2, 4 ...) until a suffix is not before the query; then bisect.
            middle = min(low + step, (low + high) >> 1) if step else (low + high) >> 1
            position = pointer_at(views, s, middle)
            both, less = compare_query(views, s, position, query, length, 0)
            if less:
                low, step = middle, 2 * step
            else:
                high, shared[s], step = middle, both, 0
        places[s] = high


@njit(cache=True, nogil=True)
def _last(views: ShardViews, s: Int, first: Int, most: Int, query: Int, length: Int) -> Int:
    """Find the last rank below ``most``, from ``first`` on, that begins with the whole query.

    Steps double while they succeed and halve when they fail.
    """
    step: Int = 1
    while step:
        rank = first + step
        if rank < most:
            position = pointer_at(views, s, rank)
            if compare_query(views, s, position, query, length, 0)[0] == length:
                first = rank
                step <<= 1
                continue
        step >>= 1
    return first
