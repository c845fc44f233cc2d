"""Compiled generation that never searches: a walk through an index with its side files.

The interval of a context is carried from token to token. While the context grows, the next interval
is the group that was just chosen; when its oldest token drops out, the place that was copied from
leads on: the next context begins one place later, its rank stands in ``inverse``, and its interval
is all around that rank that shares enough tokens (``lcp``, and ``minima`` over it). The groups of
next tokens are the runs between places that share no more than the context, so their counts come
from one scan of ``lcp``. A context that occurs once (``repeat``) needs none of this: it is copied.

Many images take each step together, so that their cache misses overlap. Defined by
``generators/reference.py``; for matching ``free`` and, on the aligned order, ``position``.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.book import Book, count_groups, distribute, recall, remember, room
from imagegram.generators.kernels import Knobs, Rows, which
from imagegram.generators.philox import uniforms
from imagegram.generators.walk import (
    ANCHOR,
    DISTINCT,
    DOCUMENT,
    ENTROPY,
    FIRST,
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
    Walk,
    Walkers,
    interval_end,
    interval_start,
    locate,
    place_at,
    rank_of,
    repeat,
    token,
)
from imagegram.generators.walk_search import longest_context, root, shorter_context
from imagegram.indexes.kernels import Int
from imagegram.indexes.memory import borrow, prefetch

_EOS: Final = 65535
# What is known of the context that an image tries next.
_COPY: Final = 0  # it occurs once, before the place after the last one: done
_INTERVAL: Final = 1  # its interval
_PLACE: Final = 2  # one place: the one after the last
_DONE: Final = 3


@njit(cache=True, nogil=True)
def write_rows(
    walk: Walk,
    knobs: Knobs,
    book: Book,
    walkers: Walkers,
    rows: Rows,
    start: Int,
    size: Int,
    forced: bool,
    seed: np.uint64,
    samples_B: NDArray[np.uint64],
) -> None:
    """Generate rows ``start ... start + size - 1``, or trace them when their tokens are forced."""
    walk, knobs, book = borrow(walk), borrow(knobs), borrow(book)
    walkers, rows = borrow(walkers), borrow(rows)
    for t in range(rows.tokens.shape[1]):
        if forced:
            for w in range(size):
                walkers.numbers[TOKEN, w] = rows.tokens[start + w, t]
        number = _begin_all(walk, knobs, walkers, t, size, forced)
        moved = 0
        while number > 0:
            _find_intervals(walk, walkers, number, size)
            number, moved = _decide_all(
                walk, knobs, book, walkers, t, number, moved, size, forced, seed, samples_B, start
            )
        _take(walk, walkers, moved)
        _write(walkers, rows, start, t, size)


@njit(cache=True, nogil=True)
def _begin_all(walk: Walk, knobs: Knobs, walkers: Walkers, t: Int, size: Int, forced: bool) -> Int:
    """Copy what can only be copied; returns how many images must choose, listed in ``jobs[0]``."""
    numbers, number = walkers.numbers, 0
    limit = min(np.int64(knobs.limits[t]), t + 1)
    before = min(np.int64(knobs.limits[t - 1]), t) if t > 0 else limit
    for w in range(size):
        if t > 0 and (
            numbers[PLACE, w] < 0 or (limit > before + 1 and numbers[LENGTH, w] == before)
        ):
            _search(walk, knobs, walkers, t, limit, w)
            known = _INTERVAL
        else:
            known = _begin(walk, knobs, walkers, t, limit, w)
        if known == _COPY:
            _copy(walk, walkers, forced, w)
        else:  # images of which only a place is known are listed beyond ``size``
            walkers.jobs[0, number] = w if known == _INTERVAL else w + size
            number += 1
    return number


@njit(cache=True, nogil=True)
def _find_intervals(walk: Walk, walkers: Walkers, number: Int, size: Int) -> None:
    """Find the intervals of the images of which only a place is known."""
    numbers, jobs = walkers.numbers, walkers.jobs[0]
    for k in range(number):
        if jobs[k] >= size:
            w = jobs[k] - size
            rank = rank_of(walk, numbers[PLACE, w] + 1 - numbers[LENGTH, w])
            numbers[RANK, w] = rank
            prefetch(walk.lcp + np.uint64(2 * rank))
    for k in range(number):
        if jobs[k] >= size:
            jobs[k] -= size
            _around(walk, numbers, jobs[k])


@njit(cache=True, nogil=True)
def _decide_all(
    walk: Walk,
    knobs: Knobs,
    book: Book,
    walkers: Walkers,
    t: Int,
    number: Int,
    moved: Int,
    size: Int,
    forced: bool,
    seed: np.uint64,
    samples_B: NDArray[np.uint64],
    start: Int,
) -> tuple[Int, Int]:
    """Let the listed images choose; those whose context was too long are listed anew.

    Returns:
        How many are listed anew, and how many moved so far, listed in ``jobs[1]``.
    """
    jobs, again = walkers.jobs, 0
    for k in range(number):
        w = jobs[0, k]
        known = _decide(walk, knobs, book, walkers, t, forced, seed, samples_B[start + w], w)
        if known == _COPY:
            _copy(walk, walkers, forced, w)
        elif known != _DONE:
            jobs[0, again] = w if known == _INTERVAL else w + size
            again += 1
        elif walkers.numbers[MOVED, w]:
            jobs[1, moved] = w
            moved += 1
    return again, moved


@njit(cache=True, nogil=True)
def _take(walk: Walk, walkers: Walkers, moved: Int) -> None:
    """Read what the images that moved have chosen."""
    numbers, jobs = walkers.numbers, walkers.jobs[1]
    for k in range(moved):
        w = jobs[k]
        place = place_at(walk, numbers[RANK, w]) + numbers[LENGTH, w]
        numbers[PLACE, w] = place
        prefetch(walk.tokens + np.uint64(2 * place))
        after = place + 1 - numbers[LENGTH, w]  # where the next context begins, if it slides
        prefetch(walk.repeat + np.uint64(2 * after))
        prefetch(walk.inverse + np.uint64(walk.inverse_width * after))
        numbers[DOCUMENT, w], numbers[POSITION, w] = locate(walk, place)
    for k in range(moved):
        numbers[TOKEN, jobs[k]] = token(walk, numbers[PLACE, jobs[k]])


@njit(cache=True, nogil=True)
def _write(walkers: Walkers, rows: Rows, start: Int, t: Int, size: Int) -> None:
    """Write the tokens of position ``t`` and their trace."""
    numbers, reals = walkers.numbers, walkers.reals
    for w in range(size):
        b = start + w
        walkers.history[w, t + 1] = numbers[TOKEN, w]
        rows.tokens[b, t] = numbers[TOKEN, w]
        rows.suffix_len[b, t] = numbers[LENGTH, w]
        rows.num_contexts[b, t] = numbers[TOTAL, w]
        rows.num_distinct[b, t] = numbers[DISTINCT, w]
        rows.probability[b, t] = reals[PROBABILITY, w]
        rows.entropy[b, t] = reals[ENTROPY, w]
        if numbers[PLACE, w] >= 0:
            rows.source_document[b, t] = numbers[DOCUMENT, w]
            rows.source_position[b, t] = numbers[POSITION, w]


@njit(cache=True, nogil=True)
def _search(walk: Walk, knobs: Knobs, walkers: Walkers, t: Int, limit: Int, w: Int) -> None:
    """Find the context by searches: the last step does not lead to it."""
    numbers = walkers.numbers
    numbers[RANK, w] = -1
    if numbers[PLACE, w] < 0:
        last = np.int64(walkers.history[w, t])
        length, first, end = shorter_context(
            walk, last, numbers[ANCHOR, w], t, numbers[LENGTH, w], limit, knobs.needed
        )
    else:
        length, first, end = longest_context(
            walk, walkers.history[w], t, limit, knobs.needed, numbers[LENGTH, w]
        )
        after = numbers[PLACE, w] + 1
        if after < walk.num_tokens:
            numbers[RANK, w] = rank_of(walk, after - length)
    numbers[LENGTH, w], numbers[FIRST, w], numbers[LAST, w] = length, first, end


@njit(cache=True, nogil=True)
def _begin(walk: Walk, knobs: Knobs, walkers: Walkers, t: Int, limit: Int, w: Int) -> Int:
    """The longest context that may be supported; returns what is known of it."""
    numbers = walkers.numbers
    if t == 0:
        numbers[LENGTH, w], numbers[RANK, w] = 1, -1
        numbers[FIRST, w], numbers[LAST, w] = root(walk, t, 1)
        return _INTERVAL
    length = numbers[LENGTH, w]
    if length < limit:
        if numbers[SIZE, w] > 1:  # the chosen group is the interval of the longer context
            numbers[LENGTH, w] = length + 1
            return _INTERVAL
        after = numbers[PLACE, w] + 1
        if knobs.needed == 1 and after < walk.num_tokens and token(walk, after) != _EOS:
            numbers[LENGTH, w] = length + 1
            return _COPY
    numbers[LENGTH, w] = min(length, limit)
    return _shorten(walk, knobs, numbers, t, w)


@njit(cache=True, nogil=True)
def _shorten(walk: Walk, knobs: Knobs, numbers: NDArray[np.int64], t: Int, w: Int) -> Int:
    """Drop the oldest tokens of contexts that occur once only and so are not supported."""
    after, length = numbers[PLACE, w] + 1, numbers[LENGTH, w]
    while length > 0 and repeat(walk, after - length) < length:
        if knobs.needed == 1 and after < walk.num_tokens and token(walk, after) != _EOS:
            numbers[LENGTH, w] = length
            return _COPY
        length -= 1
    numbers[LENGTH, w] = length
    if length > 0:
        return _PLACE
    numbers[FIRST, w], numbers[LAST, w] = root(walk, t, 0)
    numbers[RANK, w] = rank_of(walk, after) if after < walk.num_tokens else -1
    return _INTERVAL


@njit(cache=True, nogil=True)
def _around(walk: Walk, numbers: NDArray[np.int64], w: Int) -> None:
    """The interval around the rank of the context's known place."""
    rank, length = numbers[RANK, w], numbers[LENGTH, w]
    numbers[FIRST, w] = interval_start(walk, rank, length)
    last = interval_end(walk, rank, length)
    numbers[LAST, w] = last
    prefetch(walk.table + np.uint64(walk.pointer_width * (last - 1)))


