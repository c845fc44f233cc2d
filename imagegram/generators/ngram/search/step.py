"""The records of ``search/kernel.py``, and which tokens of the corpus are a step's candidates."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs
from imagegram.indexes.kernels.memory import load_u16
from imagegram.indexes.kernels.search import Int, ShardViews, locate, token_at

_EOS: Final = 65535


class Rules(NamedTuple):
    """Conditions on documents, as numbers; N documents of S shards, K labels.

    Attributes:
        anchor: longest anchor, at most the tokens of an image.
        label_tokens: first tokens that the label decides; 0 without labels.
        in_place: whether only the same position of another document is a candidate.
        divisor: divisor of tokens before they are compared; 1: whole tokens are.
        many: places of the documents that may decide above which rare contexts are searched for.
        next_address: (S,) uint64 address of the streams of whole tokens.
        first_rank: (S,) int64 rank of the first separator that begins a document.
        labels: (N,) int32 label of each document, -1 for none; empty without labels.
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
    next_address: NDArray[np.uint64]
    first_rank: NDArray[np.int64]
    labels: NDArray[np.int32]
    members: NDArray[np.int64]
    first_member: NDArray[np.int64]
    row_labels: NDArray[np.int32]
    sizes: NDArray[np.int64]


class Search(NamedTuple):
    """Shards, sampler and conditions, the same for all rows of a job.

    Attributes:
        views: shards of what is compared: whole tokens or coarse ids.
        knobs: the sampler.
        rules: conditions on documents.
    """

    views: ShardViews
    knobs: Knobs
    rules: Rules


class Step(NamedTuple):
    """The next token of a row.

    Attributes:
        history: (T + 1,) uint16 the separator, then what is compared of the tokens so far.
        t: position of the next token.
        anchor: first tokens of the row that documents must begin with.
        label: label that documents must have; -1: any.
        needed: candidates that a context needs.
    """

    history: NDArray[np.uint16]
    t: Int
    anchor: Int
    label: Int
    needed: Int


@njit(inline="always", counts=False)
def written_at(rules: Rules, s: Int, index: Int) -> Int:
    """Return the whole token at a place of the corpus, where views may hold coarse ones."""
    return np.int64(load_u16(rules.next_address[s] + np.uint64(2 * index)))


@njit(inline="always", counts=False)
def coarse_of(rules: Rules, token: Int) -> Int:
    """Return what of a token is compared; separators stay what they are."""
    return token if token == _EOS else token // rules.divisor


@njit(cache=True, nogil=True, counts=False)
def match(views: ShardViews, s: Int, index: Int, step: Step, limit: Int) -> Int:
    """Count the tokens before a place, ``limit`` at most, that equal those before the step."""
    length = 0
    while length < limit and token_at(views, s, index - length - 1) == np.int64(
        step.history[step.t - length]
    ):
        length += 1
    return length


@njit(cache=True, nogil=True, counts=False)
def begins(views: ShardViews, s: Int, separator: Int, step: Step) -> bool:
    """Whether a document begins with the step's anchor."""
    for i in range(1, step.anchor + 1):
        at = separator + i
        if at >= views.num_tokens[s] or token_at(views, s, at) != np.int64(step.history[i]):
            return False
    return True


@njit(inline="always", counts=False)
def locate_next(views: ShardViews, s: Int, index: Int) -> tuple[Int, Int]:
    """Return document and position of a next token: a separator ends the document before it."""
    document, position = locate(views, s, index - 1)
    return document, position + 1


@njit(inline="always", counts=False)
def is_conditional(step: Step) -> bool:
    """Whether only some documents may decide a step."""
    return bool(step.anchor > 0 or step.label >= 0)


@njit(inline="always", counts=False)
def has_class(classes_T: NDArray[np.int32], stride: Int, index: Int, group: Int) -> bool:
    """Whether a place of equally long documents has a class; a separator has none.

    It takes arrays and no records of them, whose references would be counted place by place.
    """
    slot = np.int64(np.uint64(index) % np.uint64(stride))  # no token is read
    return bool(slot > 0 and classes_T[slot - 1] == group)


@njit(cache=True, nogil=True, counts=False)
def may_decide(search: Search, step: Step, length: Int, s: Int, index: Int) -> bool:
    """Whether a next token, behind ``length`` ones, lies in a document that may decide."""
    views, knobs, rules = search
    if index >= views.num_tokens[s]:
        return False
    if written_at(rules, s, index) == _EOS and not (knobs.ends and length > 0):
        return False
    document, position = locate_next(views, s, index)
    if step.label >= 0 and rules.labels[document] != step.label:
        return False
    return bool(begins(views, s, index - position - 1, step))
