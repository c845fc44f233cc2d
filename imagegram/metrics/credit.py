"""Crediting phrases to training documents, compiled; what it means is told in ``sources.py``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.records import Phrases


def credit(
    phrases: Phrases, *, num_documents: int, num_tokens: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Span lengths (B, T), largest source (B,) and the tokens credited to it (B,)."""
    batch = len(phrases.ends)
    spans_BT = np.zeros((batch, num_tokens), dtype=np.int32)
    documents_B = np.full(batch, -1, dtype=np.int64)
    tokens_B = np.zeros(batch, dtype=np.int64)
    _credit_rows(
        phrases.ends,
        phrases.starts,
        phrases.lengths,
        phrases.places,
        phrases.offsets,
        phrases.documents,
        np.zeros(num_documents, dtype=np.int64),
        spans_BT,
        documents_B,
        tokens_B,
    )
    return spans_BT, documents_B, tokens_B


@njit(cache=True, nogil=True)
def _credit_rows(
    ends: NDArray[np.int64],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    places: NDArray[np.int64],
    offsets: NDArray[np.int64],
    found: NDArray[np.int32],
    credited: NDArray[np.int64],
    spans: NDArray[np.int32],
    documents: NDArray[np.int64],
    tokens: NDArray[np.int64],
) -> None:
    """Credit the phrases of one row after the other; ``credited`` is zero before and after."""
    sources = np.empty(spans.shape[1], dtype=np.int64)
    first = 0
    for b in range(ends.size):
        number = 0
        for p in range(first, ends[b]):
            source, most = np.int64(-1), np.int64(-1)
            for k in range(offsets[places[p]], offsets[places[p] + 1]):
                document = np.int64(found[k])
                so_far = credited[document]
                if so_far > most or (so_far == most and document < source):
                    source, most = document, so_far
            if source >= 0:
                if most == 0:
                    sources[number] = source
                    number += 1
                credited[source] += lengths[p]
                spans[b, starts[p] : starts[p] + lengths[p]] = lengths[p]
        for source in sources[:number]:
            more = credited[source] > tokens[b]
            if more or (credited[source] == tokens[b] and source < documents[b]):
                documents[b], tokens[b] = source, credited[source]
        for source in sources[:number]:
            credited[source] = 0
        first = ends[b]
