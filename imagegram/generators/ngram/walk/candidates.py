"""The places of an interval that are candidates, and whether they are enough.

All tokens that follow a context are, when places of any class may continue it and places are
counted: then counts come from ranks alone (``memo.count_groups``). With ``matching`` ``channel`` or
``level`` a place must have the class of the new token, so its table entry is read; and with
``count_documents`` the documents of the places are told apart. Large intervals are looked through
once, and remembered. Defined by ``generators/ngram/reference.py``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs
from imagegram.generators.ngram.walk.bounds import interval_start
from imagegram.generators.ngram.walk.memo import (
    END,
    START,
    Memo,
    forget,
    name_groups,
    recall,
    sort_groups,
)
from imagegram.generators.ngram.walk.order import (
    Walk,
    ends_stream,
    is_separator,
    lcp,
    locate,
    place_at,
)
from imagegram.indexes.kernels.search import Int

#: Ranks from one remembered number of admitted candidates to the next.
MARK: Final = 512
_MARKS_PER_ENTRY: Final = 16


class Sieve(NamedTuple):
    """The memo's other half, where candidates are not simply all places of an interval.

    Kernels get None instead where they are, and are compiled without all this then.

    Attributes:
        run: (G,) int64 ranks of each group of the memo, admitted or not.
        opens: (E,) bool whether a candidate of an entry of the memo begins its level.
        marked: (E,) int64 where its marks begin.
        used: (1,) int64 marks.
        marks: (M,) int64 admitted candidates before each ``MARK``-th rank of an interval.
        stamps: (N,) int64 when each document was last counted.
        clock: (1,) int64.
    """

    run: NDArray[np.int64]
    opens: NDArray[np.bool_]
    marked: NDArray[np.int64]
    used: NDArray[np.int64]
    marks: NDArray[np.int64]
    stamps: NDArray[np.int64]
    clock: NDArray[np.int64]


def make_sieve(walk: Walk, knobs: Knobs, memo: Memo) -> Sieve | None:
    """Make what goes with an empty memo: 8 bytes a document, a group and a mark."""
    if not knobs.filtered and not knobs.count_documents:
        return None
    entries = memo.entropy.size
    # Four times what the largest interval takes: there are few of that size.
    marks = max(entries * _MARKS_PER_ENTRY, 4 * (walk.num_tokens // MARK + 1))
    return Sieve(
        run=np.empty(memo.first.size, dtype=np.int64),
        opens=np.zeros(entries, dtype=np.bool_),
        marked=np.zeros(entries, dtype=np.int64),
        used=np.zeros(1, dtype=np.int64),
        marks=np.empty(marks, dtype=np.int64),
        stamps=np.zeros(walk.num_documents, dtype=np.int64),
        clock=np.zeros(1, dtype=np.int64),
    )


@njit(inline="always", cache=True, counts=False)
def _slot(walk: Walk, place: Int) -> Int:
    """Return the index in the document, of equally long ones; 0 is the separator before it."""
    return np.int64(np.uint64(place) % np.uint64(walk.stride))


@njit(inline="always", cache=True, counts=False)
def _admits(knobs: Knobs, slot: Int, group: Int) -> bool:
    """Whether the token at an index of a document has the class of the new token."""
    return bool((slot > 0) & (knobs.classes[slot - 1] == group))


@njit(inline="always", cache=True, counts=False)
def _first_candidate(walk: Walk, lo: Int, length: Int) -> Int:
    """Return the first rank with a token after ``length`` ones."""
    return lo + 1 if ends_stream(walk, lo, length) else lo


@njit(cache=True, nogil=True, counts=False)
def _candidates(walk: Walk, knobs: Knobs, lo: Int, hi: Int, length: Int) -> tuple[Int, Int]:
    """Return the ranks of an interval, of at least one token of context, with a candidate.

    The separator sorts last among next tokens; a suffix that ends with the stream sorts first.
    """
    if lo == hi or walk.aligned:
        return lo, hi
    lo = _first_candidate(walk, lo, length)
    if lo < hi and not knobs.ends and is_separator(walk, place_at(walk, hi - 1) + length):
        hi = max(lo, interval_start(walk, hi - 1, length + 1))
    return lo, hi


@njit(cache=True, nogil=True, counts=False)
def supported(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    lo: Int,
    hi: Int,
    length: Int,
    group: Int,
) -> bool:
    """Whether an interval of a context of at least one token holds enough candidates.

    ``group`` is the class of the new token; 0 when all are admitted.
    """
    if hi - lo < knobs.needed:
        return False
    if sieve is None:
        first, end = _candidates(walk, knobs, lo, hi, length)
        return bool(end - first >= knobs.needed)
    if hi - lo >= memo.frequent:
        entry = recall(memo, lo, length, group)
        if entry >= 0:
            return bool(memo.entries[entry, START] < memo.entries[entry, END])
    return enough(walk, knobs, sieve, lo, hi, length, group)


@njit(cache=True, nogil=True, counts=False)
def enough(
    walk: Walk, knobs: Knobs, sieve: Sieve, lo: Int, hi: Int, length: Int, group: Int
) -> bool:
    """Look through an interval until as many candidates, or documents of them, are found."""
    found = 0
    sieve.clock[0] += 1
    if knobs.filtered:
        lo = _first_candidate(walk, lo, length)
    else:
        lo, hi = _candidates(walk, knobs, lo, hi, length)
    for rank in range(lo, hi):
        place = place_at(walk, rank) + length
        if knobs.filtered and not _admits(knobs, _slot(walk, place), group):
            continue
        if knobs.count_documents:
            document = locate(walk, place)[0]
            if sieve.stamps[document] == sieve.clock[0]:
                continue
            sieve.stamps[document] = sieve.clock[0]
        found += 1
        if found >= knobs.needed:
            return True
    return False


@njit(cache=True, nogil=True, counts=False)
def make_room(memo: Memo, sieve: Sieve, size: Int) -> Int:
    """Find room for the marks of ``size`` places, after ``memo.room`` for their groups."""
    if sieve.used[0] + size // MARK + 1 > sieve.marks.size:
        forget(memo)
    if memo.used[0] == 0:
        sieve.used[0] = 0
    return memo.used[1]


@njit(cache=True, nogil=True)
def count_admitted(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve,
    start: Int,
    lo: Int,
    hi: Int,
    length: Int,
    group: Int,
    named: bool,
) -> tuple[Int, Int]:
    """Write the groups of next tokens of a class, like ``memo.count_groups``; and the marks.

    Groups without candidates are left out: that of the separator is one.

    Returns:
        Number of groups, written from ``start`` on, and candidates in all of them.
    """
    opening = -1 if knobs.shifts else np.searchsorted(knobs.classes, group) + 1
    lo = _first_candidate(walk, lo, length)
    end, marked, total, opens = start, sieve.used[0], np.int64(0), False
    rank, next_mark = lo, lo
    while rank < hi:
        since, before = rank, total
        while True:
            if rank == next_mark:
                sieve.marks[marked] = total
                marked, next_mark = marked + 1, rank + MARK
            slot = _slot(walk, place_at(walk, rank) + length)
            total += _admits(knobs, slot, group)
            opens |= slot == opening
            rank += 1
            if rank == hi or lcp(walk, rank) <= length:
                break
        if total > before:
            memo.first[end], sieve.run[end], memo.places[end] = since, rank - since, total - before
            end += 1
    entry = memo.used[0]
    sieve.opens[entry], sieve.marked[entry] = opens, sieve.used[0]
    if named:
        name_groups(walk, memo, start, end, length)
        if not walk.ascending:
            sieve.run[start:end] = sieve.run[sort_groups(memo, start, end)]
    return end - start, total


@njit(cache=True, nogil=True, counts=False)
def nth_admitted(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve,
    entry: Int,
    lo: Int,
    chosen: Int,
    length: Int,
    group: Int,
    number: Int,
) -> Int:
    """Return the rank of candidate ``number`` of a group; the interval begins at ``lo``."""
    rank, run = memo.first[chosen], sieve.run[chosen]
    if run > MARK:
        lo = _first_candidate(walk, lo, length)
        marks = sieve.marks[sieve.marked[entry] :]
        # Bisect for the last mark with at most ``number`` candidates before it.
        block, last = (rank - lo) // MARK, (rank + run - 1 - lo) // MARK
        number += marks[block]  # from here on among all candidates of the interval
        for r in range(lo + block * MARK, rank):
            number += _admits(knobs, _slot(walk, place_at(walk, r) + length), group)
        while block < last:
            middle = (block + last + 1) >> 1
            if marks[middle] <= number:
                block = middle
            else:
                last = middle - 1
        number -= marks[block]
        rank = lo + block * MARK
    while True:
        if _admits(knobs, _slot(walk, place_at(walk, rank) + length), group):
            if number == 0:
                return rank
            number -= 1
        rank += 1
