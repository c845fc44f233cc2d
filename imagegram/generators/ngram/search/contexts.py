"""The ranks that every shard holds of a context, found with as few reads as side files allow.

A shard that held the context of the step before leads to the next by its order, from a place that
is known; so does the shard that was copied from. Only others that may reach so far are searched,
all of them in step, so that their cache misses overlap.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Work
from imagegram.generators.ngram.search.carry import (
    CARRIED,
    DEPTH,
    INDEX,
    SHARD,
    WHEN,
    ask_screens,
    narrow_last,
)
from imagegram.generators.ngram.search.sides import Sides, walk_of
from imagegram.generators.ngram.search.step import Search, Step
from imagegram.generators.ngram.walk.bounds import interval_end, interval_start
from imagegram.generators.ngram.walk.order import (
    rank_of,
    repeat,
)
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.search import (
    Int,
    ShardViews,
    common_length,
    find,
    key_at,
    narrow,
    pointer_at,
    prefix_bucket,
    sort_key,
)

#: Shorter contexts occur in most shards.
_SHORTEST_PROBE: Final = 6
#: Rows of ``Work.hunt``: of a shard that is searched.
_FIRST: Final = 0  # ranks that are left
_LAST: Final = 1
_LEFT: Final = 2  # tokens that the context shares with the suffix before the first of them
_RIGHT: Final = 3  # and with the one behind the last
_MIDDLE: Final = 4  # rank that is looked at
_PLACE: Final = 5  # its place in the stream; or the known place where the context begins
#: Instead of a place where a context begins.
_UNKNOWN: Final = -1
_NOT_HERE: Final = -2


@njit(inline="always", counts=False)
def find_context(search: Search, step: Step, s: Int, length: Int) -> tuple[Int, Int]:
    """Find the ranks of shard ``s`` that begin with the last ``length`` tokens before the step."""
    views, start = search.views, step.t + 1 - length
    if not search.knobs.aligned:
        return find(views, s, step.history, start, step.t + 1)
    return _find_aligned(views, step, s, length)


@njit(cache=True, nogil=True, counts=False)
def _find_aligned(views: ShardViews, step: Step, s: Int, length: Int) -> tuple[Int, Int]:
    """Find these ranks in an aligned table."""
    start = step.t + 1 - length
    # The aligned table holds one suffix a document for each position, the separator's first.
    lo = start * views.num_documents[s]
    hi = lo + views.num_documents[s]
    for depth in range(length):
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, depth, np.int64(step.history[start + depth]))
    return lo, hi


@njit(inline="always", counts=False)
def _place_of(search: Search, sides: Sides, work: Work, step: Step, s: Int, length: Int) -> Int:
    """Return a place of shard ``s`` where the context begins, if the last step tells one.

    Else :data:`_UNKNOWN`; or :data:`_NOT_HERE` where its ranks, perhaps none, are written.
    """
    t, state = step.t, work.state
    if length == 0:
        return _UNKNOWN
    if state[WHEN] == t - 1 and length <= state[DEPTH] + 1:
        last = np.int64(step.history[t])
        lo, hi = narrow_last(search.views, search.knobs.aligned, work, s, last)
        if lo == hi:
            work.reach[s] = min(work.reach[s], state[DEPTH] - t)
        if length == state[DEPTH] + 1:
            work.trial[0, s], work.trial[1, s] = lo, hi
            return _NOT_HERE
        if lo < hi and sides.ordered:
            return pointer_at(search.views, s, lo) + state[DEPTH] + 1 - length
    if s == state[SHARD] and sides.ordered and length <= state[CARRIED] + 1:
        return state[INDEX] + 1 - length
    return _UNKNOWN


@njit(cache=True, nogil=True, counts=False)
def find_contexts(search: Search, sides: Sides, work: Work, step: Step, length: Int) -> None:
    """Write the ranks of every shard that begin with the last ``length`` tokens to ``work.trial``.

    A shard that lacks them has an empty interval, and its reach is lowered.
    """
    ask_screens(sides, work, step.t, length)
    known, searched = 0, 0
    for s in range(work.reach.size):
        work.trial[0, s], work.trial[1, s] = 0, 0
        place = _NOT_HERE
        if work.reach[s] + step.t >= length:
            place = _place_of(search, sides, work, step, s, length)
        if place >= 0:
            work.hunt[_PLACE, s] = place
            prefetch(sides.inverse[s] + np.uint64(sides.inverse_width[s] * place))
            prefetch(sides.repeat[s] + np.uint64(2 * place))
            work.queue[0, known] = s
            known += 1
        elif place == _UNKNOWN:
            work.queue[1, searched] = s
            searched += 1
    _look_around(search.views, sides, work, known, length)
    if sides.ordered and length > 0:
        _search_together(search, sides, work, step, searched, length)
    else:
        for k in range(searched):
            s = work.queue[1, k]
            work.trial[0, s], work.trial[1, s] = find_context(search, step, s, length)
    for k in range(searched):
        s = work.queue[1, k]
        if work.trial[0, s] == work.trial[1, s]:
            _shorten(search, sides, work, step, s, length)


@njit(cache=True, nogil=True, counts=False)
def _look_around(views: ShardViews, sides: Sides, work: Work, number: Int, length: Int) -> None:
    """Find the ranks of the shards where a place is known."""
    for k in range(number):
        s = work.queue[0, k]
        rank = rank_of(walk_of(views, sides, s), work.hunt[_PLACE, s])
        work.hunt[_MIDDLE, s] = rank
        prefetch(sides.lcp[s] + np.uint64(2 * rank))
    for k in range(number):
        s = work.queue[0, k]
        walk, rank = walk_of(views, sides, s), work.hunt[_MIDDLE, s]
        lo, hi = rank, rank + 1
        if repeat(walk, work.hunt[_PLACE, s]) >= length:
            lo, hi = interval_start(walk, rank, length), interval_end(walk, rank, length)
        work.trial[0, s], work.trial[1, s] = lo, hi


@njit(inline="always", counts=False)
def _begin_search(search: Search, work: Work, step: Step, s: Int, length: Int) -> None:
    """Begin with the ranks of shard ``s`` that may begin with the context."""
    views, hunt, end = search.views, work.hunt, step.t + 1
    if search.knobs.aligned:
        lo, shared = (end - length) * views.num_documents[s], np.int64(0)
        hi = lo + views.num_documents[s]
    else:
        lo, hi, shared = prefix_bucket(views, s, step.history, end - length, end)
    hunt[_FIRST, s], hunt[_LAST, s], hunt[_LEFT, s], hunt[_RIGHT, s] = lo, hi, shared, shared
    if shared == length:  # all of the bucket begin so: nothing is left to search
        work.trial[0, s], work.trial[1, s] = lo, hi
        hunt[_LAST, s], hunt[_RIGHT, s] = lo, -1


@njit(inline="always", counts=False)
def _compare(views: ShardViews, work: Work, step: Step, s: Int, length: Int) -> None:
    """Compare the context with the suffix in the middle, and leave half of the ranks."""
    hunt, end = work.hunt, step.t + 1
    start = end - length
    place, shared = hunt[_PLACE, s], min(hunt[_LEFT, s], hunt[_RIGHT, s])
    shared += common_length(views, s, place + shared, step.history, start + shared, end)
    if shared < length and key_at(views, s, place + shared) < sort_key(
        np.int64(step.history[start + shared])
    ):
        hunt[_FIRST, s], hunt[_LEFT, s] = hunt[_MIDDLE, s] + 1, shared
    else:
        hunt[_LAST, s], hunt[_RIGHT, s] = hunt[_MIDDLE, s], shared


@njit(cache=True, nogil=True, counts=False)
def _search_together(
    search: Search, sides: Sides, work: Work, step: Step, number: Int, length: Int
) -> None:
    """Find the ranks of shards by comparing whole contexts; ``lcp`` tells where they end.

    In runs of one token, where each token narrows the ranks a little only, this is far faster than
    token by token.
    """
    views, hunt, queue = search.views, work.hunt, work.queue[1]
    for k in range(number):
        _begin_search(search, work, step, queue[k], length)
    left = number
    while left > 0:
        left = 0
        for k in range(number):
            s = queue[k]
            if hunt[_FIRST, s] < hunt[_LAST, s]:
                hunt[_MIDDLE, s] = (hunt[_FIRST, s] + hunt[_LAST, s]) >> 1
                at = views.pointer_width[s] * hunt[_MIDDLE, s]
                prefetch(views.table_address[s] + np.uint64(at))
                left += 1
        for k in range(number):
            s = queue[k]
            if hunt[_FIRST, s] < hunt[_LAST, s]:
                place = pointer_at(views, s, hunt[_MIDDLE, s])
                hunt[_PLACE, s] = place
                at = place + min(hunt[_LEFT, s], hunt[_RIGHT, s])
                prefetch(views.token_address[s] + np.uint64(2 * at))
        for k in range(number):
            s = queue[k]
            if hunt[_FIRST, s] < hunt[_LAST, s]:
                _compare(views, work, step, s, length)
    for k in range(number):
        s, lo = queue[k], hunt[_FIRST, queue[k]]
        if hunt[_RIGHT, s] == length:
            last = interval_end(walk_of(views, sides, s), lo, length)
            work.trial[0, s], work.trial[1, s] = lo, last


@njit(cache=True, nogil=True, counts=False)
def _shorten(search: Search, sides: Sides, work: Work, step: Step, s: Int, length: Int) -> None:
    """Note that shard ``s`` lacks the last ``length`` tokens; perhaps it lacks half of them too.

    Each token saved here is one search of this shard saved later: without a screen, all shards but
    the one that is copied from are asked once in a while only.
    """
    if length == 0:
        return
    work.reach[s] = min(work.reach[s], length - 1 - step.t)
    half = length // 2
    if half >= _SHORTEST_PROBE and sides.run == 0:
        lo, hi = find_context(search, step, s, half)
        if lo == hi:
            work.reach[s] = half - 1 - step.t


@njit(cache=True, nogil=True, counts=False)
def is_alone(search: Search, sides: Sides, work: Work, step: Step, length: Int) -> bool:
    """Whether no shard but the last source's holds the last ``length`` tokens before a step."""
    source = work.state[SHARD]
    find_contexts(search, sides, work, step, length)
    for s in range(work.reach.size):
        if s != source and work.trial[0, s] < work.trial[1, s]:
            return False
    return True
