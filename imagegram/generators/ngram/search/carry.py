"""What a row carries from step to step: its source, the last intervals, and reaches of shards.

Each shard has a *reach*, a bound on how many of the last tokens it holds in a row: with every token
it grows by one at most, so a shard that lacked a context is not looked at for as many tokens. Where
its reach comes near, its screen is asked first, with one read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Work
from imagegram.generators.ngram.search.sides import Sides
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.screen import hash_run, line_of, may_hold
from imagegram.indexes.kernels.search import (
    CLASSES,
    Int,
    ShardViews,
    narrow,
    pointer_at,
    token_at,
    token_class,
)

#: Places of ``Work.state``: what is known of the step before.
DEPTH: Final = 0  # tokens of the context whose intervals ``Work.last`` holds
WHEN: Final = 1  # the step whose context that was
SHARD: Final = 2  # of the last source; -1: none
INDEX: Final = 3  # its place in the stream
DOCUMENT: Final = 4  # its document
POSITION: Final = 5  # its position there
CARRIED: Final = 6  # tokens of the context that decided the last token
MOST: Final = 7  # the farthest reach of the shards but the source's
STOPPED: Final = 8  # why a run of copies stopped, see ``copying.py``
LISTED: Final = 9  # how many of ``Work.groups`` hold all candidates of the step; 0: not all do
NEXT_STEP: Final = 10  # the step that comes next
ANCHOR: Final = 11  # of the last step, as in ``Step``
LABEL: Final = 12
PREVIOUS: Final = 13  # tokens of the last context, as far as they tell the next; see ``kernel.py``
SINGLE: Final = 14  # whether the last token was the only one of its kind
SCREENED: Final = 15  # tokens of the context that screens were asked for last; 0: of none
ASKED_AT: Final = 16  # the step whose context that is
#: Rows of ``Work.groups``.
OWNER: Final = 0  # shard
START: Final = 1  # first rank
COUNT: Final = 2  # places
NEXT: Final = 3  # place of the first next token, then that token
_EOS: Final = 65535
#: A step that never was.
NEVER: Final = -9
#: Tokens before a shard could hold a context when it is asked along with others.
_SOON: Final = 8
#: Below every reach.
_NOWHERE: Final = -(1 << 40)


@njit(inline="always", counts=False)
def copy_ranks(ranks: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Copy (2, S) first and last ranks."""
    for s in range(out.shape[1]):
        out[0, s], out[1, s] = ranks[0, s], ranks[1, s]


@njit(inline="always", counts=False)
def num_places(ranks: NDArray[np.int64]) -> Int:
    """Count the places of (2, S) first and last ranks."""
    number = np.int64(0)
    for s in range(ranks.shape[1]):
        number += ranks[1, s] - ranks[0, s]
    return number


@njit(cache=True, nogil=True, counts=False)
def begin_row(work: Work) -> None:
    """Forget the row before: all shards may hold the separator."""
    for s in range(work.reach.size):
        work.reach[s] = 1
    work.state[DEPTH], work.state[WHEN] = 0, NEVER
    work.state[SHARD], work.state[INDEX], work.state[CARRIED], work.state[MOST] = -1, -1, 0, 1
    work.state[NEXT_STEP], work.state[PREVIOUS], work.state[SINGLE] = 0, 0, 0
    work.state[ANCHOR], work.state[LABEL], work.state[SCREENED] = 0, -1, 0
    work.history[0] = _EOS


@njit(cache=True, nogil=True, counts=False)
def keep_last(work: Work, t: Int, length: Int) -> None:
    """Keep the intervals of the context that decides step ``t`` for the next step."""
    copy_ranks(work.kept, work.last)
    for s in range(work.narrowed.size):
        work.narrowed[s] = False
    work.state[DEPTH], work.state[WHEN] = length, t


@njit(cache=True, nogil=True, counts=False)
def narrow_last(
    views: ShardViews, aligned: bool, work: Work, s: Int, token: Int
) -> tuple[Int, Int]:
    """Narrow the kept interval of a shard to the suffixes that go on with the token chosen then."""
    if not work.narrowed[s]:
        lo, hi, depth = work.last[0, s], work.last[1, s], work.state[DEPTH]
        if lo < hi:
            pair = token_class(token)
            if depth == 1 and not aligned and views.pairs.shape[1] > 0 and pair >= 0:
                # Intervals of two tokens are known; the separator's is the last of a first token.
                first = token_class(token_at(views, s, pointer_at(views, s, lo)))
                cell = first * CLASSES + pair
                lo = views.pairs[s, cell]
                if pair < CLASSES - 1:
                    hi = views.pairs[s, cell + 1]
            else:
                lo, hi = narrow(views, s, lo, hi, depth, token)
        work.last[0, s], work.last[1, s], work.narrowed[s] = lo, hi, True
    return work.last[0, s], work.last[1, s]


