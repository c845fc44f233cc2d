"""Sentence codes as text: what a decoder of them is, and the one that looks sentences up.

A decoder writes a sentence for every tuple of codes. It is a field of the tokenizer, and a group of
its own: ``decoder@tokenizer.decoder=nearest``. One that has to learn gives the stage that does, see
:meth:`SentenceDecoder.fit`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import one_thread_each
from imagegram.protocols import Corpus
from imagegram.records import Features
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.stage import Ready, Stage
from imagegram.tokenizers.sentence_rvq.quantizers import Codebooks, Codes
from imagegram.tokenizers.sentence_rvq.sentences import Sentences

#: Vectors that are looked up at a time: always as many, so that none depends on the others.
_ROWS: Final = 16
#: Sentences that they are compared with at a time.
_SENTENCES: Final = 1 << 15
#: Array of codes that was used last, and sentences by their codes.
_TABLES: Final[list[tuple[NDArray[np.integer[Any]], dict[bytes, list[int]]]]] = []
#: Most tuples without a sentence of their own whose nearest one is remembered.
_REMEMBERED: Final = 1 << 20


class SentenceCodes(Protocol):
    """What a decoder may ask of its tokenizer."""

    @property
    def codebooks(self) -> Codebooks:
        """(K, V, d) float32."""

    @property
    def sentences(self) -> Sentences:
        """Sentences of the corpus that the codebooks were learned from."""

    @property
    def sentence_codes(self) -> NDArray[np.integer[Any]]:
        """(N, K) codes of these sentences."""

    def embed(self, sentences: Sequence[str]) -> Features:
        """Return the (N, d) float32 unit vectors of sentences."""

    def quantize(self, vectors: Features) -> Codes:
        """Return the (N, K) codes of vectors."""

    def vectors(self, codes: Codes) -> Features:
        """Return the (N, d) vectors that codes stand for; a code of -1 is none."""


@dataclass(frozen=True, kw_only=True)
class SentenceDecoder:
    """A decoder of sentence codes; a base class, whose subclasses have a YAML in ``conf/decoder``.

    Attributes:
        name: of the file.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(metadata=NOT_IDENTITY)

    def fit(
        self, recipe: Any, corpus: Corpus, codes: Stage[Any] | Ready[Any]
    ) -> Stage[Any] | Ready[Any]:
        """Return the stage that gives the tokenizer with all that decoding needs.

        Args:
            recipe: the tokenizer, mostly without codebooks.
            corpus: what it is trained on.
            codes: the stage that learns codebooks and gives the tokenizer with them; a decoder
                that learns returns a stage of its own, which makes this one first.
        """
        return codes

    def identity_in(self, codes: SentenceCodes) -> Any:
        """Return all that decides the texts besides the codebooks."""
        raise NotImplementedError

    def check_machine(self) -> None:
        """Refuse what is missing on this machine before any work."""

    def write(self, rows: Sequence[Codes], codes: SentenceCodes) -> list[list[str]]:
        """Return the sentences of rows; a sentence depends on its row alone.

        Args:
            rows: (S, K) codes of the S sentences of each row; -1: a row that was generated lacks
                that code.
            codes: the tokenizer.

        Returns:
            S texts a row; they are joined, with a space where none ends the one before.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class NearestDecoder(SentenceDecoder):
    """Writes training sentences: what it says is copied, sentence by sentence.

    A tuple becomes the training sentence that has these codes; where there are several, or none,
    the one whose vector is nearest to that of the tuple, of equally near ones the first.
    """

    name: str = field(default="nearest", metadata=NOT_IDENTITY)

    def identity_in(self, codes: SentenceCodes) -> Any:
        """Return class, version and the content of the training sentences."""
        return [type(self).__name__, self.VERSION, codes.sentences.identity()]

    def write(self, rows: Sequence[Codes], codes: SentenceCodes) -> list[list[str]]:
        """Look every tuple up."""
        every = np.concatenate([*rows, np.empty((0, len(codes.codebooks)), np.int64)])
        different, numbers = np.unique(every, axis=0, return_inverse=True)
        found = self._found(different, codes)[numbers.reshape(-1)]
        texts, bounds = codes.sentences.texts, np.cumsum([0, *map(len, rows)])
        return [
            [texts[row] for row in found[start:stop].tolist()]
            for start, stop in itertools.pairwise(bounds.tolist())
        ]

    def _found(self, tuples: Codes, codes: SentenceCodes) -> NDArray[np.int64]:
        """Return the (N,) number of the training sentence of each tuple."""
        sentences = codes.sentences
        training = sentences.vectors[: sentences.num_training]
        same = _by_tuple(codes.sentence_codes, sentences.num_training)
        found = np.full(len(tuples), -1, dtype=np.int64)
        vectors = codes.vectors(tuples)
        for number, one in enumerate(tuples):
            if rows := same.get(one.astype(np.int64).tobytes()):
                near = 0 if len(rows) == 1 else int((training[rows] @ vectors[number]).argmax())
                found[number] = rows[near]
        missing = found < 0
        found[missing] = nearest_rows(vectors[missing], training)
        for one, number in zip(tuples[missing], found[missing].tolist(), strict=True):
            if len(same) < len(training) + _REMEMBERED:
                same[one.astype(np.int64).tobytes()] = [number]
        return found


def _by_tuple(codes: NDArray[np.integer[Any]], num_training: int) -> dict[bytes, list[int]]:
    """Return the numbers of the training sentences of every tuple; built once for an array."""
    for known, table in _TABLES:
        if known is codes:
            return table
    table = {}
    for number, one in enumerate(codes[:num_training].astype(np.int64)):
        table.setdefault(one.tobytes(), []).append(number)
    _TABLES[:] = [(codes, table)]
    return table


def nearest_rows(queries: Features, rows: Features) -> NDArray[np.int64]:
    """Return the (N,) number of the unit row that is nearest to each query, the first of several.

    Args:
        queries: (N, d) float32.
        rows: (R, d) float32 unit vectors, R >= 1, memory-mapped or not.

    Raises:
        ConfigError: when there is no row.
    """
    if not len(rows):
        raise ConfigError("there is no sentence to choose from; give a corpus with texts")
    padded = -(-len(queries) // _ROWS) * _ROWS
    asked = np.zeros((padded, rows.shape[1]), dtype=np.float32)
    asked[: len(queries)] = queries
    best = np.full(padded, -np.inf, dtype=np.float32)
    found = np.zeros(padded, dtype=np.int64)
    with one_thread_each():
        for first in range(0, len(rows), _SENTENCES):
            some = np.ascontiguousarray(rows[first : first + _SENTENCES]).T
            for start in range(0, padded, _ROWS):
                dots = asked[start : start + _ROWS] @ some  # of unit rows: nearest is largest
                place = dots.argmax(axis=1)
                value = dots[np.arange(_ROWS), place]
                better = np.flatnonzero(value > best[start : start + _ROWS])
                best[start + better] = value[better]
                found[start + better] = first + place[better]
    return found[: len(queries)]
