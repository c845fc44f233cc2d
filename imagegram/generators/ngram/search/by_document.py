"""The documents that may decide, looked at one by one; parts of a step of ``search/kernel.py``.

Documents that begin alike are neighbours in the order of the table, so an anchor is an interval of
ranks that each token narrows. The longest match before each place of the documents that are left
gives the support of every suffix at once, without a search.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Documents, Knobs, Work, sort_tally, tally
from imagegram.generators.ngram.search.intervals import locate
from imagegram.indexes.kernels.memory import load_u16
from imagegram.indexes.kernels.search import Int, ShardViews, key_at, narrow, pointer_at, token_at

_EOS: Final = 65535


class Rules(NamedTuple):
    """What a sampler asks of documents, as numbers; N documents of S shards, K labels.

    Attributes:
        anchor: longest anchor, at most the tokens of an image.
        label_tokens: first tokens that the label decides.
        in_place: whether only the same position of another document is a candidate.
        divisor: of tokens, before they are compared; 1: whole tokens.
        many: places of the documents that may decide above which rare contexts are searched for.
        count_documents: of the sampler.
        next_address: (S,) uint64 address of the streams of whole tokens.
        first_rank: (S,) int64 rank of the first separator that begins a document.
        labels: (N,) int32 label of each document, -1 for none.
        members: (M,) int64 documents of label 0, then of label 1 ..., ascending.
        first_member: (K + 1,) int64 where each label's begin.
        row_labels: (B,) int32 label of each row, -1: any.
        sizes: (T,) int64 positions of the class of each position.
    """

    anchor: int
    label_tokens: int
    in_place: bool
    divisor: int
    many: int
    count_documents: bool
    next_address: NDArray[np.uint64]
    first_rank: NDArray[np.int64]
    labels: NDArray[np.int32]
    members: NDArray[np.int64]
    first_member: NDArray[np.int64]
    row_labels: NDArray[np.int32]
    sizes: NDArray[np.int64]


class Voters(NamedTuple):
    """The documents that may decide, and scratch memory of one worker.

    Attributes:
        shard: (N,) int32.
        separator: (N,) int64 stream index of the separator before each.
        best: (N,) int32 longest match before a place of each.
        size: (1,) int64 how many there are.
        anchors: (anchor + 1, 2, S) int64 first and last rank of the separators before documents
            that begin with so many tokens of the sample.
        support: (T + 2,) int64 candidates by the length of their match.
    """

    shard: NDArray[np.int32]
    separator: NDArray[np.int64]
    best: NDArray[np.int32]
    size: NDArray[np.int64]
    anchors: NDArray[np.int64]
    support: NDArray[np.int64]


def make_voters(num_documents: int, num_shards: int, num_tokens: int, anchor: int) -> Voters:
    """Scratch memory for one worker: 16 bytes a document."""
    return Voters(
        shard=np.empty(num_documents, dtype=np.int32),
        separator=np.empty(num_documents, dtype=np.int64),
        best=np.empty(num_documents, dtype=np.int32),
        size=np.zeros(1, dtype=np.int64),
        anchors=np.zeros((anchor + 1, 2, num_shards), dtype=np.int64),
        support=np.zeros(num_tokens + 2, dtype=np.int64),
    )


@njit(inline="always")
def written_at(rules: Rules, s: Int, index: Int) -> Int:
    """The whole token at a place of the corpus, where views may hold coarse ones."""
    return np.int64(load_u16(rules.next_address[s] + np.uint64(2 * index)))


@njit(cache=True, nogil=True)
def match(
    views: ShardViews, s: Int, index: Int, history: NDArray[np.uint16], t: Int, limit: Int
) -> Int:
    """Tokens before a place, ``limit`` at most, that are those before position ``t``."""
    length = 0
    while length < limit and token_at(views, s, index - length - 1) == np.int64(
        history[t - length]
    ):
        length += 1
    return length


@njit(cache=True, nogil=True)
def begins(
    views: ShardViews, s: Int, separator: Int, history: NDArray[np.uint16], anchor: Int
) -> bool:
    """Whether a document begins with the first ``anchor`` tokens of the history."""
    for i in range(1, anchor + 1):
        at = separator + i
        if at >= views.num_tokens[s] or token_at(views, s, at) != np.int64(history[i]):
            return False
    return True


# ------------------------------------------------------------------------- documents that decide


@njit(cache=True, nogil=True)
def narrow_anchor(
    views: ShardViews, rules: Rules, voters: Voters, history: NDArray[np.uint16], t: Int
) -> None:
    """Ranks of the documents that begin with the first ``t`` tokens, from those with one fewer."""
    for s in range(views.num_tokens.size):
        if t == 0:
            voters.anchors[0, 0, s] = rules.first_rank[s]
            voters.anchors[0, 1, s] = rules.first_rank[s] + views.num_documents[s]
            continue
        lo, hi = voters.anchors[t - 1, 0, s], voters.anchors[t - 1, 1, s]
        if lo < hi:
            lo, hi = narrow(views, s, lo, hi, t, np.int64(history[t]))
        voters.anchors[t, 0, s], voters.anchors[t, 1, s] = lo, hi


@njit(cache=True, nogil=True)
def _gather(
    views: ShardViews,
    documents: Documents,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    anchor: Int,
    label: Int,
) -> None:
    """Collect the documents that begin with ``anchor`` tokens of the history and have a label."""
    size, ranks = 0, 0
    for s in range(views.num_tokens.size):
        ranks += voters.anchors[anchor, 1, s] - voters.anchors[anchor, 0, s]
    if label >= 0 and rules.first_member[label + 1] - rules.first_member[label] <= ranks:
        s = 0
        for i in range(rules.first_member[label], rules.first_member[label + 1]):
            while rules.members[i] >= views.first_document[s] + views.num_documents[s]:
                s += 1
            separator = _separator(documents, s, rules.members[i] - views.first_document[s])
            if begins(views, s, separator, history, anchor):
                voters.shard[size], voters.separator[size] = s, separator
                size += 1
    else:
        for s in range(views.num_tokens.size):
            for rank in range(voters.anchors[anchor, 0, s], voters.anchors[anchor, 1, s]):
                separator = pointer_at(views, s, rank)
                if label >= 0:
                    document = locate(documents, views, s, separator + 1)[0]
                    if rules.labels[views.first_document[s] + document] != label:
                        continue
                voters.shard[size], voters.separator[size] = s, separator
                size += 1
    voters.size[0] = size


@njit(inline="always")
def _separator(documents: Documents, s: Int, document: Int) -> Int:
    """Stream index of the separator before a document of a shard."""
    stride = documents.stride[s]
    if stride > 0:
        return document * stride
    return documents.starts[documents.first_start[s] + document]


@njit(cache=True, nogil=True)
def _enough(
    views: ShardViews, documents: Documents, rules: Rules, voters: Voters, t: Int, needed: Int
) -> bool:
    """Whether the collected documents hold as many candidates of the empty suffix as needed."""
    found = 0
    for i in range(voters.size[0]):
        s: Int = np.int64(voters.shard[i])
        size: Int = 0
        if documents.stride[s] > 0:
            size = rules.sizes[t]
        else:
            first = voters.separator[i] + 1
            while first + size < views.num_tokens[s] and token_at(views, s, first + size) != _EOS:
                size += 1
        found += min(size, 1) if rules.count_documents else size
        if found >= needed:
            return True
    return False


@njit(cache=True, nogil=True)
def choose_anchor(
    views: ShardViews,
    documents: Documents,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    label: Int,
    needed: Int,
    previous: Int,
    same: bool,
) -> Int:
    """Most first tokens that enough candidates share; collects their documents.

    ``previous`` is what position t - 1 chose, ``same`` whether it asked for the same label and as
    many candidates of a document. Then one token more that was too much stays too much.
    """
    top = min(np.int64(rules.anchor), t)
    if same and (previous == top or previous < min(np.int64(rules.anchor), t - 1)):
        return previous
    for anchor in range(top, 0, -1):
        _gather(views, documents, rules, voters, history, anchor, label)
        if _enough(views, documents, rules, voters, t, needed):
            return anchor
    if label >= 0:
        _gather(views, documents, rules, voters, history, 0, label)
    return 0


# -------------------------------------------------------------------- what these documents decide


@njit(inline="always")
def _first_place(rules: Rules, voters: Voters, i: Int, t: Int, beginning: bool) -> Int:
    """Where the candidates of a document begin; with ``beginning`` only position t is one."""
    return voters.separator[i] + 1 + (t if beginning or rules.in_place else 0)


@njit(inline="always")
def _is_open(
    views: ShardViews,
    rules: Rules,
    voters: Voters,
    i: Int,
    s: Int,
    index: Int,
    t: Int,
    beginning: bool,
) -> bool:
    """Whether a place still is inside the document, and not behind the only candidate."""
    if index >= views.num_tokens[s] or token_at(views, s, index) == _EOS:
        return False
    return not (beginning or rules.in_place) or index == voters.separator[i] + 1 + t


@njit(cache=True, nogil=True)
def longest_among(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    needed: Int,
    beginning: bool,
) -> Int:
    """Longest suffix that enough candidates follow; 0 when none does."""
    limit = min(np.int64(knobs.limits[t]), t + 1)
    voters.support[: limit + 1] = 0
    for i in range(voters.size[0]):
        s, best = np.int64(voters.shard[i]), np.int64(-1)
        index = _first_place(rules, voters, i, t, beginning)
        while _is_open(views, rules, voters, i, s, index, t, beginning):
            if not _is_other(knobs, rules, voters, i, index, t):
                length = match(views, s, index, history, t, limit)
                best = max(best, length)
                if not rules.count_documents:
                    voters.support[length] += 1
            index += 1
        voters.best[i] = best
        if rules.count_documents and best >= 0:
            voters.support[best] += 1
    length, found = limit, voters.support[limit]
    while length > 0 and found < needed:
        length -= 1
        found += voters.support[length]
    return length


@njit(inline="always")
def _is_other(knobs: Knobs, rules: Rules, voters: Voters, i: Int, index: Int, t: Int) -> bool:
    """Whether a place of a document has another class than position t."""
    if not knobs.filtered or rules.in_place:
        return False
    return bool(knobs.classes[index - voters.separator[i] - 1] != knobs.classes[t])


@njit(cache=True, nogil=True)
def count_among(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    work: Work,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    beginning: bool,
) -> Int:
    """Count the tokens of the candidates into ``work``; returns how many are distinct."""
    num_distinct = 0
    for i in range(voters.size[0]):
        if voters.best[i] < length:
            continue
        s = np.int64(voters.shard[i])
        index = _first_place(rules, voters, i, t, beginning)
        while _is_open(views, rules, voters, i, s, index, t, beginning):
            if (
                not _is_other(knobs, rules, voters, i, index, t)
                and match(views, s, index, history, t, length) == length
            ):
                num_distinct = tally(work, num_distinct, written_at(rules, s, index), 1)
            index += 1
    sort_tally(work, num_distinct)
    return num_distinct


@njit(cache=True, nogil=True)
def nth_among(
    views: ShardViews,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    length: Int,
    beginning: bool,
    token: Int,
    number: Int,
    count: Int,
) -> tuple[Int, Int]:
    """Shard and stream index of candidate ``number`` among the ``count`` that hold ``token``."""
    shards, places = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    found = 0
    for i in range(voters.size[0]):
        if voters.best[i] < length:
            continue
        s = np.int64(voters.shard[i])
        index = _first_place(rules, voters, i, t, beginning)
        while _is_open(views, rules, voters, i, s, index, t, beginning):
            if (
                written_at(rules, s, index) == token
                and not _is_other(knobs, rules, voters, i, index, t)
                and match(views, s, index, history, t, length) == length
            ):
                shards[found], places[found] = s, index
                found += 1
            index += 1
    return _select(views, shards, places, number)


@njit(cache=True, nogil=True)
def _select(
    views: ShardViews, shards: NDArray[np.int64], places: NDArray[np.int64], number: Int
) -> tuple[Int, Int]:
    """The place with so many before it, shard by shard in table order (quickselect)."""
    lo, hi = np.int64(0), places.size - 1
    while lo < hi:
        middle = (lo + hi) >> 1
        s, at, i, j = shards[middle], places[middle], lo, hi
        while i <= j:
            while _precedes(views, shards[i], places[i], s, at):
                i += 1
            while _precedes(views, s, at, shards[j], places[j]):
                j -= 1
            if i <= j:
                shards[i], shards[j] = shards[j], shards[i]
                places[i], places[j] = places[j], places[i]
                i, j = i + 1, j - 1
        if number <= j:
            hi = j
        elif number >= i:
            lo = i
        else:
            break
    return shards[number], places[number]


@njit(cache=True, nogil=True)
def _precedes(views: ShardViews, s: Int, index: Int, other_s: Int, other: Int) -> bool:
    """Whether the suffix at a place comes before another: of an earlier shard, or in its table."""
    if s != other_s or index == other:
        return bool(s < other_s)
    while True:
        key, other_key = key_at(views, s, index), key_at(views, s, other)
        if key != other_key:
            return bool(key < other_key)
        index, other = index + 1, other + 1
