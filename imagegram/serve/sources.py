"""Copied spans: which runs of tokens of an answer the training documents have too, and where.

The answer is parsed from the left, always with the longest match, as in a report
(``Index.parse``). Its first few occurrences name the documents.

>>> span = CopiedSpan(start=2, end=8, first=5, last=20, count=1, sources=())
>>> span.length, span.json()["characters"]
(6, [5, 20])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import Index
from imagegram.records import Tokens
from imagegram.texts.highlight import Run, coded

#: Tokens of the shortest run that is called copied.
MIN_SPAN: Final = 4
#: Occurrences of a run that are named.
NAMED: Final = 3
#: Documents that have a colour of their own.
_COLOURS: Final = 5


@dataclass(frozen=True, kw_only=True)
class SourceDocument:
    """A place of the training corpus that a run of tokens is from.

    Attributes:
        document: number of the training document.
        position: place of the run's first token in it.
        key: name of the document in its corpus.
    """

    document: int
    position: int
    key: str

    def json(self) -> dict[str, Any]:
        """Return the fields."""
        return {"document": self.document, "position": self.position, "key": self.key}


@dataclass(frozen=True, kw_only=True)
class CopiedSpan:
    """A run of tokens that training documents have too.

    Attributes:
        start, end: its tokens in the answer, half open.
        first, last: its characters in the answer, half open; of an image 0, 0.
        count: occurrences in all training documents.
        sources: the first of them.
    """

    start: int
    end: int
    first: int
    last: int
    count: int
    sources: tuple[SourceDocument, ...]

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.end - self.start

    def json(self) -> dict[str, Any]:
        """Return the fields as JSON has them; an image has no characters."""
        characters = {"characters": [self.first, self.last]} if self.last else {}
        return {
            "tokens": [self.start, self.end],
            **characters,
            "occurrences": self.count,
            "sources": [source.json() for source in self.sources],
        }


def copied_spans(
    index: Index, tokens_N: Tokens, offsets_N: NDArray[np.int64] | None
) -> tuple[CopiedSpan, ...]:
    """Find the runs of at least :data:`MIN_SPAN` tokens that training documents have too.

    Args:
        index: index of the training documents.
        tokens_N: (N,) tokens of an answer, without a separator.
        offsets_N: (N + 1,) characters before each token, and of all; None: an image.
    """
    spans = []
    for phrase in index.parse(tokens_N, max_occurrences=NAMED):
        if phrase.length < MIN_SPAN or not phrase.count:
            continue
        end = phrase.start + phrase.length
        ends = (0, 0) if offsets_N is None else (offsets_N[phrase.start], offsets_N[end])
        spans.append(
            CopiedSpan(
                start=phrase.start,
                end=end,
                first=int(ends[0]),
                last=int(ends[1]),
                count=phrase.count,
                sources=tuple(
                    _source(index, document, position)
                    for document, position in zip(
                        phrase.documents.tolist(), phrase.positions.tolist(), strict=True
                    )
                ),
            )
        )
    return tuple(spans)


def _source(index: Index, document: int, position: int) -> SourceDocument:
    key = str(index.metadata(document).get("key", document))
    return SourceDocument(document=document, position=position, key=key)


def ranked(spans: Sequence[CopiedSpan]) -> dict[int, int]:
    """Return the rank of the documents that most copied tokens are from, the largest first."""
    tokens: dict[int, int] = {}
    for span in spans:
        document = span.sources[0].document
        tokens[document] = tokens.get(document, 0) + span.length
    order = sorted(tokens, key=lambda document: (-tokens[document], document))
    return {document: rank for rank, document in enumerate(order[:_COLOURS])}


def runs(spans: Sequence[CopiedSpan]) -> list[Run]:
    """Return spans as runs of characters that :func:`texts.highlight.highlighted` colours."""
    ranks = ranked(spans)
    return [
        Run(
            start=span.first,
            end=span.last,
            length=span.length,
            rank=ranks.get(span.sources[0].document),
            title=coded(described(span)),
        )
        for span in spans
    ]


def described(span: CopiedSpan) -> str:
    """Return what is said of a span, in a line."""
    source = span.sources[0]
    more = span.count - 1
    others = f", and {more:,} other place{'' if more == 1 else 's'}" if more else ""
    return (
        f"{span.length} tokens from training document {source.document} ({source.key}), token "
        f"{source.position + 1:,}{others}"
    )
