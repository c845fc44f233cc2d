"""The documents that may decide, looked at one by one; parts of a step of ``search/kernel.py``.

The longest match before each of their places gives the support of every suffix at once, without a
search.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Work, sort_tally, tally
from imagegram.generators.ngram.search.step import Search, Step, match, written_at
from imagegram.generators.ngram.search.voters import Voters
from imagegram.indexes.kernels.search import Int, ShardViews, key_at, token_at

_EOS: Final = 65535


@njit(cache=True, nogil=True, counts=False)
def _next_place(
    search: Search, voters: Voters, step: Step, i: Int, index: Int, single: bool, ends: bool
) -> Int:
    """Return the first place of a document from ``index`` on that has the step's class; else -1.

    ``single`` says that only the step's own position may be one, ``ends`` that the separator behind
    the document is one.
    """
    views, knobs, _ = search
    s, first = np.int64(voters.shard[i]), voters.separator[i] + 1
    index = max(index, first + step.t if single else first)
    while index < views.num_tokens[s]:
        if single and index > first + step.t:
            return np.int64(-1)
        if ends and index > first:
            if token_at(views, s, index - 1) == _EOS:
                return np.int64(-1)
        elif not ends and token_at(views, s, index) == _EOS:
            return np.int64(-1)
        if single or not knobs.filtered or knobs.classes[index - first] == knobs.classes[step.t]:
            return index
        index += 1
    return np.int64(-1)


@njit(cache=True, nogil=True, counts=False)
def longest_among(search: Search, voters: Voters, step: Step, beginning: bool) -> Int:
    """Find the longest context that enough candidates follow; 0 when none does.

    With ``beginning`` only the step's own position is looked at in each document.
    """
    views, knobs, rules = search
    single = beginning or rules.in_place
    limit = min(np.int64(knobs.limits[step.t]), step.t + 1)
    for length in range(limit + 1):
        voters.support[length] = 0
    for i in range(voters.size[0]):
        s, best = np.int64(voters.shard[i]), np.int64(-1)
        index = _next_place(search, voters, step, i, 0, single, knobs.ends)
        while index >= 0:
            length = match(views, s, index, step, limit)
            best = max(best, length)
            if not knobs.count_documents:
                voters.support[length] += 1
            index = _next_place(search, voters, step, i, index + 1, single, knobs.ends)
        voters.best[i] = best
        if knobs.count_documents and best >= 0:
            voters.support[best] += 1
    length, found = limit, voters.support[limit]
    while length > 0 and found < step.needed:  # a longer match is one of every shorter length too
        length -= 1
        found += voters.support[length]
    return length


@njit(cache=True, nogil=True, counts=False)
def _next_candidate(
    search: Search, voters: Voters, step: Step, i: Int, index: Int, length: Int, beginning: bool
) -> Int:
    """Return the first candidate of a document from ``index`` on; -1: none is left."""
    if voters.best[i] < length:
        return np.int64(-1)
    s, ends = np.int64(voters.shard[i]), search.knobs.ends and length > 0
    single = beginning or search.rules.in_place
    index = _next_place(search, voters, step, i, index, single, ends)
    while index >= 0 and match(search.views, s, index, step, length) < length:
        index = _next_place(search, voters, step, i, index + 1, single, ends)
    return index


@njit(cache=True, nogil=True, counts=False)
def count_among(
    search: Search, voters: Voters, work: Work, step: Step, length: Int, beginning: bool
) -> Int:
    """Count the candidates of the documents by token into ``work``; return the distinct ones."""
    num_distinct = np.int64(0)
    for i in range(voters.size[0]):
        index = _next_candidate(search, voters, step, i, 0, length, beginning)
        while index >= 0:
            token = written_at(search.rules, np.int64(voters.shard[i]), index)
            num_distinct = tally(work, num_distinct, token, 1)
            index = _next_candidate(search, voters, step, i, index + 1, length, beginning)
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def nth_among(
    search: Search,
    voters: Voters,
    step: Step,
    length: Int,
    beginning: bool,
    token: Int,
    number: Int,
    count: Int,
) -> tuple[Int, Int]:
    """Return shard and stream index of candidate ``number`` of the ``count`` with ``token``."""
    shards, places = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    found = 0
    for i in range(voters.size[0]):
        s = np.int64(voters.shard[i])
        index = _next_candidate(search, voters, step, i, 0, length, beginning)
        while index >= 0:
            if written_at(search.rules, s, index) == token:
                shards[found], places[found] = s, index
                found += 1
            index = _next_candidate(search, voters, step, i, index + 1, length, beginning)
    return _select(search.views, shards, places, number)


@njit(cache=True, nogil=True, counts=False)
def _select(
    views: ShardViews, shards: NDArray[np.int64], places: NDArray[np.int64], number: Int
) -> tuple[Int, Int]:
    """Select the place with so many before it, shard by shard in table order (quickselect)."""
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


@njit(cache=True, nogil=True, counts=False)
def _precedes(views: ShardViews, s: Int, index: Int, other_s: Int, other: Int) -> bool:
    """Whether the suffix at a place comes before another: of an earlier shard, or in its table."""
    if s != other_s or index == other:
        return bool(s < other_s)
    while True:
        key, other_key = key_at(views, s, index), key_at(views, s, other)
        if key != other_key:
            return bool(key < other_key)
        index, other = index + 1, other + 1