@njit(cache=True, nogil=True)
def _copy(walk: Walk, walkers: Walkers, forced: bool, w: Int) -> None:
    """Take the only next token there is."""
    numbers = walkers.numbers
    place = numbers[PLACE, w] + 1
    only = token(walk, place)
    numbers[TOTAL, w], numbers[DISTINCT, w], numbers[SIZE, w] = 1, 1, 1
    walkers.reals[PROBABILITY, w], walkers.reals[ENTROPY, w] = 1.0, 0.0
    if forced and numbers[TOKEN, w] != only:
        walkers.reals[PROBABILITY, w] = 0.0
        numbers[PLACE, w], numbers[ANCHOR, w] = -1, place
        return
    numbers[TOKEN, w], numbers[PLACE, w] = only, place
    numbers[POSITION, w] += 1


@njit(cache=True, nogil=True)
def _decide(
    walk: Walk,
    knobs: Knobs,
    book: Book,
    walkers: Walkers,
    t: Int,
    forced: bool,
    seed: np.uint64,
    sample: np.uint64,
    w: Int,
) -> Int:
    """Choose among the next tokens of an interval; or shorten the context when they are too few."""
    numbers, reals = walkers.numbers, walkers.reals
    lo, hi, length = numbers[FIRST, w], numbers[LAST, w], numbers[LENGTH, w]
    if length > 0 and hi - lo < knobs.needed:
        numbers[LENGTH, w] = length - 1
        return _shorten(walk, knobs, numbers, t, w)
    entry = np.int64(-1)
    if hi - lo >= book.frequent:
        entry = recall(book, lo, length)
    if entry >= 0:
        start = book.start[entry]
        distinct = book.start[entry + 1] - start
        total, bits = book.total[entry], book.entropy[entry]
    else:
        start = room(book, hi - lo)
        named = forced or not walk.ascending
        distinct, total = count_groups(walk, book, start, lo, hi, length, named)
        if length > 0 and total < knobs.needed:
            numbers[LENGTH, w] = length - 1
            return _shorten(walk, knobs, numbers, t, w)
        bits = distribute(book, start, distinct, knobs)
        if hi - lo >= book.frequent:
            remember(book, lo, length, start, distinct, total, bits)
            entry = np.int64(0)
    numbers[TOTAL, w], numbers[DISTINCT, w], reals[ENTROPY, w] = total, distinct, bits
    first, second = uniforms(seed, sample, t)
    end = start + distinct
    if forced:
        chosen = _named(book, start, end, numbers[TOKEN, w])
        if chosen == end:
            reals[PROBABILITY, w] = 0.0
            numbers[PLACE, w], numbers[MOVED, w] = -1, 0
            numbers[ANCHOR, w] = place_at(walk, lo) + length
            return _DONE
    elif entry >= 0:
        chosen = _draw_known(book, start, end, first)
    else:
        chosen = _draw(book, start, end, first)
    reals[PROBABILITY, w] = book.probability[chosen]
    rank, group, size = numbers[RANK, w], book.first[chosen], book.places[chosen]
    numbers[FIRST, w], numbers[LAST, w], numbers[SIZE, w] = group, group + size, size
    if group <= rank < group + size:
        numbers[MOVED, w] = 0
        numbers[PLACE, w] += 1
        numbers[POSITION, w] += 1
        numbers[TOKEN, w] = token(walk, numbers[PLACE, w])
    else:
        numbers[MOVED, w] = 1
        rank = group + which(size, second)
        numbers[RANK, w] = rank
        prefetch(walk.table + np.uint64(walk.pointer_width * rank))
    return _DONE


