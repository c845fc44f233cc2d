"""Contexts that all documents may continue: their intervals, found by searches.

Each token extends the interval of the context before it where that is possible, and searches
again where the window slides or too few places are left. Frequent contexts are answered from the
thread's memo. Parts of a step of ``search/kernel.py``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import (
    Documents,
    Knobs,
    Rows,
    Work,
    sort_tally,
    tally,
)
from imagegram.generators.ngram.search.memo import Memo, recall
from imagegram.indexes.kernels.search import (
    Int,
    ShardViews,
    continued,
    find,
    group_end,
    narrow,
    pointer_at,
    sort_key,
    token_at,
    upper_bound,
)

_EOS: Final = 65535
_UNKNOWN: Final = -1
_TOO_FEW: Final = -2
#: Shorter contexts occur in most shards.
_SHORTEST_PROBE: Final = 6


@njit(cache=True, nogil=True)
def locate(documents: Documents, views: ShardViews, s: Int, index: Int) -> tuple[Int, Int]:
    """Document inside the shard, and position inside the document, of a token of the stream.

    A separator is the end of the document before it, at the position behind its last token.
    """
    stride = documents.stride[s]
    if stride > 0:
        return (index - 1) // stride, (index - 1) % stride
    first = documents.first_start[s]
    starts = documents.starts[first : first + views.num_documents[s]]
    document = np.searchsorted(starts, index) - 1
    return document, index - starts[document] - 1


@njit(inline="always")
def has_class(documents: Documents, knobs: Knobs, group: Int, s: Int, index: Int) -> bool:
    """Whether a place of the corpus has the class of the new token."""
    if not knobs.filtered:
        return True
    return bool(knobs.classes[index % documents.stride[s] - 1] == group)


@njit(cache=True, nogil=True)
def _supported(
    views: ShardViews, documents: Documents, knobs: Knobs, work: Work, depth: Int, group: Int
) -> bool:
    """Whether the trial intervals hold as many candidates as a context needs."""
    found = 0
    if not knobs.filtered and not knobs.count_documents:
        for s in range(views.num_tokens.size):
            found += work.trial[1, s] - work.trial[0, s]
        return found >= knobs.needed
    work.clock[0] += 1  # a new time: no document is stamped with it yet
    for s in range(views.num_tokens.size):
        for rank in range(work.trial[0, s], work.trial[1, s]):
            index = pointer_at(views, s, rank) + depth
            if not has_class(documents, knobs, group, s, index):
                continue
            if knobs.count_documents:
                document = views.first_document[s] + locate(documents, views, s, index)[0]
                if work.stamps[document] == work.clock[0]:
                    continue
                work.stamps[document] = work.clock[0]
            found += 1
            if found >= knobs.needed:
                return True
    return False


@njit(cache=True, nogil=True)
def _try_length(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    memo: Memo,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    grown: bool,
) -> Int:
    """Find the last ``length`` tokens before position ``t``; on success keep their intervals.

    ``grown`` says that the kept intervals are those of this context without its last token.
    Returns the memo's entry; -1 when supported but not in the memo; -2 when not supported.
    """
    group = knobs.classes[t]
    entry = recall(memo, views, history, t + 1, length, group)
    if entry >= 0:  # only supported contexts are remembered
        work.kept[:] = memo.intervals[entry]
        return entry
    for s in range(views.num_tokens.size):
        lo, hi = np.int64(0), np.int64(0)
        if grown:
            if work.kept[0, s] < work.kept[1, s]:
                lo, hi = narrow(
                    views, s, work.kept[0, s], work.kept[1, s], length - 1, np.int64(history[t])
                )
        elif work.longest[s] >= length:  # a shard that lacks a shorter context is not asked
            lo, hi = find_context(views, knobs, s, history, t, length)
            if lo == hi:
                _shorten(views, knobs, work, history, t, s, length)
        lo = continued(views, s, lo, hi, length)
        # Separators sort last. An empty context says nothing of an end, so there they never count.
        ends = knobs.ends and length > 0
        if (
            lo < hi
            and not ends
            and token_at(views, s, pointer_at(views, s, hi - 1) + length) == _EOS
        ):
            hi = upper_bound(views, s, lo, hi, length, sort_key(_EOS) - 1)
        work.trial[0, s], work.trial[1, s] = lo, hi
    if length > 0 and not _supported(views, documents, knobs, work, length, group):
        return _TOO_FEW
    work.kept[:] = work.trial
    return _UNKNOWN


@njit(cache=True, nogil=True)
def find_context(
    views: ShardViews, knobs: Knobs, s: Int, history: NDArray[np.uint16], t: Int, length: Int
) -> tuple[Int, Int]:
    """Ranks of shard ``s`` that begin with the last ``length`` tokens before position ``t``."""
    if not knobs.aligned:
        return find(views, s, history, t + 1 - length, t + 1)
    # The aligned table holds one suffix a document for each position, the separator's first.
    lo = (t + 1 - length) * views.num_documents[s]
    hi = lo + views.num_documents[s]
    for depth in range(length):
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, depth, np.int64(history[t + 1 - length + depth]))
    return lo, hi


@njit(cache=True, nogil=True)
def _shorten(
    views: ShardViews,
    knobs: Knobs,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    s: Int,
    length: Int,
) -> None:
    """Note that shard ``s`` lacks the last ``length`` tokens; perhaps it lacks half of them too.

    A match grows by at most one with every token, so each token saved here is one search of this
    shard saved later. While one image is copied, all other shards are asked once in a while only.
    """
    work.longest[s] = length - 1
    half = length // 2
    if half >= _SHORTEST_PROBE:
        lo, hi = find_context(views, knobs, s, history, t, half)
        if lo == hi:
            work.longest[s] = half - 1


@njit(cache=True, nogil=True)
def longest(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    memo: Memo,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    previous: Int,
) -> tuple[Int, Int]:
    """Longest supported suffix before position ``t`` and its memo entry (or -1).

    Support never grows with the length, so: try one token more than last time, then gallop up or
    down and bisect.
    """
    limit = min(np.int64(knobs.limits[t]), t + 1)
    good, bad = np.int64(0), limit + 1
    length = min(limit, previous + 1)
    entry = _try_length(
        views, documents, knobs, memo, work, history, t, length, t > 0 and length == previous + 1
    )
    step = 1
    if entry != _TOO_FEW:
        good = length
        if knobs.shifts and t > 0 and previous < min(np.int64(knobs.limits[t - 1]), t):
            return good, entry  # one token more had too few candidates for the token before
        while good < limit and bad > limit:  # up, until a length fails
            length = min(good + step, limit)
            tried = _try_length(views, documents, knobs, memo, work, history, t, length, False)
            if tried == _TOO_FEW:
                bad = length
            else:
                good, entry, step = length, tried, 2 * step
    else:
        while entry == _TOO_FEW:  # down, to the empty context at the latest
            bad, length = length, max(length - step, 0)
            entry = _try_length(views, documents, knobs, memo, work, history, t, length, False)
            step *= 2
        good = length
    while bad - good > 1:
        length = (good + bad) >> 1
        tried = _try_length(views, documents, knobs, memo, work, history, t, length, False)
        if tried == _TOO_FEW:
            bad = length
        else:
            good, entry = length, tried
    return good, entry


@njit(cache=True, nogil=True)
def count_next(
    views: ShardViews, documents: Documents, knobs: Knobs, work: Work, depth: Int, group: Int
) -> Int:
    """Count the next tokens of the kept intervals into ``work``; returns how many are distinct."""
    num_distinct = 0
    for s in range(views.num_tokens.size):
        rank, hi = work.kept[0, s], work.kept[1, s]
        while rank < hi:
            index = pointer_at(views, s, rank) + depth
            token, end = token_at(views, s, index), rank + 1
            if not knobs.filtered:  # all places of a token are candidates: jump to its end
                end = group_end(views, s, rank, hi, depth, sort_key(token))
            if has_class(documents, knobs, group, s, index):
                num_distinct = tally(work, num_distinct, token, end - rank)
            rank = end
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def nth_place(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    work: Work,
    depth: Int,
    group: Int,
    token: Int,
    number: Int,
) -> tuple[Int, Int]:
    """Shard and stream index of candidate ``number`` among those that hold ``token``."""
    for s in range(views.num_tokens.size):
        lo, hi = work.kept[0, s], work.kept[1, s]
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, depth, token)
        if not knobs.filtered:
            if number < hi - lo:
                return s, pointer_at(views, s, lo + number) + depth
            number -= hi - lo
            continue
        for rank in range(lo, hi):
            index = pointer_at(views, s, rank) + depth
            if has_class(documents, knobs, group, s, index):
                if number == 0:
                    return s, index
                number -= 1
    return -1, -1


@njit(cache=True, nogil=True)
def note_source(
    views: ShardViews, documents: Documents, rows: Rows, b: Int, t: Int, s: Int, index: Int
) -> None:
    """Write where a token was taken from."""
    document, position = locate(documents, views, s, index)
    rows.source_document[b, t] = views.first_document[s] + document
    rows.source_position[b, t] = position