@njit(cache=True, nogil=True, counts=False)
def narrow_to_groups(work: Work, token: Int) -> None:
    """Narrow the kept intervals of all shards to a token, where the groups of the step are listed.

    What was counted says where each token lies: no shard is searched for it.
    """
    listed = work.state[LISTED]
    if listed == 0:
        return
    for s in range(work.narrowed.size):
        work.last[0, s], work.last[1, s], work.narrowed[s] = 0, 0, True
    for k in range(listed):
        if work.groups[NEXT, k] == token:
            s, lo = work.groups[OWNER, k], work.groups[START, k]
            work.last[0, s], work.last[1, s] = lo, lo + work.groups[COUNT, k]


class Screens(NamedTuple):
    """Screens of all shards, without all else: a call hands over every field; see ``Sides``."""

    run: int
    long_run: int
    placed: bool
    screen: NDArray[np.uint64]
    num_words: NDArray[np.int64]
    pitch: NDArray[np.int64]


@njit(inline="always", counts=False)
def screens_of(sides: Sides) -> Screens:
    """Return the screens of side files."""
    return Screens(
        sides.run, sides.long_run, sides.placed, sides.screen, sides.num_words, sides.pitch
    )


@njit(inline="always", counts=False)
def ask_screens(sides: Sides, work: Work, t: Int, length: Int) -> Int:
    """Lower the reach of shards that lack the last ``length`` tokens; once for a step and length.

    Returns:
        0 when no shard but the source of the last token holds them; else perhaps some do.
    """
    state = work.state
    if not 0 < sides.run <= length or (state[ASKED_AT] == t and state[SCREENED] == length):
        return np.int64(1)
    state[SCREENED], state[ASKED_AT] = length, t
    return screen_out(screens_of(sides), work.reach, state[SHARD], work.history, t, length)


@njit(cache=True, nogil=True, counts=False)
def screen_out(
    screens: Screens,
    reach: NDArray[np.int64],
    source: Int,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
) -> Int:
    """Lower the reach of shards whose screens say that they lack the last ``length`` tokens.

    Those that may reach so far, or soon will, are asked for the last short run. Those that may hold
    it are asked for others ever farther back, unless long runs are at most twice as long, and at
    last for the last long run. A shard without a run that ends ``back`` tokens ago reaches
    less far than its beginning.

    Returns:
        0 when no shard but the ``source`` holds them; else perhaps some do.
    """
    soon = max(length - _SOON, screens.run)
    left = _ask(screens, reach, source, history, t, screens.run, 0, soon)
    back = 1 if screens.long_run > 2 * screens.run else length
    while left > 0 and back + screens.run <= length:
        left = _ask(screens, reach, source, history, t, screens.run, back, length)
        back *= 2
    if left > 0 and screens.run < screens.long_run <= length:
        left = _ask(screens, reach, source, history, t, screens.long_run, 0, length)
    return left


@njit(inline="always", counts=False)
def _line(screens: Screens, s: Int, mixed: np.uint64, place: Int) -> np.uint64:
    """Return the address of the line with the bits of a run in the screen of a shard."""
    word = line_of(mixed, place, screens.num_words[s], screens.pitch[s])
    return np.uint64(screens.screen[s] + np.uint64(8 * word))


@njit(inline="always", counts=False)
def _ask(
    screens: Screens,
    reach: NDArray[np.int64],
    source: Int,
    history: NDArray[np.uint16],
    t: Int,
    run: Int,
    back: Int,
    limit: Int,
) -> Int:
    """Ask the shards that may reach ``limit`` for the run that ends ``back`` tokens ago.

    Returns:
        How many of them may hold it.
    """
    end, left = t + 1 - back, 0
    first = end - run
    mixed = hash_run(history, first, end, screens.placed)
    for s in range(reach.size):
        if reach[s] + t >= limit:
            prefetch(_line(screens, s, mixed, first))
    for s in range(reach.size):
        if reach[s] + t >= limit and s != source:
            if may_hold(_line(screens, s, mixed, first), mixed):
                left += 1
            else:
                reach[s] = min(reach[s], back + run - 1 - t)
    return left


@njit(cache=True, nogil=True, counts=False)
def note_reaches(reach: NDArray[np.int64], state: NDArray[np.int64]) -> None:
    """Note how far the farthest shard but that of the last source reaches."""
    most = np.int64(_NOWHERE)
    for s in range(reach.size):
        if s != state[SHARD]:
            most = max(most, reach[s])
    state[MOST] = most
