"""Compiled generation over any number of shards, for any sampler; no side files are needed.

With side files a context that occurs once is copied: nothing is looked for while the place that was
copied from goes on, its longest context occurs nowhere else in its shard (``repeat``), and no other
shard reaches as far (``copying.py``). Any other step that all documents may decide asks
``intervals.py`` for the context. Under conditions (an anchor, a label) it looks for a rare context
among its places (``intervals.longest_rare``), or at each of the documents that may decide
(``by_document.py``). Defined by ``generators/ngram/reference.py``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import (
    Carried,
    Knobs,
    Rows,
    Work,
    choose,
    distribution,
    entropy_bits,
    note,
    which,
    work_on,
)
from imagegram.generators.ngram.philox import uniforms
from imagegram.generators.ngram.search.by_document import count_among, longest_among, nth_among
from imagegram.generators.ngram.search.carry import (
    ANCHOR,
    CARRIED,
    DOCUMENT,
    INDEX,
    LABEL,
    NEXT_STEP,
    POSITION,
    PREVIOUS,
    SHARD,
    SINGLE,
    begin_row,
    keep_last,
    narrow_to_groups,
    note_reaches,
    num_places,
)
from imagegram.generators.ngram.search.copying import (
    certain_length,
    copy_tokens,
    token_behind,
)
from imagegram.generators.ngram.search.intervals import count_next, longest, longest_rare, nth_place
from imagegram.generators.ngram.search.memo import Memo, first_next, remember
from imagegram.generators.ngram.search.sides import Sides
from imagegram.generators.ngram.search.step import (
    Rules,
    Search,
    Step,
    has_class,
    is_conditional,
    locate_next,
    match,
    may_decide,
    written_at,
)
from imagegram.generators.ngram.search.voters import Voters, next_step
from imagegram.indexes.kernels.memory import borrow
from imagegram.indexes.kernels.search import Int, ShardViews

_EOS: Final = 65535
#: Length of the context before a step that tells nothing about the next: above every limit.
_FORGOTTEN: Final = 1 << 40
#: Ways to the candidates: all places of the kept intervals that all or some documents may decide;
#: or document by document, at any place or only where they begin with all that was written.
_ALL: Final = 0
_RARE: Final = 1
_AMONG: Final = 2
_BEGINNING: Final = 3


class Found(NamedTuple):
    """The candidates of a step.

    Attributes:
        way: way to them: one of the constants above.
        length: tokens of the context that decides.
        entry: entry of the memo; -1: their tokens were counted into ``work``.
        size: distinct tokens that were counted.
    """

    way: Int
    length: Int
    entry: Int
    size: Int


@njit(cache=True, nogil=True, counts=False)
def _find_some(
    search: Search,
    sides: Sides,
    memo: Memo,
    work: Work,
    voters: Voters,
    step: Step,
    certain: Int,
) -> Found:
    """Find the context of a step that some documents may decide, and count its candidates.

    ``certain`` is its length where that is known, else 0.
    """
    rules, none = search.rules, np.int64(-1)
    limit = min(np.int64(search.knobs.limits[step.t]), step.t + 1)
    places = voters.size[0] if rules.in_place else voters.size[0] * rules.sizes[step.t]
    if step.anchor == step.t and limit == step.t + 1 and not rules.in_place:
        length = longest_among(search, voters, step, True)
        if length == limit:  # all that was written: candidates stand at position t only
            size = count_among(search, voters, work, step, length, True)
            return Found(np.int64(_BEGINNING), length, none, size)
    elif places > rules.many:  # too many to look at each: a search may be cheaper
        top = certain if certain > 0 else limit
        length, entry = longest_rare(search, sides, memo, work, step, places, top)
        if length >= 0:
            size = np.int64(0)
            if entry < 0:
                size = count_next(search, sides, work, step, length)
            return Found(np.int64(_RARE), length, entry, size)
    length = longest_among(search, voters, step, False)
    size = count_among(search, voters, work, step, length, False)
    return Found(np.int64(_AMONG), length, none, size)


@njit(inline="always", counts=False)
def _find(
    search: Search,
    sides: Sides,
    memo: Memo,
    work: Work,
    voters: Voters,
    step: Step,
    previous: Int,
    certain: Int,
) -> Found:
    """Find the context that decides a step, and count its candidates."""
    if is_conditional(step):
        return _find_some(search, sides, memo, work, voters, step, certain)
    length, entry = longest(search, sides, memo, work, step, previous)
    size = np.int64(0)
    if entry < 0:
        size = count_next(search, sides, work, step, length)
    return Found(np.int64(_ALL), length, np.int64(entry), size)


@njit(inline="always")
def _distribution(
    knobs: Knobs, memo: Memo, work: Work, found: Found
) -> tuple[NDArray[np.uint16], NDArray[np.int64], NDArray[np.float64], Int, float]:
    """Return tokens, counts and probabilities of candidates; their number, and bits of entropy."""
    if found.entry >= 0:
        start, end = memo.start[found.entry], memo.start[found.entry + 1]
        total, bits = memo.num_contexts[found.entry], float(memo.entropy[found.entry])
        p_K = memo.probabilities[start:end]
        return memo.tokens[start:end], memo.counts[start:end], p_K, total, bits
    tokens_K, counts_K = work.tokens[: found.size], work.counts[: found.size]
    p_K = distribution(counts_K, knobs.temperature, knobs.top_k, knobs.top_p, knobs.min_p)
    return tokens_K, counts_K, p_K, counts_K.sum(), float(entropy_bits(p_K))


@njit(inline="always", counts=False)
def _goes_on(search: Search, step: Step, length: Int, token: Int, s: Int, index: Int) -> bool:
    """Whether a place, not the first of its stream, is a candidate and holds ``token``."""
    views, knobs, rules = search
    if index >= views.num_tokens[s] or written_at(rules, s, index) != token:
        return False
    if match(views, s, index, step, length) < length:
        return False
    group = knobs.classes[step.t]
    if knobs.filtered and not has_class(knobs.classes, views.stride[s], index, group):
        return False
    return bool(not is_conditional(step) or may_decide(search, step, length, s, index))


@njit(cache=True, nogil=True, counts=False)
def _draw_source(
    search: Search,
    work: Work,
    voters: Voters,
    step: Step,
    found: Found,
    token: Int,
    count: Int,
    uniform: float,
) -> tuple[Int, Int]:
    """Return shard and stream index of one of the ``count`` candidates that hold ``token``."""
    number = which(count, uniform)
    if found.way in (_ALL, _RARE):
        return nth_place(search, work, step, found.length, token, number)
    beginning = found.way == _BEGINNING
    return nth_among(search, voters, step, found.length, beginning, token, number, count)


@njit(inline="always", counts=False)
def _is_frequent(memo: Memo, work: Work, found: Found, total: Int, shard: Int) -> bool:
    """Whether counted candidates took long to count, and one of them is known.

    Where some documents decide, all places were looked at; the source is one that may.
    """
    if found.way == _ALL:
        return bool(total >= memo.frequent)
    return bool(found.way == _RARE and shard >= 0 and num_places(work.kept) >= memo.frequent)


@njit(cache=True, nogil=True)
def _choose_token(
    search: Search,
    memo: Memo,
    work: Work,
    voters: Voters,
    rows: Rows,
    b: Int,
    step: Step,
    found: Found,
    forced: bool,
    goes_on: bool,
    seed: np.uint64,
    sample: np.uint64,
) -> bool:
    """Write the token of a step and its trace; return whether it was the only one of its kind.

    ``goes_on`` says that the place behind the last source is known to be a candidate.
    """
    t, state = step.t, work.state
    tokens_K, counts_K, p_K, total, bits = _distribution(search.knobs, memo, work, found)
    note(rows, b, t, found.length, total, tokens_K.size, bits)
    first, second = uniforms(seed, sample, t)
    chosen = choose(rows, b, t, forced, first, tokens_K, p_K)
    token = np.int64(rows.tokens[b, t])
    single = bool(chosen >= 0 and counts_K[chosen] == 1)
    if found.way == _ALL and found.entry < 0:  # of a token that is none of them: to nothing
        narrow_to_groups(work, token)
    shard, index = state[SHARD], state[INDEX] + 1  # copies go on: this place comes first
    if chosen < 0:
        shard = np.int64(-1)
    elif (
        shard < 0
        or not (goes_on or _goes_on(search, step, found.length, token, shard, index))
        or written_at(search.rules, shard, index) != token
    ):
        count = counts_K[chosen]
        shard, index = _draw_source(search, work, voters, step, found, token, count, second)
    state[SHARD], state[INDEX], state[CARRIED] = shard, index, found.length
    if shard >= 0:
        document, position = locate_next(search.views, shard, index)
        rows.source_document[b, t], rows.source_position[b, t] = document, position
        state[DOCUMENT], state[POSITION] = document, position
    if found.entry < 0 and _is_frequent(memo, work, found, total, shard):
        if found.way == _ALL:  # what the source is tells nothing of these
            shard, index = first_next(search.views, work.kept, found.length)
        key = (shard, index, found.length)
        remember(memo, search, work, step, key, total, bits, tokens_K, counts_K, p_K)
    return single


@njit(cache=True, nogil=True, counts=False)
def _write_row(
    search: Search,
    sides: Sides,
    memo: Memo,
    work: Work,
    voters: Voters,
    rows: Rows,
    b: Int,
    until: Int,
    seed: np.uint64,
    sample: np.uint64,
    stop: Int,
) -> None:
    """Write row ``b`` up to position ``stop``, where it was left.

    Its tokens before position ``until`` are given, and only traced. A run of copies is not cut.
    """
    knobs, rules, history, state = search.knobs, search.rules, work.history, work.state
    t, anchor, label = state[NEXT_STEP], state[ANCHOR], state[LABEL]
    previous, single = state[PREVIOUS], state[SINGLE] > 0
    while t < stop:
        step = Step(history, t, np.int64(0), np.int64(-1), np.int64(knobs.needed))
        if rules.anchor > 0 or rules.label_tokens > 0:
            step = next_step(search, voters, history, t, b, anchor)
        certain = np.int64(0)
        if t > 0 and step.anchor == anchor and step.label == label:
            behind = token_behind(search, work)
            certain = certain_length(search, work, t, step.needed, behind)
        anchor, label = step.anchor, step.label
        copied = np.int64(0)
        if single and certain > 0 and sides.ordered:
            copied = copy_tokens(search, sides, work, rows, b, t, until, step.needed)
            t += copied
        if copied > 0:
            previous = np.int64(_FORGOTTEN) if is_conditional(step) else work.state[CARRIED]
        else:
            found = _find(search, sides, memo, work, voters, step, previous, certain)
            if found.way in (_ALL, _RARE):
                keep_last(work, t, found.length)
            forced, goes_on = bool(t < until), bool(certain > 0)
            single = _choose_token(
                search, memo, work, voters, rows, b, step, found, forced, goes_on, seed, sample
            )
            note_reaches(work.reach, work.state)
            previous = found.length if found.way == _ALL else np.int64(_FORGOTTEN)
            t += 1
        token = np.int64(rows.tokens[b, t - 1])
        if token == _EOS:  # the row has ended
            rows.tokens[b, t:] = _EOS
            t = np.int64(rows.tokens.shape[1])
            break
        history[t] = token // rules.divisor
    state[NEXT_STEP], state[ANCHOR], state[LABEL] = t, anchor, label
    state[PREVIOUS], state[SINGLE] = previous, np.int64(single)


@njit(cache=True, nogil=True, counts=False)
def write_rows(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    sides: Sides,
    memo: Memo,
    work: Work,
    carried: Carried,
    voters: Voters,
    rows: Rows,
    until_B: NDArray[np.int64],
    seed: np.uint64,
    samples_B: NDArray[np.uint64],
    start: Int,
    size: Int,
    first: Int,
    stop: Int,
) -> None:
    """Write positions ``first ... stop - 1`` of rows ``start ... start + size - 1``, row by row."""
    # Every step passes the arrays on: no reference to them is counted.
    views, knobs, rules, sides = borrow(views), borrow(knobs), borrow(rules), borrow(sides)
    memo, work, carried = borrow(memo), borrow(work), borrow(carried)
    voters, rows = borrow(voters), borrow(rows)
    search = Search(views, knobs, rules)
    for i in range(size):
        b, work = start + i, work_on(work, carried, i)
        if first == 0:
            begin_row(work)
        _write_row(search, sides, memo, work, voters, rows, b, until_B[b], seed, samples_B[b], stop)
