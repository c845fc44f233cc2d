"""Contexts as intervals of ranks, found by searches.

Each token extends the interval of the context before it where that is possible; how they are found
where the window slides or too few places are left says ``search/contexts.py``. Frequent contexts
are answered from the thread's memo. Parts of a step of ``search/kernel.py``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Work, sort_tally, tally
from imagegram.generators.ngram.search.carry import (
    COUNT,
    LISTED,
    NEXT,
    OWNER,
    START,
    copy_ranks,
    narrow_last,
    num_places,
)
from imagegram.generators.ngram.search.contexts import find_contexts
from imagegram.generators.ngram.search.memo import Memo, recall
from imagegram.generators.ngram.search.sides import Sides, walk_of
from imagegram.generators.ngram.search.step import (
    Search,
    Step,
    coarse_of,
    has_class,
    is_conditional,
    locate_next,
    may_decide,
    written_at,
)
from imagegram.generators.ngram.walk.bounds import interval_end
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.search import (
    Int,
    ShardViews,
    continued,
    group_end,
    key_at,
    pointer_at,
    sort_key,
    token_at,
    upper_bound,
)

_EOS: Final = 65535
_UNKNOWN: Final = -1
_TOO_FEW: Final = -2
#: No context was found so: it is common, or needs more places than it has.
COMMON: Final = -1


@njit(inline="always", counts=False)
def _supported(search: Search, work: Work, step: Step, length: Int) -> bool:
    """Whether the trial intervals hold as many candidates as a context needs."""
    if search.knobs.count_documents or search.knobs.filtered or is_conditional(step):
        return _enough(search, work, step, length)
    found = 0
    for s in range(work.trial.shape[1]):
        found += work.trial[1, s] - work.trial[0, s]
    return bool(found >= step.needed)


@njit(cache=True, nogil=True, counts=False)
def _enough(search: Search, work: Work, step: Step, length: Int) -> bool:
    """Look through the trial intervals until as many candidates, or documents, are found."""
    views, knobs, _ = search
    classes_T, group = knobs.classes, knobs.classes[step.t]
    found, conditional = 0, is_conditional(step)
    work.clock[0] += 1  # a new time: no document is stamped with it yet
    for s in range(views.num_tokens.size):
        stride = views.stride[s]
        for rank in range(work.trial[0, s], work.trial[1, s]):
            index = pointer_at(views, s, rank) + length
            if knobs.filtered and not has_class(classes_T, stride, index, group):
                continue
            if conditional and not may_decide(search, step, length, s, index):
                continue
            if knobs.count_documents:
                document = locate_next(views, s, index)[0]
                if work.stamps[document] == work.clock[0]:
                    continue
                work.stamps[document] = work.clock[0]
            found += 1
            if found >= step.needed:
                return True
    return False


# --------------------------------------------------------------- contexts that all may continue


@njit(inline="always", counts=False)
def _is_separator(views: ShardViews, s: Int, rank: Int, depth: Int) -> bool:
    """Whether the token behind ``depth`` ones is a separator; it is read if places do not tell."""
    index = pointer_at(views, s, rank) + depth
    if views.stride[s] > 0:
        return bool(np.uint64(index) % np.uint64(views.stride[s]) == 0)
    return bool(token_at(views, s, index) == _EOS)


@njit(cache=True, nogil=True, counts=False)
def _try_length(
    search: Search, sides: Sides, memo: Memo, work: Work, step: Step, length: Int
) -> Int:
    """Find the last ``length`` tokens before the step; on success keep their intervals.

    Returns the memo's entry; -1 when supported but not in the memo; -2 when not supported.
    """
    views, knobs, _ = search
    entry = recall(memo, views, step, length, np.int64(knobs.classes[step.t]))
    if entry >= 0:  # only supported contexts are remembered
        copy_ranks(memo.intervals[entry], work.kept)
        return entry
    find_contexts(search, sides, work, step, length)
    for s in range(views.num_tokens.size):
        lo, hi = work.trial[0, s], work.trial[1, s]
        if lo < hi:
            table, width = views.table_address[s], views.pointer_width[s]
            prefetch(table + np.uint64(width * lo))
            prefetch(table + np.uint64(width * (hi - 1)))
    # Separators sort last. An empty context says nothing of an end, so there they never count.
    ends = knobs.ends and length > 0
    for s in range(views.num_tokens.size):
        lo, hi = work.trial[0, s], work.trial[1, s]
        if lo == hi:
            continue
        lo = continued(views, s, lo, hi, length)
        if lo < hi and not ends and _is_separator(views, s, hi - 1, length):
            hi = upper_bound(views, s, lo, hi, length, sort_key(_EOS) - 1)
        work.trial[0, s], work.trial[1, s] = lo, hi
    if length > 0 and not _supported(search, work, step, length):
        return _TOO_FEW
    copy_ranks(work.trial, work.kept)
    return _UNKNOWN


@njit(cache=True, nogil=True, counts=False)
def longest(
    search: Search, sides: Sides, memo: Memo, work: Work, step: Step, previous: Int
) -> tuple[Int, Int]:
    """Find the longest supported context; return its length and its memo entry (or -1).

    Support never grows with the length, so: try one token more than ``previous``, the length at
    the step before, then gallop up or down and bisect.
    """
    knobs, t = search.knobs, step.t
    limit = min(np.int64(knobs.limits[t]), t + 1)
    good, bad = np.int64(0), limit + 1
    length = min(limit, previous + 1)
    entry = _try_length(search, sides, memo, work, step, length)
    jump = 1
    if entry != _TOO_FEW:
        good = length
        if knobs.shifts and t > 0 and previous < min(np.int64(knobs.limits[t - 1]), t):
            return good, entry  # one token more had too few candidates for the token before
        while good < limit and bad > limit:  # up, until a length fails
            length = min(good + jump, limit)
            tried = _try_length(search, sides, memo, work, step, length)
            if tried == _TOO_FEW:
                bad = length
            else:
                good, entry, jump = length, tried, 2 * jump
    else:
        while entry == _TOO_FEW:  # down, to the empty context at the latest
            bad, length = length, max(length - jump, 0)
            entry = _try_length(search, sides, memo, work, step, length)
            jump *= 2
        good = length
    while bad - good > 1:
        length = (good + bad) >> 1
        tried = _try_length(search, sides, memo, work, step, length)
        if tried == _TOO_FEW:
            bad = length
        else:
            good, entry = length, tried
    return good, entry


# --------------------------------------------------------------- contexts that some may continue


@njit(cache=True, nogil=True, counts=False)
def longest_rare(
    search: Search, sides: Sides, memo: Memo, work: Work, step: Step, most: Int, top: Int
) -> tuple[Int, Int]:
    """Find the longest supported context, if it has ``most`` places at most; else :data:`COMMON`.

    Where a context is rarer than the documents that may decide, its places are fewer than theirs.
    Keeps its intervals. Places and support never grow with the length: gallop down from ``top``,
    the longest there may be, then bisect.

    Returns:
        Its length, and its entry in the memo (or -1).
    """
    good, bad, length, jump = np.int64(-1), top + 1, top, np.int64(1)
    entry, group = np.int64(-1), np.int64(search.knobs.classes[step.t])
    while good < 0 or bad - good > 1:
        found = recall(memo, search.views, step, length, group)
        if found >= 0:  # only supported ones, with few enough places, are remembered
            good, entry = length, found
            copy_ranks(memo.intervals[entry], work.kept)
        else:
            find_contexts(search, sides, work, step, length)
            if num_places(work.trial) > most:  # shorter ones have more: look at each document
                return np.int64(COMMON), np.int64(-1)
            if _supported(search, work, step, length):
                good, entry = length, np.int64(-1)
                copy_ranks(work.trial, work.kept)
            else:
                bad = length
        if good < 0:
            if length == 0:
                return np.int64(COMMON), np.int64(-1)
            length, jump = max(length - jump, 0), 2 * jump
        else:
            length = (good + bad) >> 1
    return good, entry


# ------------------------------------------------------------------- candidates of kept intervals


@njit(inline="always", counts=False)
def _jumps(search: Search, step: Step) -> bool:
    """Whether all places of a token are candidates and lie side by side: one look for all of them.

    In a coarse table neighbours share a coarse token only.
    """
    every = not search.knobs.filtered and not is_conditional(step)
    return bool(every and search.rules.divisor == 1)


@njit(cache=True, nogil=True, counts=False)
def _list_groups(
    search: Search, sides: Sides, work: Work, s: Int, length: Int, listed: Int
) -> tuple[Int, bool]:
    """List the groups of next tokens of a kept interval, which are all candidates.

    Returns:
        How many are listed now, of all shards; and whether there was room for them.
    """
    groups, walk = work.groups, walk_of(search.views, sides, s)
    since, hi = work.kept[0, s], work.kept[1, s]
    while since < hi:
        if listed == groups.shape[1]:
            return listed, False
        end = min(interval_end(walk, since, length + 1), hi)
        groups[OWNER, listed], groups[START, listed] = s, since
        groups[COUNT, listed] = end - since
        listed, since = listed + 1, end
    return listed, True


@njit(cache=True, nogil=True, counts=False)
def _count_listed(views: ShardViews, work: Work, listed: Int, length: Int) -> Int:
    """Count the listed groups; return how many distinct tokens they have.

    Loops over all groups, each of one kind of memory, wait for all cache misses at once.
    """
    groups, num_distinct = work.groups, np.int64(0)
    for k in range(listed):
        s = groups[OWNER, k]
        prefetch(views.table_address[s] + np.uint64(views.pointer_width[s] * groups[START, k]))
    for k in range(listed):
        groups[NEXT, k] = pointer_at(views, groups[OWNER, k], groups[START, k]) + length
    for k in range(listed):
        prefetch(views.token_address[groups[OWNER, k]] + np.uint64(2 * groups[NEXT, k]))
    for k in range(listed):
        named = token_at(views, groups[OWNER, k], groups[NEXT, k])
        groups[NEXT, k] = named
        num_distinct = tally(work, num_distinct, named, groups[COUNT, k])
    return num_distinct


@njit(cache=True, nogil=True, counts=False)
def _count_groups(search: Search, sides: Sides, work: Work, length: Int) -> Int:
    """Count the next tokens of kept intervals, which are all candidates, from shared lengths.

    The groups stay listed, unless there is no room for them.
    """
    listed, distinct = np.int64(0), np.int64(0)
    for s in range(work.kept.shape[1]):
        if work.kept[0, s] < work.kept[1, s]:
            prefetch(sides.lcp[s] + np.uint64(2 * work.kept[0, s]))
    for s in range(work.kept.shape[1]):
        listed, fits = _list_groups(search, sides, work, s, length, listed)
        if not fits:
            return np.int64(-1)
    distinct = _count_listed(search.views, work, listed, length)
    work.state[LISTED] = listed
    return distinct


@njit(cache=True, nogil=True, counts=False)
def count_next(search: Search, sides: Sides, work: Work, step: Step, length: Int) -> Int:
    """Count the candidates of the kept intervals by token into ``work``; return the distinct."""
    views, knobs, rules = search
    classes_T, group = knobs.classes, knobs.classes[step.t]
    num_distinct, conditional = np.int64(0), is_conditional(step)
    jumps = _jumps(search, step)
    work.state[LISTED] = 0
    if jumps and sides.ordered:
        counted = _count_groups(search, sides, work, length)
        if counted >= 0:
            sort_tally(work, counted)
            return counted
    for s in range(views.num_tokens.size):
        rank, hi, stride = work.kept[0, s], work.kept[1, s], views.stride[s]
        while rank < hi:
            index, end = pointer_at(views, s, rank) + length, rank + 1
            if jumps:
                end = group_end(views, s, rank, hi, length, key_at(views, s, index))
            if (not knobs.filtered or has_class(classes_T, stride, index, group)) and (
                not conditional or may_decide(search, step, length, s, index)
            ):
                named = written_at(rules, s, index)
                num_distinct = tally(work, num_distinct, named, end - rank)
            rank = end
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True, counts=False)
def nth_place(
    search: Search, work: Work, step: Step, length: Int, wanted: Int, number: Int
) -> tuple[Int, Int]:
    """Return shard and stream index of candidate ``number`` of those with ``wanted``."""
    views, knobs, rules = search
    classes_T, group = knobs.classes, knobs.classes[step.t]
    jumps, conditional = _jumps(search, step), is_conditional(step)
    for s in range(views.num_tokens.size):
        lo, hi, stride = work.kept[0, s], work.kept[1, s], views.stride[s]
        if lo < hi:  # the next step goes on from what is narrowed here
            lo, hi = narrow_last(views, knobs.aligned, work, s, coarse_of(rules, wanted))
        if jumps:
            if number < hi - lo:
                return s, pointer_at(views, s, lo + number) + length
            number -= hi - lo
            continue
        for rank in range(lo, hi):
            index = pointer_at(views, s, rank) + length
            if knobs.filtered and not has_class(classes_T, stride, index, group):
                continue
            if written_at(rules, s, index) != wanted:
                continue
            if not conditional or may_decide(search, step, length, s, index):
                if number == 0:
                    return s, index
                number -= 1
    return np.int64(-1), np.int64(-1)