@njit(cache=True, nogil=True)
def _named(book: Book, start: Int, end: Int, wanted: Int) -> Int:
    """The group of a token, or ``end``."""
    lo, hi = start, end
    while lo < hi:
        middle = (lo + hi) >> 1
        if np.int64(book.token[middle]) < wanted:
            lo = middle + 1
        else:
            hi = middle
    return lo if lo < end and np.int64(book.token[lo]) == wanted else end


@njit(cache=True, nogil=True)
def _draw(book: Book, start: Int, end: Int, uniform: float) -> Int:
    """``categorical.draw`` of the groups ``start ... end - 1``."""
    cumulative, last = 0.0, start
    for k in range(start, end):
        if book.probability[k] > 0.0:
            cumulative += book.probability[k]
            last = k
            if uniform < cumulative:
                break
    return last


@njit(cache=True, nogil=True)
def _draw_known(book: Book, start: Int, end: Int, uniform: float) -> Int:
    """The same, when the sums are known."""
    lo, hi = start, end
    while lo < hi:
        middle = (lo + hi) >> 1
        if uniform < book.cumulative[middle]:
            hi = middle
        else:
            lo = middle + 1
    if lo == end:  # rounding left the sum below
        lo -= 1
        while book.probability[lo] == 0.0:
            lo -= 1
    return lo
