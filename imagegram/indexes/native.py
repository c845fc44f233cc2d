"""The default engine: compiled searches over memory-mapped shards, batched over threads.

The first call in a fresh checkout compiles for some seconds; the result is cached on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.indexes import kernels, matching
from imagegram.indexes.base import Ids, Index, NextTokens, Phrase, check_at_least, check_ids
from imagegram.indexes.format import IndexShard
from imagegram.records import Tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeIndex(Index):
    """Suffix arrays searched by ``indexes/kernels.py``."""

    shards: tuple[IndexShard, ...]

    @cached_property
    def views(self) -> kernels.ShardViews:
        """What the kernels read; valid as long as this index lives."""
        return kernels.shard_views(self.shards)

    def __getstate__(self) -> dict[str, Any]:
        # Addresses mean nothing in another process: it opens the shards again.
        return {"shards": self.shards}

    def _intervals(self, ids: Tokens) -> list[tuple[int, int]]:
        numbers = range(len(self.shards))
        return [kernels.find(self.views, s, ids, 0, ids.size) for s in numbers]

    def _count(self, ids: Tokens) -> int:
        return int(sum(hi - lo for lo, hi in self._intervals(ids)))

    def _num_contexts(self, ids: Tokens) -> int:
        total = 0
        for s, (lo, hi) in enumerate(self._intervals(ids)):
            total += hi - kernels.continued(self.views, s, lo, hi, ids.size)
        return total

    def _next_tokens(self, ids: Tokens) -> list[NextTokens]:
        parts = []
        for s, (lo, hi) in enumerate(self._intervals(ids)):
            tokens = np.empty(min(hi - lo, 65536), dtype=np.uint16)
            counts = np.empty(tokens.size, dtype=np.uint64)
            number = kernels.next_groups(self.views, s, lo, hi, ids.size, tokens, counts)
            parts.append((tokens[:number], counts[:number]))
        return parts

    def _occurrences(self, ids: Tokens, limit: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for s, (lo, hi) in enumerate(self._intervals(ids)):
            ranks = range(lo, min(hi, lo + limit - len(places)))
            places += [(s, kernels.pointer_at(self.views, s, rank)) for rank in ranks]
        return places

    def match_lengths(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """See :meth:`Index.match_lengths`; one binary search per position and shard."""
        rows = check_ids(tokens_BT, dimensions=2)
        lengths = np.zeros(rows.shape, dtype=np.int32)
        self._over_chunks(matching.match_rows, rows, lengths)
        return lengths

    def documents_equal(self, tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """See :meth:`Index.documents_equal`."""
        rows = check_ids(tokens_BT, dimensions=2)
        counts = np.zeros(len(rows), dtype=np.int64)
        self._over_chunks(matching.count_documents, rows, counts)
        return counts

    def _over_chunks(self, kernel: Callable[..., None], rows: Tokens, out: NDArray[Any]) -> None:
        views, threads = self.views, os.cpu_count() or 1
        size = max(min(64, -(-len(rows) // threads)), 1)
        starts = range(0, len(rows), size)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda b: kernel(views, rows[b : b + size], out[b : b + size]), starts))

    def parse(self, row: Ids, *, max_occurrences: int = 64) -> list[Phrase]:
        """See :meth:`Index.parse`."""
        ids = check_ids(row)
        check_at_least("max_occurrences", max_occurrences, 0)
        phrases = np.empty((ids.size, 4), dtype=np.int64)
        documents = np.empty((ids.size, max_occurrences), dtype=np.int64)
        positions = np.empty_like(documents)
        number = matching.parse_row(self.views, ids, phrases, documents, positions)
        return [
            Phrase(
                start=start,
                length=length,
                count=count,
                documents=documents[i, :kept].copy(),
                positions=positions[i, :kept].copy(),
            )
            for i, (start, length, count, kept) in enumerate(phrases[:number].tolist())
        ]
