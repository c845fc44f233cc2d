"""Compiled generation by searches: any number of shards, any sampler, no side files needed.

A step that all documents may decide asks ``intervals.py`` for the context; under conditions (an
anchor, a label), one that only some may decide looks for rare contexts among their places
(``by_context.py``), or at each of these documents (``by_document.py``). Defined by
``generators/ngram/reference.py``.

``views`` hold what is compared, whole tokens or coarse ids; ``rules.next_address`` what is written.
Samplers without any condition pass None for ``rules`` and ``voters``: the same source is compiled
once more for them, without all that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import (
    Documents,
    Knobs,
    Rows,
    Work,
    choose,
    distribution,
    entropy_bits,
    note,
    sort_tally,
    tally,
    which,
)
from imagegram.generators.ngram.philox import uniforms
from imagegram.generators.ngram.search.by_context import admits, count_rare, longest_rare, nth_rare
from imagegram.generators.ngram.search.by_document import count_among, longest_among, nth_among
from imagegram.generators.ngram.search.intervals import (
    count_next,
    has_class,
    longest,
    note_source,
    nth_place,
)
from imagegram.generators.ngram.search.memo import Memo, remember
from imagegram.generators.ngram.search.voters import (
    Rules,
    Voters,
    choose_anchor,
    coarse_of,
    match,
    narrow_anchor,
    written_at,
)
from imagegram.indexes.kernels.search import Int, ShardViews, narrow, pointer_at, token_at

_EOS: Final = 65535
#: Length of the context before a step that tells nothing about the next: above every limit.
_FORGOTTEN: Final = 1 << 40
#: Ways to the candidates: of all documents; place by place, in documents or only where they begin
#: with all that was written; or in the interval of a rare context.
_ALL: Final = 0
_AMONG: Final = 1
_BEGINNING: Final = 2
_RARE: Final = 3


# -------------------------------------------------------------------- steps that all may decide


@njit(cache=True, nogil=True)
def _count_all(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules | None,
    work: Work,
    depth: Int,
    t: Int,
) -> Int:
    """Count the whole tokens behind the kept contexts into ``work``; returns the distinct ones."""
    group = knobs.classes[t]
    if rules is None or rules.divisor == 1:
        return count_next(views, documents, knobs, work, depth, group)
    # Neighbours in a coarse table share a coarse token only, so each place is read.
    num_distinct = np.int64(0)
    for s in range(views.num_tokens.size):
        for rank in range(work.kept[0, s], work.kept[1, s]):
            index = pointer_at(views, s, rank) + depth
            if has_class(documents, knobs, group, s, index):
                num_distinct = tally(work, num_distinct, written_at(rules, s, index), 1)
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def _nth_of_all(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules | None,
    work: Work,
    depth: Int,
    t: Int,
    token: Int,
    number: Int,
) -> tuple[Int, Int]:
    """Shard and stream index of a candidate of the kept contexts, among those with ``token``."""
    group = knobs.classes[t]
    if rules is None or rules.divisor == 1:
        return nth_place(views, documents, knobs, work, depth, group, token, number)
    for s in range(views.num_tokens.size):
        lo, hi = work.kept[0, s], work.kept[1, s]
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, depth, coarse_of(rules, token))
        for rank in range(lo, hi):
            index = pointer_at(views, s, rank) + depth
            if written_at(rules, s, index) != token:
                continue
            if has_class(documents, knobs, group, s, index):
                if number == 0:
                    return s, index
                number -= 1
    return np.int64(-1), np.int64(-1)


# ------------------------------------------------------------------- steps that some may decide


@njit(cache=True, nogil=True)
def _anchor_and_label(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    b: Int,
    anchor: Int,
) -> tuple[Int, Int, Int]:
    """Anchor, label and needed candidates of position t; collects the documents that may decide.

    ``anchor`` is the one of the position before.
    """
    label, needed = np.int64(-1), np.int64(knobs.needed)
    if t < rules.label_tokens:
        label = np.int64(rules.row_labels[b])
    if label >= 0:
        needed = min(needed, rules.first_member[label + 1] - rules.first_member[label])
    if t <= rules.anchor:
        narrow_anchor(views, rules, voters, history, t)
    # The next position asks the same of documents, so what was too much for this one stays so.
    same = t > 0 and rules.sizes[t] == rules.sizes[t - 1]
    if t == rules.label_tokens and rules.row_labels[b] >= 0:
        same = False
    anchor = choose_anchor(
        views, documents, knobs, rules, voters, history, t, label, needed, anchor, same
    )
    return anchor, label, needed


@njit(cache=True, nogil=True)
def _count_some(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    anchor: Int,
    label: Int,
    needed: Int,
) -> tuple[Int, Int, Int]:
    """Way, context length and distinct tokens of the documents that may decide.

    Their tokens are counted into ``work``.
    """
    limit = min(np.int64(knobs.limits[t]), t + 1)
    places = voters.size[0] if rules.in_place else voters.size[0] * rules.sizes[t]
    if anchor == t and limit == t + 1 and not rules.in_place:
        length = longest_among(views, knobs, rules, voters, history, t, needed, True)
        if length == limit:  # all that was written: candidates stand at position t only
            size = count_among(views, knobs, rules, voters, work, history, t, length, True)
            return np.int64(_BEGINNING), length, size
    elif places > rules.many:  # too many to look at each: a search may be cheaper
        length = longest_rare(
            views, documents, knobs, rules, work, history, t, anchor, label, needed, places
        )
        if length >= 0:
            size = count_rare(
                views, documents, knobs, rules, work, history, t, anchor, label, length
            )
            return np.int64(_RARE), length, size
    length = longest_among(views, knobs, rules, voters, history, t, needed, False)
    size = count_among(views, knobs, rules, voters, work, history, t, length, False)
    return np.int64(_AMONG), length, size


# ---------------------------------------------------------------------------------------- one row


@njit(cache=True, nogil=True)
def _is_candidate(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules | None,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    anchor: Int,
    label: Int,
    token: Int,
    s: Int,
    index: Int,
) -> bool:
    """Whether a place, not the first of its stream, holds ``token`` and may decide."""
    if index >= views.num_tokens[s]:
        return False
    written = token_at(views, s, index) if rules is None else written_at(rules, s, index)
    if written != token or match(views, s, index, history, t, length) < length:
        return False
    if rules is None:
        return bool(has_class(documents, knobs, knobs.classes[t], s, index))
    return bool(admits(views, documents, knobs, rules, history, t, anchor, label, length, s, index))


@njit(cache=True, nogil=True)
def _find_source(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules | None,
    work: Work,
    voters: Voters | None,
    history: NDArray[np.uint16],
    t: Int,
    way: Int,
    length: Int,
    anchor: Int,
    label: Int,
    token: Int,
    count: Int,
    uniform: float,
) -> tuple[Int, Int]:
    """Shard and stream index of one of the ``count`` candidates that hold ``token``."""
    number = which(count, uniform)
    if rules is None or voters is None or way == _ALL:
        return _nth_of_all(views, documents, knobs, rules, work, length, t, token, number)
    if way == _RARE:
        return nth_rare(
            views, documents, knobs, rules, work, history, t, anchor, label, length, token, number
        )
    beginning = way == _BEGINNING
    return nth_among(
        views, knobs, rules, voters, history, t, length, beginning, token, number, count
    )


@njit(cache=True, nogil=True)
def write_row(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules | None,
    memo: Memo,
    work: Work,
    voters: Voters | None,
    rows: Rows,
    b: Int,
    forced: bool,
    seed: np.uint64,
    sample: np.uint64,
) -> None:
    """Write row ``b``, or trace it when its tokens are ``forced``."""
    num_tokens = rows.tokens.shape[1]
    history = np.empty(num_tokens + 1, dtype=np.uint16)  # of what is compared
    history[0] = _EOS
    # Context of the last step, what of it the next search may start from, and the last source.
    length, searched = np.int64(0), np.int64(0)
    shard, index = np.int64(-1), np.int64(-1)
    anchor, label = np.int64(0), np.int64(-1)
    work.longest[:] = 0
    for t in range(num_tokens):
        work.longest[:] += 1  # with each token a match grows by one at most
        way, entry, size = np.int64(_ALL), np.int64(-1), np.int64(0)
        if rules is not None and voters is not None:
            anchor, label, needed = _anchor_and_label(
                views, documents, knobs, rules, voters, history, t, b, anchor
            )
            if anchor > 0 or label >= 0:
                way, length, size = _count_some(
                    views, documents, knobs, rules, work, voters, history, t, anchor, label, needed
                )
                searched = np.int64(_FORGOTTEN)
        if way == _ALL:
            length, entry = longest(views, documents, knobs, memo, work, history, t, searched)
            searched = length
            if entry < 0:
                size = _count_all(views, documents, knobs, rules, work, length, t)
        if entry >= 0:  # the memo has it all
            start, end = memo.start[entry], memo.start[entry + 1]
            tokens_K, counts_K = memo.tokens[start:end], memo.counts[start:end]
            p_K = memo.probabilities[start:end]
            total, bits = memo.num_contexts[entry], float(memo.entropy[entry])
        else:
            tokens_K, counts_K = work.tokens[:size], work.counts[:size]
            p_K = distribution(counts_K, knobs.temperature, knobs.top_k, knobs.top_p, knobs.min_p)
            total, bits = counts_K.sum(), float(entropy_bits(p_K))
        note(rows, b, t, length, total, tokens_K.size, bits)
        first, second = uniforms(seed, sample, t)
        chosen = choose(rows, b, t, forced, first, tokens_K, p_K)
        token = np.int64(rows.tokens[b, t])
        index += 1  # copies go on: the place after the last source comes first
        if chosen < 0:
            shard = np.int64(-1)
        elif shard < 0 or not _is_candidate(
            views, documents, knobs, rules, history, t, length, anchor, label, token, shard, index
        ):
            shard, index = _find_source(
                views, documents, knobs, rules, work, voters, history, t, way, length, anchor,
                label, token, counts_K[chosen], second,
            )  # fmt: skip
        if shard >= 0:
            note_source(views, documents, rows, b, t, shard, index)
        if way == _ALL and entry < 0 and total >= memo.frequent:
            remember(
                memo, views, history, t + 1, length, knobs.classes[t], total, bits,
                work.kept, tokens_K, counts_K, p_K,
            )  # fmt: skip
        if token == _EOS:  # the row has ended
            rows.tokens[b, t:] = _EOS
            break
        history[t + 1] = token if rules is None else token // rules.divisor
