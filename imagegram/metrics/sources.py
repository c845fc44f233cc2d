"""Where every token of an image was copied from: a parse into the longest phrases of the corpus.

Reading left to right, take the longest run that the training corpus holds, then go on after it:
the fewest cut-and-paste operations that make the image (greedy is optimal for this; Ziv and Merhav,
"A measure of relative entropy between individual sequences", IEEE Trans. Inf. Theory 1993).

Each phrase is credited to *one* training document among its first ``max_candidates`` occurrences
(shard by shard, table order): the one that was credited with most tokens of this image so far,
ties to the smallest document id. A token that the corpus does not hold is credited to nobody. So a
training image is one phrase of one source. A frequent phrase may have its true source beyond the
candidates: shares are lower bounds, for all image sets alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import Index
from imagegram.records import Tokens


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


def parse_sources(index: Index, tokens_BT: Tokens, *, max_candidates: int = 64) -> Sources:
    """Parse every row and credit its phrases.

    Args:
        index: over the training documents.
        tokens_BT: images.
        max_candidates: occurrences of a phrase among which its source is chosen.
    """
    batch, num_tokens = tokens_BT.shape
    spans_BT = np.zeros((batch, num_tokens), dtype=np.int32)
    documents_B = np.full(batch, -1, dtype=np.int64)
    shares_B = np.zeros(batch)
    for b, row in enumerate(tokens_BT):
        credit = np.zeros(index.num_documents, dtype=np.int64)
        for phrase in index.parse(row, max_occurrences=max_candidates):
            if phrase.count == 0:
                continue
            so_far = credit[phrase.documents]
            source = phrase.documents[so_far == so_far.max()].min()
            credit[source] += phrase.length
            spans_BT[b, phrase.start : phrase.start + phrase.length] = phrase.length
        if credit.any():
            documents_B[b] = credit.argmax()  # the first of equals: the smallest id
            shares_B[b] = credit.max() / num_tokens
    return Sources(span_lengths=spans_BT, documents=documents_B, shares=shares_B)
