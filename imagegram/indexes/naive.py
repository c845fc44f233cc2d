"""The naive engine: answers by scanning the streams, in plain Python and numpy.

It is slow and simple: all other engines are tested against it. It needs no table, so it also works
on streams in memory.

>>> index = NaiveIndex.of_streams([[65535, 1, 2, 1, 65535]])
>>> index.count([1]), index.next_token([7, 1]).tokens.tolist()
(2, [2, 65535])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagegram.indexes.base import Advance, Ids, Index, NextTokens, Rows
from imagegram.indexes.checks import check_at_least, check_ids
from imagegram.indexes.stream import ListedStream
from imagegram.records import NextTokenDist, Span, Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class NaiveIndex(Index):
    """Engine that compares the query with the stream at every position."""

    @classmethod
    def of_streams(cls, streams: Sequence[Ids]) -> NaiveIndex:
        """Return an index of streams in memory: separators before documents and after the last."""
        return cls(shards=tuple(ListedStream.of(check_ids(stream)) for stream in streams))

    def _matches(self, ids: Tokens) -> list[NDArray[np.intp]]:
        """Return, per shard, the ascending positions where ``ids`` occurs."""
        found = []
        for shard in self.shards:
            positions = np.arange(max(shard.num_tokens - ids.size + 1, 0))
            for depth, token in enumerate(ids):
                if not positions.size:
                    break
                positions = positions[shard.tokens[positions + depth] == token]
            found.append(positions)
        return found

    def _count(self, ids: Tokens) -> int:
        return sum(positions.size for positions in self._matches(ids))

    def _num_contexts(self, ids: Tokens) -> int:
        return sum(int(counts.sum()) for _, counts in self._next_tokens(ids))

    def _next_tokens(self, ids: Tokens) -> list[NextTokens]:
        parts = []
        for shard, positions in zip(self.shards, self._matches(ids), strict=True):
            after = positions[positions + ids.size < shard.num_tokens] + ids.size
            tokens, counts = np.unique(shard.tokens[after], return_counts=True)
            parts.append((tokens, counts.astype(np.uint64)))
        return parts

    def _occurrences(self, ids: Tokens, limit: int) -> list[tuple[int, int]]:
        places = []
        for s, positions in enumerate(self._matches(ids)):
            tokens = self.shards[s].tokens
            in_table_order = sorted(positions.tolist(), key=lambda i: tokens[i:].tobytes())
            places += [(s, i) for i in in_table_order]
        return places[:limit]

    def next_token(
        self, prompt_ids: Ids, *, max_context: int | None = None, min_count: int = 1
    ) -> NextTokenDist:
        """See :meth:`Index.next_token`; tries every length from the longest down."""
        prompt = check_ids(prompt_ids)
        check_at_least("min_count", min_count, 1)
        limit = prompt.size
        if max_context is not None:
            limit = min(limit, check_at_least("max_context", max_context, 0))
        length = limit
        while length and self._num_contexts(prompt[prompt.size - length :]) < min_count:
            length -= 1
        counter: Counter[int] = Counter()
        for tokens, counts in self._next_tokens(prompt[prompt.size - length :]):
            counter.update(dict(zip(tokens.tolist(), counts.tolist(), strict=True)))
        pairs = sorted(counter.items())
        return NextTokenDist(
            suffix_len=length,
            num_contexts=counter.total(),
            tokens=np.array([token for token, _ in pairs], dtype=np.uint16),
            counts=np.array([count for _, count in pairs], dtype=np.uint64),
        )

    def longest_suffix(self, prompt_ids: Ids, *, min_count: int = 1) -> int:
        """See :meth:`Index.longest_suffix`; tries every length from the longest down."""
        prompt = check_ids(prompt_ids)
        check_at_least("min_count", min_count, 1)
        lengths = range(prompt.size, 0, -1)
        good = (n for n in lengths if self._count(prompt[prompt.size - n :]) >= min_count)
        return next(good, 0)

    def match_lengths(
        self, tokens_BT: Rows, *, workers: int | None = None, advance: Advance | None = None
    ) -> NDArray[np.int32]:
        """See :meth:`Index.match_lengths`; tries every length from every start."""
        rows = check_ids(tokens_BT, dimensions=2)
        lengths = np.zeros(rows.shape, dtype=np.int32)
        for row, out in zip(rows, lengths, strict=True):
            for start in range(row.size):
                while start + out[start] < row.size and self._count(
                    row[start : start + int(out[start]) + 1]
                ):
                    out[start] += 1
        return lengths

    def suffix_match_lengths(
        self, tokens_BT: Rows, *, workers: int | None = None
    ) -> NDArray[np.int32]:
        """See :meth:`Index.suffix_match_lengths`; the longest suffix of every prefix."""
        rows = check_ids(tokens_BT, dimensions=2)
        ends = range(1, rows.shape[1] + 1)
        lengths = [[self.longest_suffix(row[:end]) for end in ends] for row in rows]
        return np.array(lengths, dtype=np.int32).reshape(rows.shape)

    def spans(self, ids: Ids, *, min_len: int = 1, max_occurrences: int = 10) -> list[Span]:
        """See :meth:`Index.spans`; drops every span that another one contains."""
        checked = check_ids(ids)
        check_at_least("min_len", min_len, 1)
        check_at_least("max_occurrences", max_occurrences, 0)
        lengths = self.longest_prefixes(checked).tolist()
        ranges = [(start, start + length) for start, length in enumerate(lengths) if length]
        return [
            Span(
                start=start,
                end=end,
                count=self.count(checked[start:end]),
                occurrences=self.occurrences(checked[start:end], limit=max_occurrences),
            )
            for start, end in ranges
            if end - start >= min_len
            and not any(a <= start and end <= b and (a, b) != (start, end) for a, b in ranges)
        ]

    def documents_equal(self, tokens_BT: Rows, *, workers: int | None = None) -> NDArray[np.int64]:
        """See :meth:`Index.documents_equal`; compares every document."""
        rows = check_ids(tokens_BT, dimensions=2)
        documents = [self.document(i) for i in range(self.num_documents)]
        counts = [sum(np.array_equal(row, document) for document in documents) for row in rows]
        return np.array(counts, dtype=np.int64)
