"""Contexts whose places are checked one by one: few of them lie in documents that may decide.

Where a context is rarer than these documents, its places are fewer than theirs. So a step of
``search/kernel.py`` looks here first, and then at the documents one by one (``by_document.py``).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Documents, Knobs, Work, sort_tally, tally
from imagegram.generators.ngram.search.intervals import find_context, locate
from imagegram.generators.ngram.search.voters import Rules, begins, coarse_of, written_at
from imagegram.indexes.kernels.search import Int, ShardViews, narrow, pointer_at

_EOS: Final = 65535
#: No context was found so: it is common, or needs more places than it has.
COMMON: Final = -1


@njit(cache=True, nogil=True)
def admits(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    history: NDArray[np.uint16],
    t: Int,
    anchor: Int,
    label: Int,
    length: Int,
    s: Int,
    index: Int,
) -> bool:
    """Whether a token of the corpus may stand at position ``t``, behind ``length`` given ones."""
    if index >= views.num_tokens[s]:
        return False
    if written_at(rules, s, index) == _EOS and not (knobs.ends and length > 0):
        return False
    document, position = locate(documents, views, s, index)
    if (knobs.filtered or rules.in_place) and knobs.classes[position] != knobs.classes[t]:
        return False
    if label >= 0 and rules.labels[views.first_document[s] + document] != label:
        return False
    return bool(begins(views, s, index - position - 1, history, anchor))


@njit(cache=True, nogil=True)
def longest_rare(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    anchor: Int,
    label: Int,
    needed: Int,
    most: Int,
) -> Int:
    """Longest supported suffix, when it has ``most`` places at most in all; else :data:`COMMON`.

    Keeps its intervals. Places and support never grow with the length: gallop down, then bisect.
    """
    limit = min(np.int64(knobs.limits[t]), t + 1)
    good, bad, length, step = np.int64(-1), limit + 1, limit, np.int64(1)
    while good < 0 or bad - good > 1:
        places = np.int64(0)
        for s in range(views.num_tokens.size):
            lo, hi = find_context(views, knobs, s, history, t, length)
            work.trial[0, s], work.trial[1, s] = lo, hi
            places += hi - lo
        if places > most:  # looking at each document is cheaper; shorter ones have more places
            return np.int64(COMMON)
        if _supported(
            views, documents, knobs, rules, work, history, t, anchor, label, length, needed
        ):
            good = length
            work.kept[:] = work.trial
        else:
            bad = length
        if good < 0:
            if length == 0:
                return np.int64(COMMON)
            length, step = max(length - step, 0), 2 * step
        else:
            length = (good + bad) >> 1
    return good


@njit(cache=True, nogil=True)
def _supported(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    anchor: Int,
    label: Int,
    length: Int,
    needed: Int,
) -> bool:
    """Whether the trial intervals hold as many candidates as a context needs."""
    found = 0
    work.clock[0] += 1
    for s in range(views.num_tokens.size):
        for rank in range(work.trial[0, s], work.trial[1, s]):
            index = pointer_at(views, s, rank) + length
            if not admits(
                views, documents, knobs, rules, history, t, anchor, label, length, s, index
            ):
                continue
            if rules.count_documents:
                document = views.first_document[s] + locate(documents, views, s, index)[0]
                if work.stamps[document] == work.clock[0]:
                    continue
                work.stamps[document] = work.clock[0]
            found += 1
            if found >= needed:
                return True
    return False


@njit(cache=True, nogil=True)
def count_rare(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    anchor: Int,
    label: Int,
    length: Int,
) -> Int:
    """Count the tokens of candidates in the kept intervals; returns how many are distinct."""
    num_distinct = np.int64(0)
    for s in range(views.num_tokens.size):
        for rank in range(work.kept[0, s], work.kept[1, s]):
            index = pointer_at(views, s, rank) + length
            if admits(views, documents, knobs, rules, history, t, anchor, label, length, s, index):
                num_distinct = tally(work, num_distinct, written_at(rules, s, index), 1)
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def nth_rare(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    anchor: Int,
    label: Int,
    length: Int,
    token: Int,
    number: Int,
) -> tuple[Int, Int]:
    """Shard and stream index of a candidate among those in the kept intervals with ``token``."""
    for s in range(views.num_tokens.size):
        lo, hi = work.kept[0, s], work.kept[1, s]
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, length, coarse_of(rules, token))
        for rank in range(lo, hi):
            index = pointer_at(views, s, rank) + length
            if written_at(rules, s, index) == token and admits(
                views, documents, knobs, rules, history, t, anchor, label, length, s, index
            ):
                if number == 0:
                    return s, index
                number -= 1
    return np.int64(-1), np.int64(-1)
