"""Small sets and corpora of texts in memory, a token a byte, for tests of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.indexes.naive import NaiveIndex
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID, Features, Tokens, row_sizes
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace
from tests.index_folders import stream_of


def ids(text: str) -> list[int]:
    """The bytes of a text."""
    return list(text.encode())


def text_set(texts: Sequence[str]) -> Any:
    """An ImageSet of texts, rows as long as the longest."""
    width = max(len(ids(text)) for text in texts) + 1
    tokens = np.full((len(texts), width), EOS_TOKEN_ID, dtype=np.uint16)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(ids(text))] = ids(text)
    return MemoryImages(tokens, free_trace(tokens), None, texts=texts)  # type: ignore[arg-type]


@dataclass(frozen=True)
class TextReference(MemoryReference):
    """A training corpus of texts."""

    vocab_size: ClassVar[int] = 256
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str]) -> TextReference:
        layout = TokenLayout.sequence(8, order="raster")
        return cls(MemoryTokens([]), layout=layout, texts=tuple(texts))

    @property
    def index(self) -> NaiveIndex:
        return NaiveIndex.of_streams([stream_of([ids(text) for text in self.texts])])

    def match_lengths(self, images: Any) -> NDArray[np.integer]:
        corpus = b"\xff".join(text.encode() for text in self.texts)  # a byte of no text
        lengths = np.zeros(images.tokens.shape, dtype=np.int32)
        for out, text in zip(lengths, images.texts, strict=True):
            row, end = text.encode(), 0
            for start in range(len(row)):  # the end of a longest match never moves back
                end = max(start, end)
                while end < len(row) and row[start : end + 1] in corpus:
                    end += 1
                out[start] = end - start
        return lengths

    def clusters(self) -> NDArray[np.int64]:
        return np.arange(len(self.texts))

    def features(self, encoder: Any, images: Any) -> Features:
        features: Features = encoder.encode(images.texts)
        return features

    def reference_features(self, encoder: Any) -> Features:
        features: Features = encoder.encode(self.texts)
        return features

    def decode(self, tokens_BT: Tokens, **known: Any) -> Any:
        rows = zip(tokens_BT, row_sizes(tokens_BT), strict=True)
        return [bytes(row[:size].tolist()).decode("utf-8", "replace") for row, size in rows]

    def offsets(self, tokens_T: Tokens) -> NDArray[np.int64]:
        written = [token < 128 for token in tokens_T.tolist()]  # of ASCII
        return np.cumsum([0, *written])
