"""Compiled generation by searches: any number of shards, any sampler, no side files needed.

A step that all documents may decide asks ``intervals.py`` for the context. Under conditions (an
anchor, a label) it looks for a rare context among its places (``intervals.longest_rare``), or at
each of the documents that may decide (``by_document.py``). Defined by
``generators/ngram/reference.py``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import (
    Knobs,
    Rows,
    Work,
    choose,
    distribution,
    entropy_bits,
    note,
    which,
)
from imagegram.generators.ngram.philox import uniforms
from imagegram.generators.ngram.search.by_document import count_among, longest_among, nth_among
from imagegram.generators.ngram.search.intervals import count_next, longest, longest_rare, nth_place
from imagegram.generators.ngram.search.memo import Memo, remember
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


@njit(cache=True, nogil=True)
def _find_some(search: Search, work: Work, voters: Voters, step: Step) -> Found:
    """Find the context of a step that some documents may decide, and count its candidates."""
    rules, none = search.rules, np.int64(-1)
    limit = min(np.int64(search.knobs.limits[step.t]), step.t + 1)
    places = voters.size[0] if rules.in_place else voters.size[0] * rules.sizes[step.t]
    if step.anchor == step.t and limit == step.t + 1 and not rules.in_place:
        length = longest_among(search, voters, step, True)
        if length == limit:  # all that was written: candidates stand at position t only
            size = count_among(search, voters, work, step, length, True)
            return Found(np.int64(_BEGINNING), length, none, size)
    elif places > rules.many:  # too many to look at each: a search may be cheaper
        length = longest_rare(search, work, step, places)
        if length >= 0:
            return Found(np.int64(_RARE), length, none, count_next(search, work, step, length))
    length = longest_among(search, voters, step, False)
    size = count_among(search, voters, work, step, length, False)
    return Found(np.int64(_AMONG), length, none, size)


@njit(inline="always")
def _find(
    search: Search, memo: Memo, work: Work, voters: Voters, step: Step, previous: Int
) -> Found:
    """Find the context that decides a step, and count its candidates."""
    if is_conditional(step):
        return _find_some(search, work, voters, step)
    length, entry = longest(search, memo, work, step, previous)
    size = np.int64(0)
    if entry < 0:
        size = count_next(search, work, step, length)
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


@njit(inline="always")
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def write_row(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    memo: Memo,
    work: Work,
    voters: Voters,
    rows: Rows,
    b: Int,
    until: Int,
    seed: np.uint64,
    sample: np.uint64,
) -> None:
    """Write row ``b``; its tokens before position ``until`` are given, and only traced."""
    # Every step passes the arrays on: no reference to them is counted.
    views, knobs, rules, memo = borrow(views), borrow(knobs), borrow(rules), borrow(memo)
    work, voters, rows = borrow(work), borrow(voters), borrow(rows)
    search, history = Search(views, knobs, rules), work.history
    history[0] = _EOS
    anchor, previous = np.int64(0), np.int64(0)  # of the step before
    shard, index = np.int64(-1), np.int64(-1)  # the last source
    work.longest[:] = 0
    for t in range(rows.tokens.shape[1]):
        work.longest[:] += 1  # with each token a match grows by one at most
        step = Step(history, t, np.int64(0), np.int64(-1), np.int64(knobs.needed))
        if rules.anchor > 0 or rules.label_tokens > 0:
            step = next_step(search, voters, history, t, b, anchor)
        anchor = step.anchor
        found = _find(search, memo, work, voters, step, previous)
        previous = found.length if found.way == _ALL else np.int64(_FORGOTTEN)
        tokens_K, counts_K, p_K, total, bits = _distribution(knobs, memo, work, found)
        note(rows, b, t, found.length, total, tokens_K.size, bits)
        first, second = uniforms(seed, sample, t)
        chosen = choose(rows, b, t, t < until, first, tokens_K, p_K)
        token = np.int64(rows.tokens[b, t])
        index += 1  # copies go on: the place after the last source comes first
        if chosen < 0:
            shard = np.int64(-1)
        elif shard < 0 or not _goes_on(search, step, found.length, token, shard, index):
            count = counts_K[chosen]
            shard, index = _draw_source(search, work, voters, step, found, token, count, second)
        if shard >= 0:
            document, position = locate_next(views, shard, index)
            rows.source_document[b, t], rows.source_position[b, t] = document, position
        if found.way == _ALL and found.entry < 0 and total >= memo.frequent:
            remember(memo, search, work, step, found.length, total, bits, tokens_K, counts_K, p_K)
        if token == _EOS:  # the row has ended
            rows.tokens[b, t:] = _EOS
            break
        history[t + 1] = token // rules.divisor
