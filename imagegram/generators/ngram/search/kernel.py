"""Compiled generation under conditions: anchors, labels, contexts of coarse ids.

A step that only some documents may decide looks for rare contexts (``conditioned_search.py``), or
at each of these documents (``conditioned_few.py``). A step that all may decide searches as
``suffix_kernel.py`` does, among coarse ids where there are some. Defined by
``generators/ngram/reference.py``.

``views`` hold what is compared, whole tokens or coarse ids; ``rules.next_address`` what is written.
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
from imagegram.generators.ngram.search.few import (
    Few,
    Rules,
    choose_anchor,
    count_among,
    longest_among,
    match,
    narrow_anchor,
    nth_among,
    written_at,
)
from imagegram.generators.ngram.search.intervals import count_next, longest, note_source, nth_place
from imagegram.generators.ngram.search.memo import Memo, remember
from imagegram.generators.ngram.search.rare import admits, count_rare, longest_rare, nth_rare
from imagegram.indexes.kernels.search import Int, ShardViews, narrow, pointer_at

_EOS: Final = 65535
#: Length of the context before a step that tells nothing about the next: above every limit.
_FORGOTTEN: Final = 1 << 40
#: Ways to the candidates: of all documents; place by place, in documents or only where they begin
#: with all that was written; or in the interval of a rare context.
_ALL: Final = 0
_AMONG: Final = 1
_BEGINNING: Final = 2
_RARE: Final = 3


# ------------------------------------------------------------- coarse contexts of all documents


@njit(inline="always")
def _admits(documents: Documents, knobs: Knobs, s: Int, index: Int, group: Int) -> bool:
    """Whether the token at a place has the class of the new token."""
    if not knobs.filtered:
        return True
    return bool(knobs.classes[index % documents.stride[s] - 1] == group)


@njit(cache=True, nogil=True)
def _count_all(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    depth: Int,
    t: Int,
) -> Int:
    """Like ``count_next``, of the whole tokens behind the kept contexts."""
    group = knobs.classes[t]
    if rules.divisor == 1:
        return count_next(views, documents, knobs, work, depth, group)
    num_distinct = np.int64(0)
    for s in range(views.num_tokens.size):
        for rank in range(work.kept[0, s], work.kept[1, s]):
            index = pointer_at(views, s, rank) + depth
            if _admits(documents, knobs, s, index, group):
                num_distinct = tally(work, num_distinct, written_at(rules, s, index), 1)
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def _nth_of_all(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    depth: Int,
    t: Int,
    token: Int,
    number: Int,
) -> tuple[Int, Int]:
    """Like ``nth_place``, of the whole token behind the kept contexts."""
    group = knobs.classes[t]
    if rules.divisor == 1:
        return nth_place(views, documents, knobs, work, depth, group, token, number)
    for s in range(views.num_tokens.size):
        lo, hi = work.kept[0, s], work.kept[1, s]
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, depth, token // rules.divisor)
        for rank in range(lo, hi):
            index = pointer_at(views, s, rank) + depth
            if written_at(rules, s, index) == token and _admits(documents, knobs, s, index, group):
                if number == 0:
                    return s, index
                number -= 1
    return np.int64(-1), np.int64(-1)


# -------------------------------------------------------------------------------------- one image


@njit(cache=True, nogil=True)
def _is_candidate(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    anchor: Int,
    label: Int,
    token: Int,
    s: Int,
    index: Int,
) -> bool:
    """Whether a place behind a token holds ``token`` and may decide."""
    if index >= views.num_tokens[s] or written_at(rules, s, index) != token:
        return False
    if match(views, s, index, history, t, length) < length:
        return False
    return bool(admits(views, documents, knobs, rules, history, t, anchor, label, s, index))


@njit(cache=True, nogil=True)
def _count(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    few: Few,
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
    places = few.size[0] if rules.in_place else few.size[0] * rules.sizes[t]
    if anchor == t and limit == t + 1 and not rules.in_place:
        length = longest_among(views, knobs, rules, few, history, t, needed, True)
        if length == limit:  # all that was written: candidates stand at position t only
            size = count_among(views, knobs, rules, few, work, history, t, length, True)
            return np.int64(_BEGINNING), length, size
    elif places > rules.many:
        length = longest_rare(
            views, documents, knobs, rules, work, history, t, anchor, label, needed, places
        )
        if length >= 0:
            size = count_rare(
                views, documents, knobs, rules, work, history, t, anchor, label, length
            )
            return np.int64(_RARE), length, size
    length = longest_among(views, knobs, rules, few, history, t, needed, False)
    size = count_among(views, knobs, rules, few, work, history, t, length, False)
    return np.int64(_AMONG), length, size


@njit(cache=True, nogil=True)
def _nth(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    work: Work,
    few: Few,
    history: NDArray[np.uint16],
    t: Int,
    way: Int,
    length: Int,
    anchor: Int,
    label: Int,
    token: Int,
    number: Int,
    count: Int,
) -> tuple[Int, Int]:
    """Shard and stream index of candidate ``number`` among the ``count`` that hold ``token``."""
    if way == _ALL:
        return _nth_of_all(views, documents, knobs, rules, work, length, t, token, number)
    if way == _RARE:
        return nth_rare(
            views, documents, knobs, rules, work, history, t, anchor, label, length, token, number
        )
    beginning = way == _BEGINNING
    return nth_among(views, knobs, rules, few, history, t, length, beginning, token, number, count)


@njit(cache=True, nogil=True)
def _anchor_and_label(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    few: Few,
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
        narrow_anchor(views, rules, few, history, t)
    same = t > 0 and rules.sizes[t] == rules.sizes[t - 1]
    if t == rules.label_tokens and rules.row_labels[b] >= 0:
        same = False
    anchor = choose_anchor(views, documents, rules, few, history, t, label, needed, anchor, same)
    return anchor, label, needed


@njit(cache=True, nogil=True)
def write_row(
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    memo: Memo,
    work: Work,
    few: Few,
    rows: Rows,
    b: Int,
    forced: bool,
    seed: np.uint64,
    sample: np.uint64,
) -> None:
    """Generate row ``b``, or trace it when its tokens are ``forced``, under conditions."""
    num_tokens = rows.tokens.shape[1]
    history = np.empty(num_tokens + 1, dtype=np.uint16)  # of what is compared
    history[0] = _EOS
    length, shard, index = np.int64(0), np.int64(-1), np.int64(-1)
    anchor, searched = np.int64(0), np.int64(0)
    work.longest[:] = 0
    for t in range(num_tokens):
        work.longest[:] += 1
        anchor, label, needed = _anchor_and_label(
            views, documents, knobs, rules, few, history, t, b, anchor
        )
        way, entry, size = np.int64(_ALL), np.int64(-1), np.int64(0)
        if anchor > 0 or label >= 0:
            way, length, size = _count(
                views, documents, knobs, rules, work, few, history, t, anchor, label, needed
            )
            searched = np.int64(_FORGOTTEN)
        else:
            length, entry = longest(views, documents, knobs, memo, work, history, t, searched)
            searched = length
            if entry < 0:
                size = _count_all(views, documents, knobs, rules, work, length, t)
        if entry >= 0:
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
        index += 1
        if chosen < 0:
            shard = np.int64(-1)
        elif shard < 0 or not _is_candidate(
            views, documents, knobs, rules, history, t, length, anchor, label, token, shard, index
        ):
            count = counts_K[chosen]
            number = which(count, second)
            shard, index = _nth(
                views, documents, knobs, rules, work, few, history, t, way, length, anchor, label,
                token, number, count,
            )  # fmt: skip
        if shard >= 0:
            note_source(views, documents, rows, b, t, shard, index)
        if way == _ALL and entry < 0 and total >= memo.frequent:
            remember(
                memo, views, history, t + 1, length, knobs.classes[t], total, bits,
                work.kept, tokens_K, counts_K, p_K,
            )  # fmt: skip
        history[t + 1] = token // rules.divisor
