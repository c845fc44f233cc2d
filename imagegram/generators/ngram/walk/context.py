"""The longest context that an image may continue, found from the state of its last step.

A step of ``generators/ngram/walk/kernel.py``, which says how; most contexts need no search.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs
from imagegram.generators.ngram.walk.candidates import Sieve
from imagegram.generators.ngram.walk.memo import Memo
from imagegram.generators.ngram.walk.order import (
    ANCHOR,
    FIRST,
    GROWN,
    LAST,
    LENGTH,
    PLACE,
    POSITION,
    RANK,
    SIZE,
    Walk,
    Walkers,
    rank_of,
    repeat,
    token,
)
from imagegram.generators.ngram.walk.search import longest_context, root, shorter_context
from imagegram.indexes.kernels.search import Int

_EOS: Final = 65535
# What is known of the context that an image tries next.
COPY: Final = 0  # it occurs once, before the place after the last one: done
INTERVAL: Final = 1  # its interval
PLACE_ONLY: Final = 2  # one place: the one after the last
DONE: Final = 3


@njit(cache=True, nogil=True, counts=False)
def search_context(
    walk: Walk,
    knobs: Knobs,
    memo: Memo,
    sieve: Sieve | None,
    walkers: Walkers,
    t: Int,
    limit: Int,
    w: Int,
) -> None:
    """Find the context by searches: the last step does not lead to it."""
    numbers, group = walkers.numbers, class_at(knobs, sieve, t)
    numbers[RANK, w], numbers[GROWN, w] = -1, 0
    if numbers[PLACE, w] < 0 and (sieve is None or knobs.shifts):
        last = np.int64(walkers.history[w, t])
        length, first, end = shorter_context(
            walk, knobs, memo, sieve, last, numbers[ANCHOR, w], t, numbers[LENGTH, w], limit, group
        )
    else:
        length, first, end = longest_context(
            walk, knobs, memo, sieve, walkers.history[w], t, limit, numbers[LENGTH, w] + 1, group
        )
        after = numbers[PLACE, w] + 1
        if length <= after < walk.num_tokens and after > 0:
            numbers[RANK, w] = rank_of(walk, after - length)
    numbers[LENGTH, w], numbers[FIRST, w], numbers[LAST, w] = length, first, end


@njit(inline="always", cache=True, counts=False)
def begin_context(
    walk: Walk, knobs: Knobs, sieve: Sieve | None, walkers: Walkers, t: Int, limit: Int, w: Int
) -> Int:
    """Begin with the longest context that may be supported; return what is known of it."""
    numbers = walkers.numbers
    if t == 0:
        numbers[LENGTH, w], numbers[RANK, w] = 1, -1
        numbers[FIRST, w], numbers[LAST, w] = root(walk, t, 1)
        return INTERVAL
    length = numbers[LENGTH, w]
    if length < limit:
        if numbers[SIZE, w] > 1:  # the chosen group is the interval of the longer context
            numbers[LENGTH, w] = length + 1
            if sieve is not None:
                numbers[GROWN, w] = 1
            return INTERVAL
        if knobs.needed == 1 and goes_on(walk, knobs, sieve, numbers, t, w):
            numbers[LENGTH, w] = length + 1
            return COPY
    numbers[LENGTH, w] = min(length, limit)
    return shorten_context(walk, knobs, sieve, numbers, t, w)


@njit(cache=True, nogil=True, counts=False)
def class_at(knobs: Knobs, sieve: Sieve | None, t: Int) -> Int:
    """Return the class that candidates for a position must have; 0 when all are admitted."""
    if sieve is not None and knobs.filtered:
        return np.int64(knobs.classes[t])
    return np.int64(0)


@njit(cache=True, nogil=True, counts=False)
def goes_on(
    walk: Walk, knobs: Knobs, sieve: Sieve | None, numbers: NDArray[np.int64], t: Int, w: Int
) -> bool:
    """Whether the place after the last one may hold the next token."""
    if sieve is not None and knobs.filtered:
        position = numbers[POSITION, w] + 1
        return bool(position < knobs.classes.size and knobs.classes[position] == knobs.classes[t])
    after = numbers[PLACE, w] + 1
    return bool(after < walk.num_tokens and (token(walk, after) != _EOS or knobs.ends))


@njit(inline="always", cache=True, counts=False)
def shorten_context(
    walk: Walk, knobs: Knobs, sieve: Sieve | None, numbers: NDArray[np.int64], t: Int, w: Int
) -> Int:
    """Drop the oldest tokens of contexts that occur once only and so are not supported."""
    after, length = numbers[PLACE, w] + 1, numbers[LENGTH, w]
    if sieve is not None:
        numbers[GROWN, w] = 0
    # Such a context has one candidate: enough where one is, if a token stands there.
    while length > 0 and repeat(walk, after - length) < length:
        if knobs.needed == 1 and goes_on(walk, knobs, sieve, numbers, t, w):
            numbers[LENGTH, w] = length
            return COPY
        length -= 1
    numbers[LENGTH, w] = length
    if length > 0:
        return PLACE_ONLY
    numbers[FIRST, w], numbers[LAST, w] = root(walk, t, 0)
    numbers[RANK, w] = rank_of(walk, after) if after < walk.num_tokens else -1
    return INTERVAL
