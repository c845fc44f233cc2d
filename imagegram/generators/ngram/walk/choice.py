"""The next token of an image, from the interval of its context.

A step of ``generators/ngram/walk/kernel.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs, which
from imagegram.generators.ngram.philox import uniforms
from imagegram.generators.ngram.walk.candidates import (
    MARK,
    Sieve,
    count_admitted,
    enough,
    make_room,
    nth_admitted,
)
from imagegram.generators.ngram.walk.context import (
    DONE,
    INTERVAL,
    class_at,
    goes_on,
    search_context,
    shorten_context,
)
from imagegram.generators.ngram.walk.memo import (
    CANDIDATES,
    END,
    START,
    Memo,
    count_groups,
    distribute,
    recall,
    remember,
    room,
)
from imagegram.generators.ngram.walk.order import (
    ANCHOR,
    DISTINCT,
    ENTROPY,
    FIRST,
    FREE,
    GROWN,
    LAST,
    LENGTH,
    MOVED,
    PLACE,
    POSITION,
    PROBABILITY,
    RANK,
    SIZE,
    TOKEN,
    TOTAL,
    Block,
    Walk,
    Walkers,
    place_at,
    token,
)
from imagegram.indexes.kernels.search import Int


@njit(cache=True, nogil=True, counts=False)
def copy_next(walk: Walk, walkers: Walkers, block: Block, w: Int) -> None:
    """Take the only next token there is."""
    numbers = walkers.numbers
    place = numbers[PLACE, w] + 1
    only = token(walk, place)
    numbers[TOTAL, w], numbers[DISTINCT, w], numbers[SIZE, w] = 1, 1, 1
    walkers.reals[PROBABILITY, w], walkers.reals[ENTROPY, w] = 1.0, 0.0
    if block.forced and numbers[TOKEN, w] != FREE and numbers[TOKEN, w] != only:
        walkers.reals[PROBABILITY, w] = 0.0
        numbers[PLACE, w], numbers[ANCHOR, w] = -1, place
        return
    numbers[TOKEN, w], numbers[PLACE, w] = only, place
    numbers[POSITION, w] += 1


@njit(inline="always", cache=True, counts=False)
def choose_next(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    walkers: Walkers,
    block: Block,
    t: Int,
    w: Int,
) -> Int:
    """Choose the next token of an interval, or shorten a context with too few candidates."""
    numbers, reals = walkers.numbers, walkers.reals
    lo, hi, length = numbers[FIRST, w], numbers[LAST, w], numbers[LENGTH, w]
    if length > 0 and hi - lo < knobs.needed:  # places bound candidates from above
        numbers[LENGTH, w] = length - 1
        return shorten_context(walk, knobs, sieve, numbers, t, w)
    group, entry = class_at(knobs, sieve, t), np.int64(-1)
    if hi - lo >= memo.frequent:
        entry = recall(memo, lo, length, group)
    if entry >= 0:
        start, end = memo.entries[entry, START], memo.entries[entry, END]
        total, bits = memo.entries[entry, CANDIDATES], memo.entropy[entry]
    else:
        entry, start, end, total, bits = _count(
            walk, knobs, memo, sieve, lo, hi, length, group, block.forced
        )
    if start == end:  # too few candidates
        numbers[LENGTH, w] = length - 1
        return shorten_context(walk, knobs, sieve, numbers, t, w)
    if sieve is not None and _may_grow(knobs, sieve, numbers, t, w, entry):
        limit = min(np.int64(knobs.limits[t]), t + 1)
        search_context(walk, knobs, memo, sieve, walkers, t, limit, w)
        return INTERVAL
    numbers[TOTAL, w], numbers[DISTINCT, w], reals[ENTROPY, w] = total, end - start, bits
    first, second = uniforms(block.seed, block.samples[block.start + w], t)
    if block.forced and numbers[TOKEN, w] != FREE:
        chosen = _named(memo, start, end, numbers[TOKEN, w])
        if chosen == end:
            reals[PROBABILITY, w] = 0.0
            numbers[PLACE, w], numbers[MOVED, w] = -1, 0
            numbers[ANCHOR, w] = place_at(walk, lo) + length
            return DONE
    elif entry < memo.used[0]:
        chosen = _draw_known(memo, start, end, first)
    else:
        chosen = _draw(memo, start, end, first)
    reals[PROBABILITY, w] = memo.probability[chosen]
    _leave(walk, knobs, memo, sieve, numbers, t, w, entry, chosen, group, second)
    return DONE


@njit(cache=True, nogil=True, counts=False)
def _may_grow(
    knobs: Knobs, sieve: Sieve, numbers: NDArray[np.int64], t: Int, w: Int, entry: Int
) -> bool:
    """Whether a context with more than one token more than the last may have candidates.

    A candidate for it is one that begins its level: the place before any other was a candidate for
    the token before, and then its context would have been longer. All of them are here too.
    """
    limit = min(np.int64(knobs.limits[t]), t + 1)
    return bool(numbers[GROWN, w] and sieve.opens[entry] and numbers[LENGTH, w] < limit)


@njit(inline="always", cache=True, counts=False)
def _leave(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    numbers: NDArray[np.int64],
    t: Int,
    w: Int,
    entry: Int,
    chosen: Int,
    group: Int,
    uniform: float,
) -> None:
    """Go on at the place after the last one, when the chosen group holds it, or move to another."""
    lo, length, rank = numbers[FIRST, w], numbers[LENGTH, w], numbers[RANK, w]
    begin, size = memo.first[chosen], memo.places[chosen]
    run = size
    if sieve is not None and knobs.filtered:
        run = sieve.run[chosen]
    numbers[FIRST, w], numbers[LAST, w], numbers[SIZE, w] = begin, begin + run, run
    # The place after the last one precedes this token too when its rank lies in the group.
    stays = begin <= rank < begin + run
    if sieve is not None and stays:
        stays = goes_on(walk, knobs, sieve, numbers, t, w)
    if stays:
        numbers[MOVED, w] = 0
        numbers[PLACE, w] += 1
        numbers[POSITION, w] += 1
        numbers[TOKEN, w] = token(walk, numbers[PLACE, w])
    else:
        numbers[MOVED, w] = 1
        number = which(size, uniform)
        rank = begin + number
        if sieve is not None and knobs.filtered:
            rank = nth_admitted(walk, knobs, memo, sieve, entry, lo, chosen, length, group, number)
        numbers[RANK, w] = rank


@njit(inline="always", cache=True, counts=False)
def _count(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    lo: Int,
    hi: Int,
    length: Int,
    group: Int,
    forced: bool,
) -> tuple[Int, Int, Int, Int, float]:
    """Count the next tokens of an interval's candidates, and remember those of a large one.

    Returns:
        Entry (of what is not remembered, the next one), start and end of the groups, candidates in
        all of them, and entropy. Without groups when a context of at least one token has too few.
    """
    start, bits, named = room(memo, hi - lo), 0.0, forced or not walk.ascending
    if sieve is not None:
        start = make_room(memo, sieve, hi - lo)
    entry = memo.used[0]
    if sieve is not None and knobs.filtered:
        distinct, total = count_admitted(
            walk, knobs, memo, sieve, start, lo, hi, length, group, named
        )
    else:
        distinct, total = count_groups(walk, memo, start, lo, hi, length, named, knobs.ends)
    too_few = length > 0 and total < knobs.needed
    if sieve is not None and knobs.count_documents and length > 0 and not too_few:
        too_few = not enough(walk, knobs, sieve, lo, hi, length, group)
    if too_few:
        distinct = np.int64(0)
    else:
        bits = distribute(memo, start, distinct, knobs)
    if hi - lo >= memo.frequent:
        remember(memo, lo, length, group, start, distinct, total, bits)
        if sieve is not None:
            sieve.used[0] += (hi - lo) // MARK + 1
    return entry, start, start + distinct, total, bits


@njit(cache=True, nogil=True, counts=False)
def _named(memo: Memo, start: Int, end: Int, wanted: Int) -> Int:
    """Find the group of a token, by bisection; ``end`` when it has none."""
    lo, hi = start, end
    while lo < hi:
        middle = (lo + hi) >> 1
        if np.int64(memo.token[middle]) < wanted:
            lo = middle + 1
        else:
            hi = middle
    return lo if lo < end and np.int64(memo.token[lo]) == wanted else end


@njit(inline="always", cache=True, counts=False)
def _draw(memo: Memo, start: Int, end: Int, uniform: float) -> Int:
    """Draw one of the groups ``start ... end - 1``, as ``truncation.draw`` does."""
    cumulative, last = 0.0, start
    for k in range(start, end):
        if memo.probability[k] > 0.0:
            cumulative += memo.probability[k]
            last = k
            if uniform < cumulative:
                break
    return last


@njit(inline="always", cache=True, counts=False)
def _draw_known(memo: Memo, start: Int, end: Int, uniform: float) -> Int:
    """Draw a group of a remembered entry, by bisection of its sums."""
    lo, hi = start, end
    while lo < hi:
        middle = (lo + hi) >> 1
        if uniform < memo.cumulative[middle]:
            hi = middle
        else:
            lo = middle + 1
    if lo == end:  # rounding left the sum below
        lo -= 1
        while memo.probability[lo] == 0.0:
            lo -= 1
    return lo
