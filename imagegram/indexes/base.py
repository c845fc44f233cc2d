"""Index: the class of opened indexes, with the same queries for every engine.

    from imagegram.indexes import open_index
    index = open_index("outputs/artifacts/index/0123456789ab")
    index.count([65535, 128])            # images that start with 128
    index.next_token([65535, 128])       # what follows, with counts
    index.spans(tokens)                  # which training images a token row was taken from

An engine implements a few primitive queries (:meth:`Index._count` ...); all others are built on
them here. See ``docs/indexes.md``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import TokenError, UnsupportedError
from imagegram.indexes.checks import check_at_least, check_ids
from imagegram.indexes.grams import answer, count_grams
from imagegram.indexes.merge import longest_supported, merge_next_tokens
from imagegram.indexes.stream import DocumentStream
from imagegram.records import (
    EOS_TOKEN_ID,
    Counting,
    GramCounts,
    Grams,
    NextTokenDist,
    Occurrence,
    Phrase,
    Phrases,
    Span,
    Tokens,
)
from imagegram.store.manifest import Artifact

Ids = Sequence[int] | NDArray[np.integer[Any]]
Rows = NDArray[np.integer[Any]]
NextTokens = tuple[Tokens, NDArray[np.uint64]]
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Index(ABC):
    """An opened index: shards of documents and the queries on them.

    Attributes:
        shards: shards in the order that numbers the documents.
        artifact: artifact of the store, if the shards belong to one.
    """

    shards: tuple[DocumentStream, ...]
    artifact: Artifact | None = None

    def identity(self) -> str:
        """Return ``index/digest``, the identity of this index for stages.

        Raises:
            UnsupportedError: for shards that are not an artifact of the store.
        """
        if self.artifact is None:
            raise UnsupportedError(
                "this index was opened from folders and is no artifact of the store, so no stage "
                "can depend on it; type python -m imagegram.run stages=[tokenize,index] to make one"
            )
        return self.artifact.identity()

    # ---------------------------------------------------------------- what an engine must answer

    @abstractmethod
    def _count(self, ids: Tokens) -> int:
        """Count occurrences of ``ids``, which is not empty, over all shards."""

    @abstractmethod
    def _num_contexts(self, ids: Tokens) -> int:
        """Count occurrences of ``ids`` that a token of the same shard follows."""

    @abstractmethod
    def _next_tokens(self, ids: Tokens) -> list[NextTokens]:
        """Return distinct tokens after ``ids`` and their counts, per shard or for all shards."""

    @abstractmethod
    def _occurrences(self, ids: Tokens, limit: int) -> list[tuple[int, int]]:
        """Return shard and stream position of the first occurrences, by shard in table order."""

    # ------------------------------------------------------------------------------------- sizes

    @cached_property
    def num_tokens(self) -> int:
        """Number of tokens of all shards, separators included."""
        return sum(shard.num_tokens for shard in self.shards)

    @cached_property
    def num_documents(self) -> int:
        """Number of documents of all shards; ids run shard by shard."""
        return int(self.first_documents[-1])

    @cached_property
    def first_documents(self) -> NDArray[np.int64]:
        """(S + 1,) id of the first document of each shard, then the number of all documents."""
        counts = [shard.num_documents for shard in self.shards]
        return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)

    # --------------------------------------------------------------------------------- questions

    def count(self, ids: Ids) -> int:
        """Count occurrences of ``ids`` (separators allowed), never across shards.

        The empty sequence occurs ``num_tokens`` times.

        Raises:
            TokenError: for ids that are no integers in 0 ... 65535.
        """
        checked = check_ids(ids)
        return self._count(checked) if checked.size else self.num_tokens

    def next_token(
        self, prompt_ids: Ids, *, max_context: int | None = None, min_count: int = 1
    ) -> NextTokenDist:
        """Return the tokens that follow the longest suffix of the prompt with enough support.

        An occurrence is a context when a token of the same shard follows it; the separator is a
        token here. The longest suffix of at most ``max_context`` tokens with ``min_count``
        contexts over all shards decides; the empty one when none has as many.

        Raises:
            TokenError: for ids that are no integers in 0 ... 65535.
            ConfigError: when ``min_count`` < 1 or ``max_context`` < 0.
        """
        prompt = check_ids(prompt_ids)
        check_at_least("min_count", min_count, 1)
        limit = prompt.size
        if max_context is not None:
            limit = min(limit, check_at_least("max_context", max_context, 0))
        length = longest_supported(
            lambda n: self._num_contexts(prompt[prompt.size - n :]),
            limit=limit,
            min_count=min_count,
        )
        parts = self._next_tokens(prompt[prompt.size - length :])
        return merge_next_tokens(parts, suffix_len=length)

    def longest_suffix(self, prompt_ids: Ids, *, min_count: int = 1) -> int:
        """Return the length of the longest suffix of the prompt that occurs ``min_count`` times.

        Raises:
            TokenError: for ids that are no integers in 0 ... 65535.
            ConfigError: when ``min_count`` < 1.
        """
        prompt = check_ids(prompt_ids)
        check_at_least("min_count", min_count, 1)
        return longest_supported(
            lambda n: self._count(prompt[prompt.size - n :]),
            limit=prompt.size,
            min_count=min_count,
        )

    def occurrences(self, ids: Ids, *, limit: int = 10) -> tuple[Occurrence, ...]:
        """Return the first ``limit`` places where ``ids`` occurs, by shard in table order.

        An occurrence that begins with the separator before a document has position -1; one that
        begins with the final separator of a shard is its last document's position ``T``.

        Raises:
            TokenError: for an empty sequence or ids that are no integers in 0 ... 65535.
            ConfigError: when ``limit`` < 0.
        """
        checked = check_ids(ids)
        check_at_least("limit", limit, 0)
        if not checked.size:
            raise TokenError("an empty sequence occurs everywhere; give at least one token id")
        return tuple(self._place(s, i) for s, i in self._occurrences(checked, limit))

    def positions(self, ids: Ids) -> list[NDArray[np.int64]]:
        """Return, per shard, the stream positions of all occurrences of ``ids``, in any order.

        Raises:
            TokenError: for ids that are no integers in 0 ... 65535.
        """
        found: list[list[int]] = [[] for _ in self.shards]
        for shard, position in self._occurrences(check_ids(ids), self.num_tokens):
            found[shard].append(position)
        return [np.array(positions, dtype=np.int64) for positions in found]

    def _place(self, shard: int, position: int) -> Occurrence:
        document, inside = self.shards[shard].locate(position)
        first = int(self.first_documents[shard]) if document >= 0 else 0
        return Occurrence(document=first + document, position=inside)

    def spans(self, ids: Ids, *, min_len: int = 1, max_occurrences: int = 10) -> list[Span]:
        """Return the maximal matching spans by start: those inside no longer matching span.

        Raises:
            TokenError: for ids that are no integers in 0 ... 65535.
            ConfigError: when ``min_len`` < 1 or ``max_occurrences`` < 0.
        """
        checked = check_ids(ids)
        check_at_least("min_len", min_len, 1)
        check_at_least("max_occurrences", max_occurrences, 0)
        lengths = self.longest_prefixes(checked).tolist()
        found, covered = [], 0
        for start, length in enumerate(lengths):
            end = start + length
            # Ends never decrease with the start: a span is contained only in one before it.
            if length >= min_len and end > covered:
                query = checked[start:end]
                places = self.occurrences(query, limit=max_occurrences)
                found.append(
                    Span(start=start, end=end, count=self._count(query), occurrences=places)
                )
            covered = end
        return found

    # ------------------------------------------------------------------------------ whole rows

    def longest_prefixes(self, ids: Ids) -> NDArray[np.int32]:
        """Return the (T,) lengths of the longest match that begins at every start."""
        lengths: NDArray[np.int32] = self.match_lengths(check_ids(ids)[None])[0]
        return lengths

    def match_lengths(
        self, tokens_BT: Rows, *, workers: int | None = None, advance: Advance | None = None
    ) -> NDArray[np.int32]:
        """Return the longest match that *begins* at every position of every row.

        Args:
            tokens_BT: (B, T) ids.
            workers: threads; None: all cores.
            advance: called with the number of further rows that are done.

        Returns:
            (B, T) int32: the most tokens from there on, inside the row, that some shard holds.

        Raises:
            TokenError: when it is not two-dimensional or holds ids outside 0 ... 65535.
        """
        rows = check_ids(tokens_BT, dimensions=2)
        lengths = np.zeros(rows.shape, dtype=np.int32)
        for row, out in zip(rows, lengths, strict=True):
            end = 0
            for start in range(row.size):  # the end of a longest match never moves back
                end = max(end, start)
                while end < row.size and self._count(row[start : end + 1]):
                    end += 1
                out[start] = end - start
            if advance is not None:
                advance(1)
        return lengths

    def suffix_match_lengths(
        self, tokens_BT: Rows, *, workers: int | None = None
    ) -> NDArray[np.int32]:
        """Return the longest match that *ends* at every position of every row, inclusive.

        Args:
            tokens_BT: (B, T) ids.
            workers: threads; None: all cores.

        Returns:
            (B, T) int32: the most last tokens of ``row[: t + 1]`` that some shard holds.

        Raises:
            TokenError: as :meth:`match_lengths`.
        """
        return suffix_lengths(self.match_lengths(tokens_BT, workers=workers))

    def documents_equal(self, tokens_BT: Rows, *, workers: int | None = None) -> NDArray[np.int64]:
        """Return the (B,) numbers of documents that are identical to each row.

        Args:
            tokens_BT: (B, T) ids.
            workers: threads; None: all cores.

        Raises:
            TokenError: as :meth:`match_lengths`.
        """
        rows = check_ids(tokens_BT, dimensions=2)
        counts = np.zeros(len(rows), dtype=np.int64)
        for b, row in enumerate(rows):
            if (row == EOS_TOKEN_ID).any():
                continue
            padded = np.pad(row, 1, constant_values=EOS_TOKEN_ID)
            counts[b] = self._count(padded)
            # A last document without a separator behind it ends with the stream.
            open_ended = [shard for shard in self.shards if not shard.has_final_separator]
            tails = [shard.tokens[-row.size - 1 :] for shard in open_ended]
            counts[b] += sum(np.array_equal(tail, padded[:-1]) for tail in tails)
        return counts

    def gram_counts(
        self, queries: Sequence[Grams], counting: Counting, *, workers: int | None = None
    ) -> list[GramCounts]:
        """Return the counts that n-grams are smoothed with, in one pass over the corpus.

        Args:
            queries: different n-grams of 1 ... n tokens, by order, each in table order.
            counting: which n-grams are counted, and how.
            workers: threads; None: all cores.
        """
        counts = count_grams(self.shards, len(queries), counting)
        return [answer(*both) for both in zip(queries, counts, strict=True)]

    def parse(self, row: Ids, *, max_occurrences: int = 64) -> list[Phrase]:
        """Parse a row into the fewest corpus phrases: from the left, always the longest match.

        Raises:
            TokenError: for ids that are no integers in 0 ... 65535.
            ConfigError: when ``max_occurrences`` < 0.
        """
        ids = check_ids(row)
        check_at_least("max_occurrences", max_occurrences, 0)
        return [
            Phrase(
                start=start,
                length=max(query.size, 1),
                count=self._count(query) if query.size else 0,
                documents=np.array([place.document for place in places], dtype=np.int64),
                positions=np.array([place.position for place in places], dtype=np.int64),
            )
            for start, query, places in self._phrases(
                ids, self.longest_prefixes(ids), max_occurrences
            )
        ]

    def _phrases(
        self, row: Tokens, lengths_T: Rows, limit: int
    ) -> Iterator[tuple[int, Tokens, tuple[Occurrence, ...]]]:
        """Yield start, tokens and occurrences of each phrase; no tokens: the one there is new."""
        start = 0
        while start < row.size:
            query = row[start : start + int(lengths_T[start])]
            yield start, query, self.occurrences(query, limit=limit) if query.size else ()
            start += max(query.size, 1)

    def parse_rows(
        self,
        tokens_BT: Rows,
        lengths_BT: Rows,
        *,
        max_occurrences: int = 64,
        workers: int | None = None,
        advance: Advance | None = None,
    ) -> Phrases:
        """Parse every row as :meth:`parse` does, into arrays.

        Args:
            tokens_BT: (B, T) ids.
            lengths_BT: (B, T) result of :meth:`match_lengths` for the rows.
            max_occurrences: number of occurrences of each phrase to keep.
            workers: threads; None: all cores.
            advance: called with the number of further rows that are done.

        Raises:
            TokenError: as :meth:`match_lengths`.
            ConfigError: when ``max_occurrences`` < 0.
        """
        check_at_least("max_occurrences", max_occurrences, 0)
        ends, starts, lengths, documents = [], [], [], []
        for row, known in zip(check_ids(tokens_BT, dimensions=2), lengths_BT, strict=True):
            for start, query, places in self._phrases(row, known, max_occurrences):
                starts.append(start)
                lengths.append(query.size)
                documents.append([place.document for place in places])
            ends.append(len(starts))
            if advance is not None:
                advance(1)
        return Phrases(
            ends=np.array(ends, dtype=np.int64),
            starts=np.array(starts, dtype=np.int32),
            lengths=np.array(lengths, dtype=np.int32),
            places=np.arange(len(starts), dtype=np.int64),
            offsets=np.cumsum([0, *map(len, documents)], dtype=np.int64),
            documents=np.array([d for found in documents for d in found], dtype=np.int32),
        )

    # --------------------------------------------------------------------------------- documents

    def document(self, document: int) -> Tokens:
        """Return the token ids of one document, without separators.

        Raises:
            TokenError: when there is no such document.
        """
        shard, inside = self._shard_of(document)
        return shard.document(inside)

    def metadata(self, document: int) -> dict[str, Any]:
        """Return source key, shard, caption ... of one document, in O(1).

        Raises:
            TokenError: when there is no such document.
        """
        shard, inside = self._shard_of(document)
        return shard.metadata(inside)

    def _shard_of(self, document: int) -> tuple[DocumentStream, int]:
        if not 0 <= document < self.num_documents:
            raise TokenError(
                f"there is no document {document}; the index holds {self.num_documents}, counted "
                "from 0"
            )
        number = int(np.searchsorted(self.first_documents, document, side="right")) - 1
        return self.shards[number], document - int(self.first_documents[number])


def suffix_lengths(lengths_BT: Rows) -> NDArray[np.int32]:
    """Convert longest matches that begin at each position to those that end there.

    >>> suffix_lengths(np.array([[2, 3, 2, 1]])).tolist()
    [[1, 2, 2, 3]]
    """
    suffixes = np.empty(lengths_BT.shape, dtype=np.int32)
    starts = np.arange(lengths_BT.shape[1])
    for row, out in zip(lengths_BT, suffixes, strict=True):
        # The first start whose match reaches past t: ends never move back.
        before = np.bincount(starts + row, minlength=starts.size + 1)[: starts.size].cumsum()
        out[:] = starts + 1 - before
    return suffixes
