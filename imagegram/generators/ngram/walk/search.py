"""Contexts found by binary search, where a walk cannot be carried on.

That is when the limit of the context jumps up between two levels; for one token, when a forced one
was no candidate; and, when only places of the same level may decide, where a level begins and where
a place that begins one may decide. Defined by ``generators/ngram/reference.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs
from imagegram.generators.ngram.walk.bounds import interval_end, interval_start
from imagegram.generators.ngram.walk.candidates import Sieve, supported
from imagegram.generators.ngram.walk.memo import Memo
from imagegram.generators.ngram.walk.order import (
    Walk,
    place_at,
    rank_of,
    token,
)
from imagegram.indexes.kernels.search import Int, sort_key


@njit(cache=True, nogil=True, counts=False)
def root(walk: Walk, t: Int, length: Int) -> tuple[Int, Int]:
    """Return the ranks among which a context of ``length`` tokens before ``t`` is searched.

    Of length 0: the candidates themselves.
    """
    size, separators = walk.num_tokens, walk.num_separators
    if walk.aligned:
        start = (t - length + 1) * walk.num_documents
        return start, start + walk.num_documents
    if length == t + 1:  # it begins with the separator, which sorts last
        return size - separators, size
    return np.int64(0), size - separators


@njit(cache=True, nogil=True, counts=False)
def longest_context(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    history_T: NDArray[np.uint16],
    t: Int,
    limit: Int,
    guess: Int,
    group: Int,
) -> tuple[Int, Int, Int]:
    """Find the longest supported context before position ``t``, and its interval.

    Gallops from ``guess``, then bisects: support never grows with the length. ``group`` is the
    class of the new token; 0 when all are admitted.
    """
    good, bad = np.int64(0), limit + 1
    first, last = root(walk, t, 0)
    length, step = min(max(guess, 1), limit), 1
    while bad - good > 1:
        lo, hi = _find(walk, history_T, t, length)
        if supported(walk, knobs, memo, sieve, lo, hi, length, group):
            good, first, last = length, lo, hi
            length = length + step if bad > limit else (good + bad) >> 1
        else:
            bad = length
            length = length - step if good == 0 else (good + bad) >> 1
        step *= 2
        length = min(max(length, good + 1), bad - 1)
    return good, first, last


@njit(cache=True, nogil=True, counts=False)
def shorter_context(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    last: Int,
    anchor: Int,
    t: Int,
    length: Int,
    limit: Int,
    group: Int,
) -> tuple[Int, Int, Int]:
    """Find the longest supported context after a token that was no candidate.

    Then no longer part of that context goes on with it than all but its oldest token (unless levels
    are told apart: a place that begins one follows a place that was no candidate). Each part is
    found by the side files, from one place that the context precedes; only the token is searched.

    Args:
        walk: the shard.
        knobs: the sampler, with ``shifts``.
        memo: memo of the thread.
        sieve: sieve of the thread; None when all places are candidates.
        last: the token at position ``t - 1``.
        anchor: stream index of a place that the context before it precedes.
        t: position of the next token.
        length: tokens of the context before.
        limit: longest context before position ``t``.
        group: class of the new token; 0 when all are admitted.

    Returns:
        Length, and the interval.
    """
    for part in range(min(length, limit) - 1, -1, -1):
        if part == 0:
            lo, hi = root(walk, t - 1, 0)
        else:
            rank = rank_of(walk, anchor - part)
            lo, hi = interval_start(walk, rank, part), interval_end(walk, rank, part)
        if hi - lo < knobs.needed:
            continue
        lo, hi = _followed(walk, lo, hi, part, last)
        if supported(walk, knobs, memo, sieve, lo, hi, part + 1, group):
            return part + 1, lo, hi
    first, end = root(walk, t, 0)
    return 0, first, end


@njit(cache=True, nogil=True, counts=False)
def _followed(walk: Walk, lo: Int, hi: Int, depth: Int, wanted: Int) -> tuple[Int, Int]:
    """Narrow an interval of ``depth`` shared tokens to the part that goes on with a token."""
    end, key = hi, sort_key(wanted)
    while lo < end:
        middle = (lo + end) >> 1
        i = place_at(walk, middle) + depth
        if i >= walk.num_tokens or sort_key(token(walk, i)) < key:
            lo = middle + 1
        else:
            end = middle
    if lo == hi or token(walk, place_at(walk, lo) + depth) != wanted:
        return lo, lo
    return lo, min(interval_end(walk, lo, depth + 1), hi)


@njit(cache=True, nogil=True, counts=False)
def _find(walk: Walk, history_T: NDArray[np.uint16], t: Int, length: Int) -> tuple[Int, Int]:
    """Find the interval of the last ``length`` tokens before position ``t``, token by token."""
    lo, hi = root(walk, t, length)
    for depth in range(length):
        if lo < hi:
            lo, hi = _followed(walk, lo, hi, depth, np.int64(history_T[t + 1 - length + depth]))
    return lo, hi
