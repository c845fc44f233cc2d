"""The documents that may decide, looked at one by one; parts of a step of ``search/kernel.py``.

The longest match before each of their places gives the support of every suffix at once, without a
search.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs, Work, sort_tally, tally
from imagegram.generators.ngram.search.voters import Rules, Voters, match, written_at
from imagegram.indexes.kernels.search import Int, ShardViews, key_at, token_at

_EOS: Final = 65535


@njit(inline="always")
def _first_place(rules: Rules, voters: Voters, i: Int, t: Int, beginning: bool) -> Int:
    """Where the candidates of a document begin; with ``beginning`` only position t is one."""
    return voters.separator[i] + 1 + (t if beginning or rules.in_place else 0)


@njit(inline="always")
def _is_open(
    views: ShardViews,
    rules: Rules,
    voters: Voters,
    i: Int,
    s: Int,
    index: Int,
    t: Int,
    beginning: bool,
    ends: bool,
) -> bool:
    """Whether a place still is inside the document, and not behind the only candidate.

    ``ends`` says that the separator behind the document counts as a place of it.
    """
    first = voters.separator[i] + 1
    if index >= views.num_tokens[s]:
        return False
    if ends and index > first:
        if token_at(views, s, index - 1) == _EOS:
            return False
    elif not ends and token_at(views, s, index) == _EOS:
        return False
    return not (beginning or rules.in_place) or index == first + t


@njit(cache=True, nogil=True)
def longest_among(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    needed: Int,
    beginning: bool,
) -> Int:
    """Longest suffix that enough candidates follow; 0 when none does."""
    limit = min(np.int64(knobs.limits[t]), t + 1)
    voters.support[: limit + 1] = 0
    for i in range(voters.size[0]):
        s, best = np.int64(voters.shard[i]), np.int64(-1)
        index = _first_place(rules, voters, i, t, beginning)
        while _is_open(views, rules, voters, i, s, index, t, beginning, knobs.ends):
            if not _is_other(knobs, rules, voters, i, index, t):
                length = match(views, s, index, history, t, limit)
                best = max(best, length)
                if not rules.count_documents:
                    voters.support[length] += 1
            index += 1
        voters.best[i] = best
        if rules.count_documents and best >= 0:
            voters.support[best] += 1
    length, found = limit, voters.support[limit]
    while length > 0 and found < needed:  # a longer match is a match of every shorter length too
        length -= 1
        found += voters.support[length]
    return length


@njit(inline="always")
def _is_other(knobs: Knobs, rules: Rules, voters: Voters, i: Int, index: Int, t: Int) -> bool:
    """Whether a place of a document has another class than position t."""
    if not knobs.filtered or rules.in_place:
        return False
    return bool(knobs.classes[index - voters.separator[i] - 1] != knobs.classes[t])


@njit(cache=True, nogil=True)
def count_among(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    beginning: bool,
) -> Int:
    """Count the tokens of the candidates into ``work``; returns how many are distinct."""
    num_distinct, ends = 0, knobs.ends and length > 0
    for i in range(voters.size[0]):
        if voters.best[i] < length:
            continue
        s = np.int64(voters.shard[i])
        index = _first_place(rules, voters, i, t, beginning)
        while _is_open(views, rules, voters, i, s, index, t, beginning, ends):
            if (
                not _is_other(knobs, rules, voters, i, index, t)
                and match(views, s, index, history, t, length) == length
            ):
                num_distinct = tally(work, num_distinct, written_at(rules, s, index), 1)
            index += 1
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def nth_among(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    beginning: bool,
    token: Int,
    number: Int,
    count: Int,
) -> tuple[Int, Int]:
    """Shard and stream index of candidate ``number`` among the ``count`` that hold ``token``."""
    shards, places = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    found, ends = 0, knobs.ends and length > 0
    for i in range(voters.size[0]):
        if voters.best[i] < length:
            continue
        s = np.int64(voters.shard[i])
        index = _first_place(rules, voters, i, t, beginning)
        while _is_open(views, rules, voters, i, s, index, t, beginning, ends):
            if (
                written_at(rules, s, index) == token
                and not _is_other(knobs, rules, voters, i, index, t)
                and match(views, s, index, history, t, length) == length
            ):
                shards[found], places[found] = s, index
                found += 1
            index += 1
    return _select(views, shards, places, number)


@njit(cache=True, nogil=True)
def _select(
    views: ShardViews, shards: NDArray[np.int64], places: NDArray[np.int64], number: Int
) -> tuple[Int, Int]:
    """The place with so many before it, shard by shard in table order (quickselect)."""
    lo, hi = np.int64(0), places.size - 1
    while lo < hi:
        middle = (lo + hi) >> 1
        s, at, i, j = shards[middle], places[middle], lo, hi
        while i <= j:
            while _precedes(views, shards[i], places[i], s, at):
                i += 1
            while _precedes(views, s, at, shards[j], places[j]):
                j -= 1
            if i <= j:
                shards[i], shards[j] = shards[j], shards[i]
                places[i], places[j] = places[j], places[i]
                i, j = i + 1, j - 1
        if number <= j:
            hi = j
        elif number >= i:
            lo = i
        else:
            break
    return shards[number], places[number]


@njit(cache=True, nogil=True)
def _precedes(views: ShardViews, s: Int, index: Int, other_s: Int, other: Int) -> bool:
    """Whether the suffix at a place comes before another: of an earlier shard, or in its table."""
    if s != other_s or index == other:
        return bool(s < other_s)
    while True:
        key, other_key = key_at(views, s, index), key_at(views, s, other)
        if key != other_key:
            return bool(key < other_key)
        index, other = index + 1, other + 1
