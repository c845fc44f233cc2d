"""Documents that may decide: with the sample's label, and beginning as the sample does.

Parts of a step of ``search/kernel.py``. Documents that begin alike are neighbours in the order of
the table, so an anchor is an interval of ranks that each token narrows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.search.carry import num_places
from imagegram.generators.ngram.search.step import Search, Step, begins
from imagegram.indexes.kernels.search import (
    Int,
    locate,
    narrow,
    pointer_at,
    separator_at,
    token_at,
)

_EOS: Final = 65535


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
    """Make the scratch memory of one worker: 16 bytes a document."""
    return Voters(
        shard=np.empty(num_documents, dtype=np.int32),
        separator=np.empty(num_documents, dtype=np.int64),
        best=np.empty(num_documents, dtype=np.int32),
        size=np.zeros(1, dtype=np.int64),
        anchors=np.zeros((anchor + 1, 2, num_shards), dtype=np.int64),
        support=np.zeros(num_tokens + 2, dtype=np.int64),
    )


@njit(cache=True, nogil=True, counts=False)
def next_step(
    search: Search,
    voters: Voters,
    history: NDArray[np.uint16],
    t: Int,
    b: Int,
    previous: Int,
) -> Step:
    """Return the step of position ``t`` of row ``b``; collect the documents that may decide it.

    Its anchor is the longest that enough candidates share; ``previous`` is that of the step before.
    """
    rules, label, needed = search.rules, np.int64(-1), np.int64(search.knobs.needed)
    if t < rules.label_tokens:
        label = np.int64(rules.row_labels[b])
    if label >= 0:
        needed = min(needed, rules.first_member[label + 1] - rules.first_member[label])
    if t <= rules.anchor:
        _narrow_anchor(search, voters, history, t)
    top = min(np.int64(rules.anchor), t)
    # Where the same is asked of documents as before, one token more that was too much stays too
    # much; and nothing longer may be allowed yet.
    same = t > 0 and rules.sizes[t] == rules.sizes[t - 1]
    if t == rules.label_tokens and rules.row_labels[b] >= 0:
        same = False
    if same and (previous == top or previous < min(np.int64(rules.anchor), t - 1)):
        return Step(history, t, previous, label, needed)
    for anchor in range(top, 0, -1):
        step = Step(history, t, anchor, label, needed)
        _gather(search, voters, step)
        if _enough(search, voters, step):
            return step
    step = Step(history, t, np.int64(0), label, needed)
    if label >= 0:
        _gather(search, voters, step)
    return step


@njit(cache=True, nogil=True, counts=False)
def _narrow_anchor(search: Search, voters: Voters, history: NDArray[np.uint16], t: Int) -> None:
    """Find the ranks of documents that begin with ``t`` tokens, among those with one fewer."""
    views, anchors = search.views, voters.anchors
    for s in range(views.num_tokens.size):
        if t == 0:
            lo = search.rules.first_rank[s]
            hi = lo + views.num_documents[s]
        else:
            lo, hi = anchors[t - 1, 0, s], anchors[t - 1, 1, s]
            if lo < hi:
                lo, hi = narrow(views, s, lo, hi, t, np.int64(history[t]))
        anchors[t, 0, s], anchors[t, 1, s] = lo, hi


@njit(cache=True, nogil=True, counts=False)
def _gather(search: Search, voters: Voters, step: Step) -> None:
    """Collect the documents that have the step's label and begin with its anchor."""
    views, _, rules = search
    label = step.label
    lo_S, hi_S = voters.anchors[step.anchor, 0], voters.anchors[step.anchor, 1]
    size, ranks = 0, num_places(voters.anchors[step.anchor])
    # Look through the fewer: documents of the label, or those that begin with the anchor.
    if label >= 0 and rules.first_member[label + 1] - rules.first_member[label] <= ranks:
        s = 0
        for i in range(rules.first_member[label], rules.first_member[label + 1]):
            while rules.members[i] >= views.first_document[s] + views.num_documents[s]:
                s += 1
            separator = separator_at(views, s, rules.members[i] - views.first_document[s])
            if begins(views, s, separator, step):
                voters.shard[size], voters.separator[size] = s, separator
                size += 1
    else:
        for s in range(views.num_tokens.size):
            for rank in range(lo_S[s], hi_S[s]):
                separator = pointer_at(views, s, rank)
                if label >= 0 and rules.labels[locate(views, s, separator)[0]] != label:
                    continue
                voters.shard[size], voters.separator[size] = s, separator
                size += 1
    voters.size[0] = size


@njit(cache=True, nogil=True, counts=False)
def _enough(search: Search, voters: Voters, step: Step) -> bool:
    """Whether the collected documents hold as many candidates of the empty suffix as needed."""
    views, knobs, rules = search
    found = 0
    for i in range(voters.size[0]):
        s: Int = np.int64(voters.shard[i])
        size: Int = 0
        if knobs.filtered or rules.in_place:
            size = rules.sizes[step.t]
        elif views.stride[s] > 0:
            size = views.stride[s] - 1
        else:
            first = voters.separator[i] + 1
            while first + size < views.num_tokens[s] and token_at(views, s, first + size) != _EOS:
                size += 1
        found += min(size, 1) if knobs.count_documents else size
        if found >= step.needed:
            return True
    return False
