"""Counts after the contexts of every position, from replays of an n-gram: as places match.

Counts come from the traces of a replay for each length of context, and of one replay of a few rows
for no context (with matching by position, of up to twice as many rows as images). A trace keeps
probabilities in 24 bits: counts are exact below 2^23, and beyond wrong by less than one in 2^23,
some 10^-7 bits.

>>> counts = np.array([3.0, 1.0, 0.0])  # of three tokens after some context
>>> p = interpolate(np.full(3, 1 / 3), counts, total=4.0, distinct=2.0, discount=0.75)
>>> p.round(4).tolist(), float(p.sum())
([0.6875, 0.1875, 0.125], 1.0)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import UnsupportedError
from imagegram.generators.ngram.model import NgramModel
from imagegram.protocols import Index, Reference
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from imagegram.samplers.ngram import NgramSampler, matching_classes

Array = NDArray[np.float64]


def counts_after(tokens_BT: Tokens, reference: Reference, order: int, *, matching: str) -> Counts:
    """Return the counts after the last ``order`` tokens before every position."""
    sampler = NgramSampler(
        name=f"order_{order}",
        temperature=1.0,
        max_context=max(order, 1),
        matching=matching,
    )
    model = NgramModel.over(reference.index).prepared(sampler, reference.context, reference.layout)
    trace = model.score(
        tokens_BT,
        sampler=sampler,
        layout=reference.layout,
        seed=reference.seed,
        progress=reference.progress,
        workers=reference.workers,
    )
    return counts_of(trace, order)


def counts_after_nothing(tokens_BT: Tokens, reference: Reference, *, matching: str) -> Counts:
    """Return the counts of order 0, by replaying tokens after one that occurs nowhere.

    They depend only on the class of a position and its token: each pair is replayed once.
    """
    seen = np.zeros(tokens_BT.shape, dtype=np.bool_)
    none = Counts(seen, *(np.ones(tokens_BT.shape) for _ in range(3)))
    if tokens_BT.shape[1] == 1:  # only first tokens
        return none
    classes_T = matching_classes(matching, reference.layout)
    asked = pack_pairs(tokens_BT[:, 1:], classes_T, absent=absent_token(reference.index))
    answers = counts_after(asked.rows, reference, 0, matching=matching)
    for wanted, answer in zip(none, answers, strict=True):
        wanted[:, 1:] = answer[asked.row, asked.column][asked.inverse]
    return none


class Pairs(NamedTuple):
    """Rows to replay that count how often a token occurs at positions of a class.

    Attributes:
        rows: (R, T) uint16; every counted token follows a token that occurs nowhere.
        row, column: (P,) place of each pair of class and token in ``rows``.
        inverse: (B, T - 1) pair of every token but the first of each image.
    """

    rows: Tokens
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    inverse: NDArray[np.int64]


def pack_pairs(tokens_BT: Tokens, classes_T: NDArray[np.int32], *, absent: int) -> Pairs:
    """Pack the pairs of class and token into few rows.

    A row has counted tokens at even or at odd positions and ``absent`` elsewhere; so two rows count
    one token at every position but the first, whose context is the separator.

    Args:
        tokens_BT: (B, T - 1) tokens of the positions 1 ... T - 1.
        classes_T: matching class of every position.
        absent: an id that no training image holds.
    """
    keys, inverse = np.unique(classes_T[1:].astype(np.int64) << 16 | tokens_BT, return_inverse=True)
    columns = np.argsort(classes_T[1:], kind="stable") + 1  # class by class
    of_columns, of_keys = classes_T[columns], keys >> 16
    first = np.searchsorted(of_columns, of_keys)
    width = np.searchsorted(of_columns, of_keys, side="right") - first
    turn, place = np.divmod(np.arange(len(keys)) - np.searchsorted(of_keys, of_keys), width)
    column = columns[first + place]
    row = 2 * turn + column % 2
    rows = np.full((2 * int(turn.max()) + 2, len(classes_T)), absent, dtype=np.uint16)
    rows[row, column] = keys & 0xFFFF
    return Pairs(rows=rows, row=row, column=column, inverse=inverse.reshape(tokens_BT.shape))


class Counts(NamedTuple):
    """Exact counts of one order, arrays (B, T).

    Attributes:
        seen: whether the context occurs, c(h) > 0; otherwise the other counts are undefined.
        held: c(hw) of the row's own token.
        total: c(h).
        distinct: N1+(h).
    """

    seen: NDArray[np.bool_]
    held: Array
    total: Array
    distinct: Array


def counts_of(trace: Trace, order: int) -> Counts:
    """Return the counts of one order from the trace of a sampler with temperature 1."""
    total = trace["num_contexts"].astype(np.float64)
    return Counts(
        seen=trace["suffix_len"] == order,
        held=np.rint(trace["probability"].astype(np.float64) * total),
        total=total,
        distinct=trace["num_distinct"].astype(np.float64),
    )


def interpolate(shorter: Array, held: Any, total: Any, distinct: Any, *, discount: float) -> Array:
    """Return probabilities of tokens after a context, given those after a shorter one.

    Args:
        shorter: p_{k-1}(w|h').
        held: c(hw), number of places with the token after the context.
        total: c(h), number of places after the context; at least 1.
        distinct: N1+(h), number of different tokens after the context.
        discount: d in (0, 1], subtracted from the count of every seen token.
    """
    return np.asarray((np.maximum(held - discount, 0.0) + discount * distinct * shorter) / total)


def absent_token(index: Index) -> int:
    """Return the largest id that occurs in no training image.

    Raises:
        UnsupportedError: when all 65,535 occur.
    """
    for token in range(EOS_TOKEN_ID - 1, -1, -1):
        if index.count([token]) == 0:
            return token
    raise UnsupportedError("every id below the separator occurs, so none can stand for no context")
