"""Longest matches of whole token rows, compiled: every suffix of every row, in sorted order.

A separate search for each position in each shard would have a cache miss at every step. Instead,
the suffixes of many rows are sorted (``suffixes.py``) and merged with the sorted suffixes of a
shard: the two neighbours of a suffix in the shard share the most tokens with it (Manber and Myers
1993), and its place is a few ranks after that of the suffix before. The lengths that the suffix
before shares with both neighbours decide most steps without reading any token.

The walk compares at most ``suffixes.DEPTH`` tokens. Longer matches form passages of starts whose
matches end at the same position: ``passages.py`` finds the end of each passage once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.search import (
    Int,
    ShardViews,
    narrow,
    pointer_at,
    prefix_bucket,
    sort_key,
)
from imagegram.indexes.kernels.suffixes import (
    DEPTH,
    STEP,
    equal_tokens,
    four_tokens,
    sort_group,
    tokens_left,
)

#: Number of ranks that a dense walk prefetches ahead.
_AHEAD: Final = 48


@njit(inline="always", cache=True)
def _compare(
    views: ShardViews, s: Int, rank: Int, query: Int, left: Int, key: Int, known: Int
) -> tuple[Int, Int]:
    """Compare a suffix of a row with one of a shard; they share ``known`` >= 2 tokens.

    Args:
        views: the shards.
        s: shard.
        rank: rank of the shard's suffix.
        query: address of the row's suffix.
        left: number of tokens of the row's suffix.
        key: its tokens 2 ... 5, as :func:`four_tokens` gives them.
        known: number of tokens known to be shared.

    Returns:
        Shared tokens, at most DEPTH, and 1 when the shard's suffix sorts before the row's, else 0
        (also when the shared tokens are all of the row's, or DEPTH).
    """
    position = pointer_at(views, s, rank)
    address = views.token_address[s] + np.uint64(2 * position)
    there = views.num_tokens[s] - position
    # Start at the last step of four tokens, counted from token 2, that is known to be shared.
    depth = 2 + ((known - 2) & ~(STEP - 1))
    while depth < DEPTH:
        offset = np.uint64(2 * depth)
        ours = key if depth == 2 else four_tokens(query + offset, left - depth)
        theirs = four_tokens(address + offset, there - depth)
        agree = min(depth + equal_tokens(ours, theirs), left, there)
        if agree < depth + STEP:
            if agree == left:
                return agree, 0
            return agree, np.int64(agree == there or theirs < ours)
        depth += STEP
    return np.int64(DEPTH), 0


@njit(cache=True, nogil=True)
def _pair_interval(views: ShardViews, s: Int, pair: NDArray[np.uint16]) -> tuple[Int, Int, Int]:
    """Return the ranks of the suffixes that begin with a pair, and how many tokens match.

    Without such suffixes, 1 when some suffix begins with the first token, else 0.
    """
    lo, hi, depth = prefix_bucket(views, s, pair, 0, 2)
    if depth == 1 and lo < hi:
        lo, hi = narrow(views, s, lo, hi, 1, np.int64(pair[1]))
    if lo < hi:
        return lo, hi, np.int64(2)
    key = sort_key(np.int64(pair[0]))
    return lo, hi, np.int64(views.firsts[s, key] < views.firsts[s, key + 1])


@njit(cache=True, nogil=True)
def _walk(
    views: ShardViews,
    s: Int,
    lo: Int,
    hi: Int,
    queries: tuple[Int, Int],
    order: NDArray[np.uint32],
    keys: NDArray[np.uint64],
    shared: NDArray[np.int16],
    best: NDArray[np.int16],
) -> None:
    """Walk sorted suffixes of rows along ranks [lo, hi), which all share two tokens with them.

    Args:
        views: the shards.
        s: shard.
        lo: first rank.
        hi: end of the ranks, above lo.
        queries: address of the rows, and T.
        order: (n,) flat positions, sorted.
        keys: (n,) their tokens 2 ... 5.
        shared: (n,) number of tokens that each shares with the one before.
        best: (n,) raised to the longest match in this shard, at most DEPTH.
    """
    text, num_tokens = queries
    # A suffix sorts between the ranks place - 1 and place; it shares ``below`` tokens with the
    # first of these and ``above`` tokens with the second.
    place, below, above = lo, np.int64(2), np.int64(2)
    ahead = lo if hi - lo < 4 * order.size else hi
    for j in range(order.size):
        while ahead < min(place + _AHEAD, hi):
            rank = pointer_at(views, s, ahead) + 2
            prefetch(views.token_address[s] + np.uint64(2 * rank))
            ahead += 1
        common = np.int64(shared[j])
        if place == hi or common > above or common == DEPTH:
            # Rank place sorts after the previous suffix and shares less with it than this suffix
            # does: so it sorts after this suffix too, and place stays.
            below = min(below, common)
        else:
            query = text + np.uint64(2 * np.int64(order[j]))
            left, key = tokens_left(order[j], num_tokens), keys[j]
            low, high, step = place - 1, hi, 1
            if common < above:
                # Rank place shares more with the previous suffix than this one: it sorts before it.
                low, below = place, common
            known = max(min(common, above), 2) if common == above else 2
            below = min(below, common)
            while low + step < hi:  # gallop: most suffixes move by at most one rank
                agree, less = _compare(views, s, low + step, query, left, key, known)
                if not less:
                    high, above = low + step, agree
                    break
                low, below = low + step, agree
                step, known = step << 1, np.int64(2)
            while low + 1 < high:
                middle = (low + high) >> 1
                agree, less = _compare(views, s, middle, query, left, key, np.int64(2))
                if less:
                    low, below = middle, agree
                else:
                    high, above = middle, agree
            place = high
        best[j] = max(best[j], below, above if place < hi else 0)


@njit(cache=True, nogil=True)
def _group_end(rows: NDArray[np.uint16], order: NDArray[np.uint32], start: Int) -> Int:
    """Return the end of the group of equal first pairs that begins at ``start``."""
    flat, num_tokens = rows.ravel(), rows.shape[1]
    first, last = order[start], tokens_left(order[start], num_tokens) == 1
    end = start + 1
    while end < order.size and flat[order[end]] == flat[first]:
        if (tokens_left(order[end], num_tokens) == 1) != last:
            break
        if not last and flat[order[end] + 1] != flat[first + 1]:
            break
        end += 1
    return end


@njit(cache=True, nogil=True)
def group_ends(
    rows: NDArray[np.uint16], order: NDArray[np.uint32], least: Int
) -> NDArray[np.int64]:
    """Cut the result of ``sort_by_pair`` into pieces of whole groups, at least ``least`` long."""
    ends = np.empty(order.size // least + 1, dtype=np.int64)
    number, start, end = 0, np.int64(0), np.int64(0)
    while end < order.size:
        end = _group_end(rows, order, min(start + least, order.size) - 1)
        ends[number] = start = end
        number += 1
    return ends[:number]


@njit(cache=True, nogil=True)
def match_groups(
    views: ShardViews,
    rows: NDArray[np.uint16],
    text: Int,
    order: NDArray[np.uint32],
    lengths: NDArray[np.int32],
) -> None:
    """Find longest matches, cut to :data:`DEPTH`, of suffixes in whole groups of equal pairs.

    Args:
        views: the shards.
        rows: (B, T) tokens.
        text: address of the rows.
        order: some of the groups of ``sort_by_pair``; sorted further in place.
        lengths: (B * T,) written at the positions in ``order``.
    """
    flat, num_tokens = rows.ravel(), rows.shape[1]
    pair = np.empty(2, dtype=np.uint16)
    keys, shared = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int16)
    best = np.empty(0, dtype=np.int16)
    start = np.int64(0)
    while start < order.size:
        end = _group_end(rows, order, start)
        size, group = end - start, order[start:end]
        if size > best.size:
            keys, shared = np.empty(2 * size, np.uint64), np.empty(2 * size, np.int16)
            best = np.empty(2 * size, np.int16)
        best[:size] = 0
        pair[0] = flat[group[0]]
        if tokens_left(group[0], num_tokens) == 1:  # last tokens of rows: a match of at most 1
            key = sort_key(np.int64(pair[0]))
            for s in range(views.num_tokens.size):
                if views.firsts[s, key] < views.firsts[s, key + 1]:
                    best[:size] = 1
        else:
            pair[1] = flat[group[0] + 1]
            sort_group(text, num_tokens, group, keys[:size], shared[:size])
            for j in range(size):
                address = text + np.uint64(2 * (np.int64(group[j]) + 2))
                keys[j] = four_tokens(address, tokens_left(group[j], num_tokens) - 2)
            for s in range(views.num_tokens.size):
                lo, hi, least = _pair_interval(views, s, pair)
                if lo < hi:
                    _walk(views, s, lo, hi, (text, num_tokens), group, keys, shared, best[:size])
                elif least:
                    for j in range(size):
                        best[j] = max(best[j], 1)
        for j in range(size):
            lengths[group[j]] = best[j]
        start = end
