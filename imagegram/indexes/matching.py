"""Longest matches of whole token rows, compiled: every suffix of every row, in sorted order.

A search for each position in each shard would be a row of cache misses every time. Here the
suffixes of many rows are sorted (``indexes/suffixes.py``) and walked beside those of a shard: the
two between which a suffix stands share the most with it (Manber and Myers 1993), and it stands a
few ranks from the one before. What the one before shares with both decides most steps without a
look at any token.

The walk compares at most :data:`~imagegram.indexes.suffixes.DEPTH` tokens. Longer matches come in
passages that end together: :func:`extend_rows` finds the end of each passage once, so that long
copies cost no quadratic time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels import (
    Int,
    ShardViews,
    common_length,
    find,
    locate,
    narrow,
    pointer_at,
    prefix_bucket,
    sort_key,
)
from imagegram.indexes.suffixes import (
    DEPTH,
    STEP,
    equal_tokens,
    four_tokens,
    prefetch,
    sort_group,
    tokens_left,
)
from imagegram.records import EOS_TOKEN_ID

_EOS = EOS_TOKEN_ID
_AHEAD: Final = 48


# ---------------------------------------------------------------------------- short matches: a walk


@njit(inline="always", cache=True)
def _compare(
    views: ShardViews, s: Int, rank: Int, query: Int, left: Int, key: Int, known: Int
) -> tuple[Int, Int]:
    """A suffix of a row beside one of a shard, which share ``known`` >= 2 tokens.

    Args:
        views: the shards.
        s: shard.
        rank: of its suffix.
        query: address of the row's suffix.
        left: tokens of the row's suffix.
        key: its tokens 2 ... 5, as :func:`four_tokens` gives them.
        known: tokens that are known to be shared.

    Returns:
        Shared tokens, at most DEPTH, and 1 when the shard's suffix sorts before the row's, else 0
        (also when the shared tokens are all of the row's, or DEPTH).
    """
    position = pointer_at(views, s, rank)
    address = views.token_address[s] + np.uint64(2 * position)
    there = views.num_tokens[s] - position
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
    """Ranks of the suffixes that begin with a pair; and, when there is none, what is shared."""
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
        shared: (n,) what each shares with the one before.
        best: (n,) raised to the longest match in this shard, at most DEPTH.
    """
    text, num_tokens = queries
    # A suffix stands between ranks place - 1 and place, with which it shares below and above.
    place, below, above = lo, np.int64(2), np.int64(2)
    ahead = lo if hi - lo < 4 * order.size else hi
    for j in range(order.size):
        while ahead < min(place + _AHEAD, hi):
            rank = pointer_at(views, s, ahead) + 2
            prefetch(views.token_address[s] + np.uint64(2 * rank))
            ahead += 1
        common = np.int64(shared[j])
        if place == hi or common > above or common == DEPTH:  # it stands where the last one stood
            below = min(below, common)
        else:
            query = text + np.uint64(2 * np.int64(order[j]))
            left, key = tokens_left(order[j], num_tokens), keys[j]
            low, high, step = place - 1, hi, 1
            if common < above:  # behind the suffix that shared more with the last one
                low, below = place, common
            known = max(min(common, above), 2) if common == above else 2
            below = min(below, common)
            while low + step < hi:  # gallop: most stand one step on, or none
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
    """End of the group of equal first pairs that begins at ``start``."""
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
    """Cut what ``sort_by_pair`` made into pieces of whole groups, ``least`` suffixes or more."""
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
    """Longest matches, cut to :data:`DEPTH`, of suffixes of whole groups of equal pairs.

    Args:
        views: the shards.
        rows: (B, T) tokens.
        text: address of the rows.
        order: some of the groups that ``sort_by_pair`` made; sorted further in place.
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
        if tokens_left(group[0], num_tokens) == 1:
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


# ------------------------------------------------------------------------- long matches: passages


@njit(cache=True, nogil=True)
def compare_query(
    views: ShardViews, s: Int, position: Int, query: Int, length: Int, known: Int
) -> tuple[Int, Int]:
    """A query beside a suffix of a shard, which share ``known`` tokens.

    Args:
        views: the shards.
        s: shard.
        position: of its suffix in the stream.
        query: address of the query.
        length: tokens of the query.
        known: tokens that are known to be shared.

    Returns:
        Shared tokens, and 1 when the suffix sorts before the query, 0 when not or all are shared.
    """
    address = views.token_address[s] + np.uint64(2 * position)
    there = views.num_tokens[s] - position
    depth = np.int64(known)
    while True:
        offset = np.uint64(2 * depth)
        ours = four_tokens(query + offset, length - depth)
        theirs = four_tokens(address + offset, there - depth)
        agree = min(depth + equal_tokens(ours, theirs), length, there)
        if agree < depth + STEP:
            return agree, np.int64(agree < length and (agree == there or theirs < ours))
        depth += STEP


@njit(cache=True, nogil=True)
def place_query(
    views: ShardViews,
    ids: NDArray[np.uint16],
    start: Int,
    end: Int,
    query: Int,
    bounds: NDArray[np.int64],
) -> Int:
    """Where ``ids[start:end]`` stands in every shard; its longest prefix that any shard holds.

    One binary search a shard, which compares nothing again that both bounds share, all side by
    side: their cache misses overlap.

    Args:
        views: the shards.
        ids: tokens.
        start: first token of the query.
        end: its end.
        query: its address.
        bounds: (5, S): written: the last rank before the query and the first that is not, the
            tokens that these share with it (of a rank outside the bucket: what the bucket shares),
            and scratch.

    Returns:
        Tokens.
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
    """Complete the matches that :func:`match_groups` cut.

    The end of the longest match never moves back from one start to the next, so the starts between
    two places where it moves need no search; the next such place is found by bisection.

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
            # All starts up to end - DEPTH reach DEPTH tokens without passing the end. Those below
            # high do not pass it; first the last of them is asked, which mostly settles it.
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
