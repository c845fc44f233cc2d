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
from typing import Any

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


def parse_sources(
    index: Index,
    tokens_BT: Tokens,
    lengths_BT: NDArray[np.integer[Any]],
    *,
    max_candidates: int = 64,
    workers: int | None = None,
) -> Sources:
    """Parse every row and credit its phrases.

    Args:
        index: over the training documents.
        tokens_BT: images.
        lengths_BT: their longest matches, as the index gives them.
        max_candidates: occurrences of a phrase among which its source is chosen.
        workers: threads; None: all cores.
    """
    from imagegram.metrics.credit import credit

    phrases = index.parse_rows(
        tokens_BT, lengths_BT, max_occurrences=max_candidates, workers=workers
    )
    num_tokens = tokens_BT.shape[1]
    spans_BT, documents_B, credited_B = credit(
        phrases, num_documents=index.num_documents, num_tokens=num_tokens
    )
    return Sources(
        span_lengths=spans_BT, documents=documents_B, shares=credited_B / max(num_tokens, 1)
    )
