"""Tokens that are copied without a search, as long as the last source alone decides.

Parts of a row of ``search/kernel.py``.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Rows, Work, note
from imagegram.generators.ngram.search.carry import (
    CARRIED,
    DOCUMENT,
    INDEX,
    MOST,
    POSITION,
    SHARD,
    STOPPED,
    ask_screens,
    note_reaches,
)
from imagegram.generators.ngram.search.contexts import is_alone
from imagegram.generators.ngram.search.sides import Sides
from imagegram.generators.ngram.search.step import Rules, Search, Step
from imagegram.indexes.kernels.memory import load_u16
from imagegram.indexes.kernels.search import Int

_EOS: Final = 65535
#: Why a run of copies stopped: another shard may hold the context; or what follows is no copy.
_REACHED: Final = 1
_OTHERWISE: Final = 0


@njit(inline="always", counts=False)
def certain_length(search: Search, work: Work, t: Int, needed: Int, token: Int) -> Int:
    """Return the length of the context that decides, where the last source tells it; else 0.

    It does where one candidate is enough and the place behind the source, with ``token``, is one:
    then the context is one token longer than that of the step before, or as long as it may be. Both
    steps must be under the same conditions.
    """
    knobs, carried = search.knobs, work.state[CARRIED]
    limit = min(np.int64(knobs.limits[t]), t + 1)
    if needed > 1 or token < 0 or (token == _EOS and not knobs.ends):
        return np.int64(0)
    if carried + 1 < limit:  # another place may follow a longer context
        before = min(np.int64(knobs.limits[t - 1]), t)
        if carried >= before or not knobs.shifts:
            return np.int64(0)
    if knobs.filtered and knobs.classes[work.state[POSITION] + 1] != knobs.classes[t]:
        return np.int64(0)
    return min(carried + 1, limit)


@njit(inline="always", counts=False)
def token_behind(search: Search, work: Work) -> Int:
    """Return the token behind the last source; -1: there is no source, or nothing behind it."""
    s, index = work.state[SHARD], work.state[INDEX] + 1
    if s < 0 or index >= search.views.num_tokens[s]:
        return np.int64(-1)
    return np.int64(load_u16(search.rules.next_address[s] + np.uint64(2 * index)))


@njit(inline="always", counts=False)
def _is_steady(rules: Rules, t: Int) -> bool:
    """Whether the same documents may decide a step and the one before, whatever was written."""
    if rules.anchor == 0 and rules.label_tokens == 0:
        return True
    return bool(
        t > rules.anchor and t != rules.label_tokens and rules.sizes[t] == rules.sizes[t - 1]
    )


@njit(cache=True, nogil=True, counts=False)
def copy_tokens(
    search: Search, sides: Sides, work: Work, rows: Rows, b: Int, t: Int, until: Int, needed: Int
) -> Int:
    """Copy what follows the last source of row ``b`` from step ``t`` on; return how many tokens.

    A context that occurs once has one candidate. That is so while its first place says that no
    other of its shard shares as much (``repeat``), and no other shard reaches as far.
    """
    state, first = work.state, t
    while t < rows.tokens.shape[1]:
        t = _copy_run(search, sides, work, rows, b, t, until, needed)
        if t == rows.tokens.shape[1] or state[STOPPED] != _REACHED:
            break
        length = min(state[CARRIED] + 1, np.int64(search.knobs.limits[t]), t + 1)
        left = ask_screens(sides, work, t, length)
        if left > 0 and not 0 < sides.run < sides.long_run <= length:  # else it holds them for sure
            step = Step(work.history, t, np.int64(0), np.int64(-1), np.int64(needed))
            left = 0 if is_alone(search, sides, work, step, length) else 1
        note_reaches(work.reach, state)
        if left > 0:
            break
    return t - first


@njit(cache=True, nogil=True, counts=False)
def _copy_run(
    search: Search, sides: Sides, work: Work, rows: Rows, b: Int, t: Int, until: Int, needed: Int
) -> Int:
    """Copy until another shard could hold the context, or more than one place does.

    ``Work.state`` says why it stopped. Returns the next step.
    """
    state, history, first = work.state, work.history, t
    s, divisor, tokens_T = state[SHARD], search.rules.divisor, rows.tokens[b]
    repeats, most = sides.repeat[s], state[MOST]
    state[STOPPED] = _OTHERWISE
    while t < tokens_T.size and (t == first or _is_steady(search.rules, t)):
        token = token_behind(search, work)
        length = certain_length(search, work, t, needed, token)
        if length == 0 or (t < until and tokens_T[t] != token):
            break
        start = state[INDEX] + 1 - length
        if np.int64(load_u16(repeats + np.uint64(2 * start))) >= length:
            break
        if most + t >= length:
            state[STOPPED] = _REACHED
            break
        state[INDEX] += 1
        state[POSITION] += 1
        state[CARRIED] = length
        tokens_T[t] = token
        note(rows, b, t, length, 1, 1, 0.0)
        rows.probability[b, t] = 1.0
        rows.source_document[b, t] = state[DOCUMENT]
        rows.source_position[b, t] = state[POSITION]
        t += 1
        if token == _EOS:
            break
        history[t] = token // divisor if divisor > 1 else token
    return t
