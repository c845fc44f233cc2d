"""Sources of tokens: a parse of an image into the longest phrases of the corpus.

Reading left to right, take the longest run that the training corpus holds, then go on after it:
the fewest cut-and-paste operations that make the image (greedy is optimal for this; Ziv and Merhav,
"A measure of relative entropy between individual sequences", IEEE Trans. Inf. Theory 1993).

A source is a cluster of near-duplicate training documents: a picture that the corpus holds twice is
one source. Each phrase is credited to *one* cluster among those of its first ``max_candidates``
occurrences (shard by shard, table order): the one that was credited with most tokens of this image
so far, ties to the smallest cluster id. Inside the cluster it is credited to one of the documents
among these occurrences by the same rule: most tokens of this image so far, ties to the smallest
document id. A token that the corpus does not hold is a phrase of its own without a source. So
a training image is one phrase of one source. A frequent phrase may have its true source beyond the
candidates, the sooner the more copies the corpus holds: shares are lower bounds, for all image sets
alike.

A row that ends early is padded with separators. Padding is not part of the image: no phrase reaches
into it, and shares count only the tokens before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import row_tiles
from imagegram.protocols import ImageSet, Index, Reference
from imagegram.records import Phrases, Sources, Tokens, lengths_inside, row_sizes

#: Tokens that are parsed at a time.
_TOKENS: Final = 1 << 22


class TokenSources(NamedTuple):
    """The place in the training corpus that each token is credited to.

    Attributes:
        documents: (B, T) int64 training document; -1: none.
        positions: (B, T) int64 position of the token inside that document; -1: none.
        span_lengths: (B, T) int32 length of the phrase that the token lies in; 0: unseen token.
    """

    documents: NDArray[np.int64]
    positions: NDArray[np.int64]
    span_lengths: NDArray[np.int32]


def check_candidates(name: str, max_candidates: int) -> None:
    """Refuse a number of candidates below 1.

    Raises:
        ConfigError: when it is less than 1.
    """
    if max_candidates < 1:
        raise ConfigError(f"metric.{name}.max_candidates is {max_candidates}; use 1 or more")


def parse_sources(
    index: Index,
    tokens_BT: Tokens,
    lengths_BT: NDArray[np.integer[Any]],
    *,
    clusters: NDArray[np.integer[Any]],
    max_candidates: int = 64,
    workers: int | None = None,
) -> Sources:
    """Parse every row up to its padding and credit its phrases.

    Args:
        index: index of the N training documents.
        tokens_BT: tokens of the images.
        lengths_BT: their longest matches, from the index.
        clusters: (N,) cluster of each document: the lowest document id in it.
        max_candidates: occurrences of a phrase among which its source is chosen.
        workers: threads; None: all cores.
    """
    from imagegram.metrics.credit import credit

    phrases = index.parse_rows(
        tokens_BT,
        lengths_inside(lengths_BT, tokens_BT),
        max_occurrences=max_candidates,
        workers=workers,
    )
    sizes_B = row_sizes(tokens_BT)
    return credit(
        _written(phrases, sizes_B),
        clusters=np.asarray(clusters, dtype=np.int64),
        sizes=sizes_B,
        num_tokens=tokens_BT.shape[1],
    )


def _written(phrases: Phrases, sizes_B: NDArray[np.int64]) -> Phrases:
    """Return the phrases of rows without padding, whose tokens are phrases of length 0."""
    rows_P = np.repeat(np.arange(len(sizes_B)), np.diff(phrases.ends, prepend=0))
    written_P = phrases.starts < sizes_B[rows_P]
    if written_P.all():
        return phrases
    return replace(
        phrases,
        ends=np.cumsum(np.bincount(rows_P[written_P], minlength=len(sizes_B))),
        starts=phrases.starts[written_P],
        lengths=phrases.lengths[written_P],
        places=phrases.places[written_P],
    )


def parse_images(
    generated: ImageSet, reference: Reference, *, max_candidates: int
) -> Iterator[tuple[Tokens, Sources]]:
    """Parse an image set, some millions of tokens at a time; takes up to 0.3 GB.

    Yields:
        Tokens of the next rows, and their sources.
    """
    clusters, lengths_BT = reference.clusters(), reference.match_lengths(generated)
    num_images, num_tokens = generated.num_images, reference.layout.num_tokens
    task = reference.progress.start("sources", num_images, "images")
    for rows in row_tiles(num_images, max(_TOKENS // num_tokens, 1)):
        tokens_BT = np.asarray(generated.tokens[rows])
        sources = parse_sources(
            reference.index,
            tokens_BT,
            lengths_BT[rows],
            clusters=clusters,
            max_candidates=max_candidates,
            workers=reference.workers,
        )
        yield tokens_BT, sources
        reference.progress.advance(task, len(tokens_BT))
    reference.progress.finish(task)


def token_sources(
    index: Index,
    tokens_BT: Tokens,
    lengths_BT: NDArray[np.integer[Any]],
    *,
    clusters: NDArray[np.integer[Any]],
    max_candidates: int = 64,
    workers: int | None = None,
) -> TokenSources:
    """Return the documents and positions that tokens are credited to, for a report.

    Where a phrase occurs more than once in its document, it was taken from the place nearest to its
    own position, the earlier of two that are as near.

    Args: as :func:`parse_sources`.
    """
    from imagegram.metrics.credit import nearest_places

    rows = np.ascontiguousarray(tokens_BT)
    sources = parse_sources(
        index, rows, lengths_BT, clusters=clusters, max_candidates=max_candidates, workers=workers
    )
    documents_BT = sources.token_documents.astype(np.int64)
    positions_BT = np.full(rows.shape, -1, dtype=np.int64)
    for row, documents, spans, positions in zip(
        rows, documents_BT, sources.span_lengths, positions_BT, strict=True
    ):
        # One document at a time: a row of a long pyramid may have thousands of them.
        for document in np.unique(documents[documents >= 0]).tolist():
            nearest_places(row, documents, spans, document, index.document(document), positions)
    return TokenSources(
        documents=documents_BT, positions=positions_BT, span_lengths=sources.span_lengths
    )
