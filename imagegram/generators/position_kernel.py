"""Compiled generation by position: the documents that agree just before the new token vote.

All documents lie in one position-major matrix; the longest context that enough documents share
is found by filtering them column by column, backwards. Defined by ``generators/reference.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.kernels import (
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
from imagegram.generators.philox import uniforms
from imagegram.indexes.kernels import Int


@njit(cache=True, nogil=True)
def write_row_by_position(
    columns_TN: NDArray[np.uint16],
    knobs: Knobs,
    members: NDArray[np.int32],
    work: Work,
    rows: Rows,
    b: Int,
    forced: bool,
    seed: np.uint64,
    sample: np.uint64,
) -> None:
    """Generate row ``b``, or trace it when its tokens are ``forced``, by position.

    ``columns_TN`` are the tokens of all documents, position by position; ``members`` is (2, N)
    scratch for document numbers.
    """
    num_tokens = columns_TN.shape[0]
    source = np.int64(-1)
    for t in range(num_tokens):
        limit = min(np.int64(knobs.limits[t]), t + 1)
        size, length = _agreeing(columns_TN, members, rows.tokens[b], t, limit, knobs.needed)
        num_distinct = 0
        for i in range(size):
            token = np.int64(columns_TN[t, members[0, i]])
            num_distinct = tally(work, num_distinct, token, 1)
        sort_tally(work, num_distinct)
        tokens_K, counts_K = work.tokens[:num_distinct], work.counts[:num_distinct]
        p_K = distribution(counts_K, knobs.temperature, knobs.top_k, knobs.top_p, knobs.min_p)
        note(rows, b, t, length, size, num_distinct, entropy_bits(p_K))
        first, second = uniforms(seed, sample, t)
        chosen = choose(rows, b, t, forced, first, tokens_K, p_K)
        if chosen < 0:
            source = np.int64(-1)
            continue
        agrees = source >= 0 and columns_TN[t, source] == rows.tokens[b, t]
        for back in range(1, min(length, t) + 1):
            agrees = agrees and columns_TN[t - back, source] == rows.tokens[b, t - back]
        if not agrees:
            number, i = which(counts_K[chosen], second), 0
            while number >= 0:
                source = np.int64(members[0, i])
                number -= columns_TN[t, source] == rows.tokens[b, t]
                i += 1
        rows.source_document[b, t] = source
        rows.source_position[b, t] = t


@njit(cache=True, nogil=True)
def _agreeing(
    columns_TN: NDArray[np.uint16],
    members: NDArray[np.int32],
    row_T: NDArray[np.uint16],
    t: Int,
    limit: Int,
    needed: Int,
) -> tuple[Int, Int]:
    """Documents in ``members[0]`` that agree with the row just before ``t``; and for how long.

    Returns:
        Number of documents, and the longest length up to ``limit`` that ``needed`` of them share.
    """
    size = columns_TN.shape[1]
    for i in range(size):
        members[0, i] = i
    for length in range(1, limit + 1):
        if length == t + 1:  # the separator: every document has it
            return size, length
        column, token, fewer = columns_TN[t - length], row_T[t - length], 0
        for i in range(size):
            document = members[0, i]
            members[1, fewer] = document
            fewer += column[document] == token
        if fewer < needed:
            return size, length - 1
        size = fewer
        members[0, :size] = members[1, :size]
    return size, limit
