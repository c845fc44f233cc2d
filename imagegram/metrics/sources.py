"""Where every token of an image was copied from: a parse into the longest phrases of the corpus.

Reading left to right, take the longest run that the training corpus holds, then go on after it:
the fewest cut-and-paste operations that make the image (greedy is optimal for this; Ziv and Merhav,
"A measure of relative entropy between individual sequences", IEEE Trans. Inf. Theory 1993).

Each phrase is credited to *one* training document among its first ``max_candidates`` occurrences
(shard by shard, table order): the one that was credited with most tokens of this image so far,
ties to the smallest document id. A token that the corpus does not hold is a phrase of length 0 and
is credited to nobody. So a training image is one phrase of one source. A frequent phrase may have
its true source beyond the candidates: shares are lower bounds, for all image sets alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from imagegram.errors import UnsupportedError
from imagegram.indexes.kernels import (
    Int,
    ShardViews,
    common_length,
    narrow,
    pointer_at,
    prefix_bucket,
    shard_views,
)
from imagegram.protocols import Tokens

if TYPE_CHECKING:
    from imagegram.indexes.format import IndexShard


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The parse of (B, T) tokens.

    Attributes:
        span_lengths: (B, T) int32 length of the phrase that each token lies in; 0: unseen token.
        documents: (B,) int64 training document with most credited tokens; -1: none.
        shares: (B,) float64 share of the image's tokens credited to it, 0 ... 1.
    """

    span_lengths: NDArray[np.int32]
    documents: NDArray[np.int64]
    shares: NDArray[np.float64]


def parse_sources(
    shards: Sequence[IndexShard], tokens_BT: Tokens, *, max_candidates: int = 64, threads: int = 1
) -> Sources:
    """Parse every row against the shards of an index.

    Raises:
        UnsupportedError: when the documents of the index are not all T tokens long.
    """
    batch, num_tokens = tokens_BT.shape
    for shard in shards:
        if shard.num_documents and shard.document_length != num_tokens:
            raise UnsupportedError(
                f"{shard.path} holds documents of {shard.document_length or 'several'} tokens, the "
                f"images have {num_tokens} tokens: parse images against an index of their tokenizer"
            )
    spans_BT = np.zeros((batch, num_tokens), dtype=np.int32)
    documents_B = np.full(batch, -1, dtype=np.int64)
    credited_B = np.zeros(batch, dtype=np.int64)
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(threads, before)))
    try:
        _parse_rows(
            shard_views(shards),
            np.ascontiguousarray(tokens_BT),
            max_candidates,
            spans_BT,
            documents_B,
            credited_B,
        )
    finally:
        numba.set_num_threads(before)
    return Sources(
        span_lengths=spans_BT, documents=documents_B, shares=credited_B / max(1, num_tokens)
    )


@njit(cache=True, nogil=True)
def longest_prefix(
    views: ShardViews, s: Int, ids: NDArray[np.uint16], start: Int
) -> tuple[Int, Int, Int]:
    """Longest prefix of ``ids[start:]`` that shard ``s`` holds: length and ranks [lo, hi)."""
    end = len(ids)
    lo, hi, depth = prefix_bucket(views, s, ids, start, end)
    if lo == hi and depth == 2:
        lo, hi, depth = prefix_bucket(views, s, ids, start, start + 1)
        return (1 if lo < hi else 0), lo, hi
    if lo == hi:
        return 0, lo, hi
    while start + depth < end:
        shared = common_length(views, s, pointer_at(views, s, lo) + depth, ids, start + depth, end)
        if hi - lo > 1:
            last = pointer_at(views, s, hi - 1) + depth
            shared = min(shared, common_length(views, s, last, ids, start + depth, end))
        depth += shared
        if start + depth < end:
            first, after = narrow(views, s, lo, hi, depth, np.int64(ids[start + depth]))
            if first == after:
                break
            lo, hi, depth = first, after, depth + 1
    return depth, lo, hi


@njit(cache=True, nogil=True)
def _best_document(
    views: ShardViews,
    lengths: NDArray[np.int64],
    ranges: NDArray[np.int64],
    longest: Int,
    max_candidates: Int,
    num_tokens: Int,
    credit: NDArray[np.int64],
) -> Int:
    """The candidate with most credit so far, ties to the smallest id."""
    best: Int = -1
    left = max_candidates
    for s in range(len(lengths)):
        if lengths[s] != longest:
            continue
        taken = min(left, ranges[s, 1] - ranges[s, 0])
        left -= taken
        for rank in range(ranges[s, 0], ranges[s, 0] + taken):
            # Equal documents, a separator before each: division finds the document.
            inside = pointer_at(views, s, rank) // (num_tokens + 1)
            document = views.first_document[s] + inside
            if (
                best < 0
                or credit[document] > credit[best]
                or (credit[document] == credit[best] and document < best)
            ):
                best = document
    return best


@njit(cache=True, nogil=True, parallel=True)
def _parse_rows(
    views: ShardViews,
    tokens_BT: NDArray[np.uint16],
    max_candidates: Int,
    spans_BT: NDArray[np.int32],
    documents_B: NDArray[np.int64],
    credited_B: NDArray[np.int64],
) -> None:
    """Parse every row; writes the last three arrays."""
    num_shards, num_tokens = len(views.num_tokens), tokens_BT.shape[1]
    num_documents = views.num_documents.sum()
    for b in prange(len(tokens_BT)):
        credit = np.zeros(num_documents, dtype=np.int64)
        lengths = np.zeros(num_shards, dtype=np.int64)
        ranges = np.zeros((num_shards, 2), dtype=np.int64)
        start = 0
        while start < num_tokens:
            for s in range(num_shards):
                lengths[s], ranges[s, 0], ranges[s, 1] = longest_prefix(
                    views, s, tokens_BT[b], start
                )
            longest = lengths.max()
            if longest == 0:
                start += 1
                continue
            best = _best_document(
                views, lengths, ranges, longest, max_candidates, num_tokens, credit
            )
            credit[best] += longest
            spans_BT[b, start : start + longest] = longest
            start += longest
        if credit.max() > 0:
            documents_B[b] = credit.argmax()  # the first of equals: the smallest id
            credited_B[b] = credit.max()
