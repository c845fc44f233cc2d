"""Crediting phrases to sources, compiled; the rules are explained in ``sources.py``."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.search import Int
from imagegram.records import Phrases, Sources, Tokens


def credit(
    phrases: Phrases, *, clusters: NDArray[np.int64], sizes: NDArray[np.int64], num_tokens: int
) -> Sources:
    """Credit the phrases of B rows of T tokens to sources.

    Args:
        phrases: phrases of B rows.
        clusters: (N,) cluster of each document: the lowest document id in it.
        sizes: (B,) tokens of each row without its padding.
        num_tokens: T.
    """
    batch = len(phrases.ends)
    spans_BT = np.zeros((batch, num_tokens), dtype=np.int32)
    documents_BT = np.full((batch, num_tokens), -1, dtype=np.int32)
    tokens_B = np.zeros(batch, dtype=np.int64)
    clusters_B, documents_B = (np.full(batch, -1, dtype=np.int64) for _ in range(2))
    effective_B = np.zeros(batch)
    _credit_rows(
        phrases.ends,
        phrases.starts,
        phrases.lengths,
        phrases.places,
        phrases.offsets,
        phrases.documents,
        clusters,
        np.zeros((2, len(clusters)), dtype=np.int64),
        spans_BT,
        documents_BT,
        clusters_B,
        documents_B,
        tokens_B,
        effective_B,
    )
    return Sources(
        span_lengths=spans_BT,
        token_documents=documents_BT,
        num_phrases=np.diff(phrases.ends, prepend=0),
        clusters=clusters_B,
        documents=documents_B,
        shares=tokens_B / np.maximum(sizes, 1),
        num_effective=effective_B,
    )


@njit(cache=True, nogil=True)
def _credit_rows(
    ends: NDArray[np.int64],
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    places: NDArray[np.int64],
    offsets: NDArray[np.int64],
    found: NDArray[np.int32],
    clusters: NDArray[np.int64],
    credited: NDArray[np.int64],
    spans: NDArray[np.int32],
    token_documents: NDArray[np.int32],
    best_clusters: NDArray[np.int64],
    best_documents: NDArray[np.int64],
    tokens: NDArray[np.int64],
    effective: NDArray[np.float64],
) -> None:
    """Credit the phrases of one row after the other.

    ``credited`` (2, N) counts the tokens of a row by cluster and by document; it is zero before and
    after.
    """
    seen_clusters = np.empty(spans.shape[1], dtype=np.int64)
    seen_documents = np.empty(spans.shape[1], dtype=np.int64)
    by_cluster, by_document = credited[0], credited[1]
    first = 0
    for b in range(ends.size):
        num_clusters, num_documents = 0, 0
        for p in range(first, ends[b]):
            candidates = found[offsets[places[p]] : offsets[places[p] + 1]]
            if not candidates.size:
                continue
            document = _chosen(candidates, clusters, by_cluster, by_document)
            cluster = clusters[document]
            if by_cluster[cluster] == 0:
                seen_clusters[num_clusters] = cluster
                num_clusters += 1
            if by_document[document] == 0:
                seen_documents[num_documents] = document
                num_documents += 1
            by_cluster[cluster] += lengths[p]
            by_document[document] += lengths[p]
            spans[b, starts[p] : starts[p] + lengths[p]] = lengths[p]
            token_documents[b, starts[p] : starts[p] + lengths[p]] = document
        if num_clusters:
            own = seen_clusters[:num_clusters]
            best_clusters[b], tokens[b] = _largest(own, by_cluster)
            effective[b] = _effective_number(by_cluster[own])
            documents = seen_documents[:num_documents]
            inside = documents[clusters[documents] == best_clusters[b]]
            best_documents[b] = _largest(inside, by_document)[0]
            by_cluster[own] = 0
            by_document[documents] = 0
        first = ends[b]


@njit(cache=True, nogil=True)
def _chosen(
    candidates: NDArray[np.int32],
    clusters: NDArray[np.int64],
    by_cluster: NDArray[np.int64],
    by_document: NDArray[np.int64],
) -> Int:
    """Return the document of the cluster with most tokens so far; ties go to the smallest ids."""
    chosen = np.int64(candidates[0])
    for k in range(1, candidates.size):
        document = np.int64(candidates[k])
        cluster, other = clusters[document], clusters[chosen]
        if cluster == other:
            more = by_document[document] - by_document[chosen]
            better = more > 0 or (more == 0 and document < chosen)
        else:
            more = by_cluster[cluster] - by_cluster[other]
            better = more > 0 or (more == 0 and cluster < other)
        if better:
            chosen = document
    return chosen


@njit(cache=True, nogil=True)
def _largest(ids: NDArray[np.int64], credited: NDArray[np.int64]) -> tuple[Int, Int]:
    """Return the id with most tokens, ties to the smallest, and its number of tokens."""
    best = ids[0]
    for one in ids[1:]:
        more = credited[one] - credited[best]
        if more > 0 or (more == 0 and one < best):
            best = one
    return best, credited[best]


@njit(cache=True, nogil=True)
def _effective_number(counts: NDArray[np.int64]) -> float:
    """Return exp(entropy) of shares, the effective number of sources (Hill, Ecology 1973)."""
    total = counts.sum()
    entropy = 0.0
    for count in counts:
        entropy -= count / total * math.log(count / total)
    return math.exp(entropy)


@njit(cache=True, nogil=True)
def nearest_places(
    row: Tokens,
    documents: NDArray[np.int64],
    spans: NDArray[np.int32],
    document: Int,
    text: Tokens,
    positions: NDArray[np.int64],
) -> None:
    """Find the positions, in a document, of the phrases of a row that are credited to it.

    Args:
        row: (T,) tokens.
        documents: (T,) credited document of each token.
        spans: (T,) length of the phrase that each token lies in.
        document: the document.
        text: its tokens.
        positions: (T,) written, for the tokens of its phrases.
    """
    start = np.int64(0)
    while start < row.size:
        length = max(np.int64(spans[start]), np.int64(1))
        if documents[start] == document:
            place = _nearest(row[start : start + length], text, start)
            for t in range(length):
                positions[start + t] = place + t
        start += length


@njit(cache=True, nogil=True)
def _nearest(phrase: Tokens, text: Tokens, wanted: Int) -> Int:
    """Return the position in the text nearest to ``wanted`` where the phrase begins; ties left."""
    last = text.size - phrase.size
    for distance in range(wanted + text.size):
        for place in (wanted - distance, wanted + distance):
            if 0 <= place <= last:
                t = 0
                while t < phrase.size and text[place + t] == phrase[t]:
                    t += 1
                if t == phrase.size:
                    return place
    return np.int64(-1)
