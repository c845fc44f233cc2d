"""Compiled generation that never searches: a walk through an index with its side files.

The interval of a context is carried from token to token. While the context grows, the next interval
is the group that was just chosen; when its oldest token drops out, the place that was copied from
leads on: the next context begins one place later, its rank stands in ``inverse``, and its interval
is all around that rank that shares enough tokens (``lcp``, and ``minima`` over it). The groups of
next tokens are the runs between places that share no more than the context, so their counts come
from one scan of ``lcp``. A context that occurs once (``repeat``) needs none of this: it is copied.

Many images take each step together, so that their cache misses overlap. Defined by
``ngram/reference.py``; for matching ``position`` on the aligned order, for all others on that
of suffixes. There an interval may hold places that are no candidates (``walk/candidates.py``).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs, Rows
from imagegram.generators.ngram.walk.bounds import interval_end, interval_start, prefetch_around
from imagegram.generators.ngram.walk.candidates import Sieve
from imagegram.generators.ngram.walk.choice import choose_next, copy_next
from imagegram.generators.ngram.walk.context import (
    COPY,
    DONE,
    INTERVAL,
    begin_context,
    class_at,
    search_context,
)
from imagegram.generators.ngram.walk.memo import Memo, prefetch_entry, prefetch_slot
from imagegram.generators.ngram.walk.order import (
    CHOOSING,
    DISTINCT,
    DOCUMENT,
    ENTROPY,
    FIRST,
    FREE,
    LAST,
    LENGTH,
    MOVED,
    MOVING,
    PLACE,
    POSITION,
    PROBABILITY,
    RANK,
    SEEKING,
    TOKEN,
    TOTAL,
    Block,
    Walk,
    Walkers,
    locate,
    place_at,
    rank_of,
    token,
)
from imagegram.indexes.kernels.memory import borrow, prefetch
from imagegram.indexes.kernels.search import Int

_EOS: Final = 65535


@njit(cache=True, nogil=True)
def write_rows(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    walkers: Walkers,
    ended: NDArray[np.bool_] | None,
    rows: Rows,
    block: Block,
) -> None:
    """Generate the rows of a block; tokens that are given are only traced.

    ``ended`` is memory for which rows have ended; None where none ends early: the same source is
    compiled once more for images, without a look at it.
    """
    walk, knobs, memo = borrow(walk), borrow(knobs), borrow(memo)
    walkers, rows, block = borrow(walkers), borrow(rows), borrow(block)
    if sieve is not None:
        sieve = borrow(sieve)
    if ended is not None:
        ended[:] = False
    for t in range(rows.tokens.shape[1]):
        if block.forced:
            for w in range(block.size):
                b = block.start + w
                walkers.numbers[TOKEN, w] = rows.tokens[b, t] if t < block.until[b] else FREE
        number, seeking = _begin_all(walk, knobs, memo, sieve, walkers, ended, block, t)
        moved = 0
        while number > 0:
            _find_intervals(walk, walkers, seeking)
            _prepare_memo(knobs, memo, sieve, walkers, t, number)
            number, seeking, moved = _decide_all(
                walk, knobs, memo, sieve, walkers, block, t, number, moved
            )
        _take(walk, walkers, moved)
        _write(walkers, ended, rows, block, t)


@njit(cache=True, nogil=True, counts=False)
def _begin_all(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    walkers: Walkers,
    ended: NDArray[np.bool_] | None,
    block: Block,
    t: Int,
) -> tuple[Int, Int]:
    """Copy what can only be copied; return how many others must choose, and how many of them seek.

    They are listed in ``jobs``.
    """
    numbers, number, seeking = walkers.numbers, 0, 0
    limit = min(np.int64(knobs.limits[t]), t + 1)
    before = min(np.int64(knobs.limits[t - 1]), t) if t > 0 else limit
    opens = False
    if sieve is not None and t > 0 and not knobs.shifts:
        opens = knobs.classes[t] != knobs.classes[t - 1]
    for w in range(block.size):
        if ended is not None and ended[w]:
            continue
        if t > 0 and (
            opens or numbers[PLACE, w] < 0 or (limit > before + 1 and numbers[LENGTH, w] == before)
        ):
            search_context(walk, knobs, memo, sieve, walkers, t, limit, w)
            known = INTERVAL
        else:
            known = begin_context(walk, knobs, sieve, walkers, t, limit, w)
        if known == COPY:
            copy_next(walk, walkers, block, w)
        else:
            number, seeking = _list(walkers, w, known, number, seeking)
    return number, seeking


@njit(inline="always", cache=True, counts=False)
def _list(walkers: Walkers, w: Int, known: Int, number: Int, seeking: Int) -> tuple[Int, Int]:
    """List an image that must choose; return the new lengths of the lists."""
    walkers.jobs[CHOOSING, number] = w
    if known != INTERVAL:
        walkers.jobs[SEEKING, seeking] = w
        seeking += 1
    return number + 1, seeking


@njit(cache=True, nogil=True, counts=False)
def _find_intervals(walk: Walk, walkers: Walkers, seeking: Int) -> None:
    """Find the intervals of the images of which only a place is known.

    Each loop waits for one kind of memory, of all images at once. It must be short: a processor
    looks a few hundred instructions ahead, and even a prefetch waits for the address translation.
    """
    numbers, jobs = walkers.numbers, walkers.jobs[SEEKING]
    for k in range(seeking):
        w = jobs[k]
        numbers[RANK, w] = rank_of(walk, numbers[PLACE, w] + 1 - numbers[LENGTH, w])
    for k in range(seeking):
        prefetch_around(walk, numbers[RANK, jobs[k]])
    for k in range(seeking):
        w = jobs[k]
        rank, length = numbers[RANK, w], numbers[LENGTH, w]
        numbers[FIRST, w] = interval_start(walk, rank, length)
        numbers[LAST, w] = interval_end(walk, rank, length)
    for k in range(seeking):  # that place shows whether the last next token is the separator
        prefetch(walk.table + np.uint64(walk.pointer_width * (numbers[LAST, jobs[k]] - 1)))


@njit(cache=True, nogil=True, counts=False)
def _prepare_memo(
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    walkers: Walkers,
    t: Int,
    number: Int,
) -> None:
    """Load what is remembered of the large intervals that are to be chosen from."""
    numbers, jobs, group = walkers.numbers, walkers.jobs[CHOOSING], class_at(knobs, sieve, t)
    for k in range(number):
        w = jobs[k]
        if numbers[LAST, w] - numbers[FIRST, w] >= memo.frequent:
            prefetch_slot(memo, numbers[FIRST, w], numbers[LENGTH, w], group)
    for k in range(number):
        w = jobs[k]
        if numbers[LAST, w] - numbers[FIRST, w] >= memo.frequent:
            prefetch_entry(memo, numbers[FIRST, w], numbers[LENGTH, w], group)


@njit(cache=True, nogil=True, counts=False)
def _decide_all(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    walkers: Walkers,
    block: Block,
    t: Int,
    number: Int,
    moved: Int,
) -> tuple[Int, Int, Int]:
    """Let the listed images choose; those whose context was too long are listed anew.

    Returns:
        How many are listed anew, how many of these seek, and how many moved so far.
    """
    jobs, again, seeking = walkers.jobs, 0, 0
    for k in range(number):
        w = jobs[CHOOSING, k]
        known = choose_next(walk, knobs, memo, sieve, walkers, block, t, w)
        if known == COPY:
            copy_next(walk, walkers, block, w)
        elif known != DONE:
            again, seeking = _list(walkers, w, known, again, seeking)
        elif walkers.numbers[MOVED, w]:
            jobs[MOVING, moved] = w
            moved += 1
    return again, seeking, moved


@njit(cache=True, nogil=True, counts=False)
def _take(walk: Walk, walkers: Walkers, moved: Int) -> None:
    """Read what the images that moved have chosen, in short loops as ``_find_intervals`` does."""
    numbers, jobs = walkers.numbers, walkers.jobs[MOVING]
    for k in range(moved):
        prefetch(walk.table + np.uint64(walk.pointer_width * numbers[RANK, jobs[k]]))
    for k in range(moved):
        w = jobs[k]
        place = place_at(walk, numbers[RANK, w]) + numbers[LENGTH, w]
        numbers[PLACE, w] = place
    for k in range(moved):
        prefetch(walk.tokens + np.uint64(2 * numbers[PLACE, jobs[k]]))
    for k in range(moved):  # where the next context begins, if it slides
        after = numbers[PLACE, jobs[k]] + 1 - numbers[LENGTH, jobs[k]]
        prefetch(walk.repeat + np.uint64(2 * after))
        prefetch(walk.inverse + np.uint64(walk.inverse_width * after))
    for k in range(moved):
        w = jobs[k]
        numbers[TOKEN, w] = token(walk, numbers[PLACE, w])
        numbers[DOCUMENT, w], numbers[POSITION, w] = locate(walk, numbers[PLACE, w])


@njit(cache=True, nogil=True, counts=False)
def _write(
    walkers: Walkers,
    ended: NDArray[np.bool_] | None,
    rows: Rows,
    block: Block,
    t: Int,
) -> None:
    """Write the tokens of position ``t`` and their trace."""
    numbers, reals = walkers.numbers, walkers.reals
    for w in range(block.size):
        b = block.start + w
        if ended is not None:
            if ended[w]:
                rows.tokens[b, t] = _EOS  # padding, without a trace
                continue
            ended[w] = numbers[TOKEN, w] == _EOS
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
