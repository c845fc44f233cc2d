"""Which documents may decide: those of a label that begin as the sample does.

Parts of a step of ``search/kernel.py``. Documents that begin alike are neighbours in the order of
the table, so an anchor is an interval of ranks that each token narrows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Documents, Knobs
from imagegram.generators.ngram.search.intervals import locate
from imagegram.indexes.kernels.memory import load_u16
from imagegram.indexes.kernels.search import Int, ShardViews, narrow, pointer_at, token_at

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


@njit(inline="always")
def coarse_of(rules: Rules, token: Int) -> Int:
    """What of a token is compared; separators stay what they are."""
    return token if token == _EOS else token // rules.divisor


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
    # Look through the fewer: documents of the label, or those that begin with the anchor.
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
    views: ShardViews,
    documents: Documents,
    knobs: Knobs,
    rules: Rules,
    voters: Voters,
    t: Int,
    needed: Int,
) -> bool:
    """Whether the collected documents hold as many candidates of the empty suffix as needed."""
    found = 0
    for i in range(voters.size[0]):
        s: Int = np.int64(voters.shard[i])
        size: Int = 0
        if knobs.filtered or rules.in_place:
            size = rules.sizes[t]
        elif documents.stride[s] > 0:
            size = documents.stride[s] - 1
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
    knobs: Knobs,
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
    # Nothing longer is allowed yet, or it had too few documents before this token already.
    if same and (previous == top or previous < min(np.int64(rules.anchor), t - 1)):
        return previous
    for anchor in range(top, 0, -1):
        _gather(views, documents, rules, voters, history, anchor, label)
        if _enough(views, documents, knobs, rules, voters, t, needed):
            return anchor
    if label >= 0:
        _gather(views, documents, rules, voters, history, 0, label)
    return 0
