"""The default engine: compiled searches over memory-mapped shards, batched over threads.

The first call in a fresh checkout compiles for some seconds; the result is cached on disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.indexes.base import Advance, Ids, Index, NextTokens, Rows
from imagegram.indexes.checks import check_at_least, check_ids, thread_count
from imagegram.indexes.format import IndexShard, read_pointers
from imagegram.indexes.grams import NUM_TOLD, begin_with
from imagegram.indexes.kernels import matching, passages, phrases
from imagegram.indexes.kernels import search as kernels
from imagegram.indexes.kernels.grams import GramWalk, Piece, walk_grams
from imagegram.indexes.kernels.suffixes import sort_by_pair
from imagegram.records import Counting, GramCounts, Grams, Phrases, Tokens

#: Tokens whose suffixes are sorted at a time.
_CHUNK_TOKENS: Final = 1 << 25
#: Pieces of sorted suffixes that threads take one after the other.
_PIECES: Final = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeIndex(Index):
    """Engine that searches suffix arrays with ``indexes/kernels/search.py``."""

    shards: tuple[IndexShard, ...]

    @cached_property
    def views(self) -> kernels.ShardViews:
        """Addresses that the kernels read; valid as long as this index exists."""
        return kernels.shard_views(self.shards)

    def __getstate__(self) -> dict[str, Any]:
        # Addresses mean nothing in another process: it opens the shards again.
        return {"shards": self.shards, "artifact": self.artifact}

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

    def positions(self, ids: Ids) -> list[NDArray[np.int64]]:
        """See :meth:`Index.positions`; in table order."""
        intervals = self._intervals(check_ids(ids))
        pairs = zip(self.shards, intervals, strict=True)
        return [read_pointers(shard, lo, hi) for shard, (lo, hi) in pairs]

    def match_lengths(
        self, tokens_BT: Rows, *, workers: int | None = None, advance: Advance | None = None
    ) -> NDArray[np.int32]:
        """See :meth:`Index.match_lengths`; takes 10 bytes a token of at most 2**25 at a time."""
        rows = check_ids(tokens_BT, dimensions=2)
        lengths = np.zeros(rows.shape, dtype=np.int32)
        whole = self.documents_equal(rows, workers=workers) > 0
        lengths[whole] = np.arange(rows.shape[1], 0, -1)  # a copy needs no search
        rest = np.flatnonzero(~whole) if rows.size else np.empty(0, dtype=np.int64)
        report = advance or (lambda steps: None)
        report(len(rows) - len(rest))
        size = max(_CHUNK_TOKENS // max(rows.shape[1], 1), 1)
        for first in range(0, len(rest), size):
            chosen = rest[first : first + size]
            lengths[chosen] = self._match_rows(rows[chosen], workers, report)
        return lengths

    def _match_rows(self, rows: Tokens, workers: int | None, report: Advance) -> NDArray[np.int32]:
        """Return the longest matches of rows that are not whole documents."""
        lengths = np.zeros(rows.shape, dtype=np.int32)
        order = np.empty(rows.size, dtype=np.uint32)
        sort_by_pair(rows, order)
        views, flat, text = self.views, lengths.ravel(), np.uint64(rows.ctypes.data)
        ends = matching.group_ends(rows, order, -(-rows.size // _PIECES))

        def walk(piece: tuple[int, int]) -> int:
            matching.match_groups(views, rows, text, order[piece[0] : piece[1]], flat)
            return piece[1]

        done = 0
        with ThreadPoolExecutor(thread_count(workers)) as pool:
            for end in pool.map(walk, itertools.pairwise([0, *ends.tolist()])):
                report(end // rows.shape[1] - done)
                done = end // rows.shape[1]
        self._over_chunks(passages.extend_rows, rows, lengths, workers)
        return lengths

    def documents_equal(self, tokens_BT: Rows, *, workers: int | None = None) -> NDArray[np.int64]:
        """See :meth:`Index.documents_equal`."""
        rows = check_ids(tokens_BT, dimensions=2)
        counts = np.zeros(len(rows), dtype=np.int64)
        self._over_chunks(passages.count_documents, rows, counts, workers)
        return counts

    def _over_chunks(
        self, kernel: Callable[..., None], rows: Tokens, out: NDArray[Any], workers: int | None
    ) -> None:
        views, threads = self.views, thread_count(workers)
        size = max(min(64, -(-len(rows) // threads)), 1)
        starts = range(0, len(rows), size)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda b: kernel(views, rows[b : b + size], out[b : b + size]), starts))

    def gram_counts(
        self, queries: Sequence[Grams], counting: Counting, *, workers: int | None = None
    ) -> list[GramCounts]:
        """See :meth:`Index.gram_counts`; reads ``n`` tokens at every place of the corpus once."""
        longest, sizes = len(queries), [len(grams.classes) for grams in queries]
        keys = np.zeros((sum(sizes), longest), dtype=np.uint16)
        ends = np.cumsum(sizes)
        for k, (grams, end, size) in enumerate(zip(queries, ends, sizes, strict=True), start=1):
            keys[end - size : end, :k] = grams.tokens.byteswap()
        walk = GramWalk(
            grams=keys,
            classes=np.concatenate([grams.classes for grams in queries]),
            own=np.zeros(len(keys), dtype=np.int64),
            contexts=np.zeros((len(keys), 4), dtype=np.int64),
            class_of=counting.class_of,
            num_classes=counting.num_classes,
            continuations=counting.continuations,
            ends=counting.ends,
        )
        threads = thread_count(workers)
        # First tokens, cut so that a piece has about as many suffixes as any other.
        share = np.linspace(0, self.num_tokens, 4 * threads + 1)[1:-1]
        cuts = np.searchsorted(self.views.firsts.sum(axis=0), share)
        bounds = np.unique([0, *cuts.tolist(), self.views.firsts.shape[1] - 1])
        places = begin_with(queries, bounds)
        places[-1] = ends
        of_counts = np.zeros((len(bounds) - 1, longest, NUM_TOLD), dtype=np.int64)
        unigrams = np.zeros((len(bounds) - 1, walk.num_classes, 4), dtype=np.int64)

        def count(piece: int) -> None:
            asked = Piece(
                first=int(bounds[piece]),
                last=int(bounds[piece + 1]),
                begin=places[piece],
                end=places[piece + 1],
                of_counts=of_counts[piece],
                unigrams=unigrams[piece],
            )
            walk_grams(self.views, walk, asked)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(count, range(len(bounds) - 1)))
        walk.contexts[: sizes[0]] = unigrams.sum(axis=0)[walk.classes[: sizes[0]]]
        return [
            GramCounts(own=own, contexts=contexts, of_counts=told)
            for own, contexts, told in zip(
                np.split(walk.own, ends[:-1]),
                np.split(walk.contexts, ends[:-1]),
                of_counts.sum(axis=0),
                strict=True,
            )
        ]

    def parse_rows(
        self,
        tokens_BT: Rows,
        lengths_BT: Rows,
        *,
        max_occurrences: int = 64,
        workers: int | None = None,
        advance: Advance | None = None,
    ) -> Phrases:
        """See :meth:`Index.parse_rows`."""
        rows = check_ids(tokens_BT, dimensions=2)
        check_at_least("max_occurrences", max_occurrences, 0)
        return phrases.parse_rows(
            self.views,
            rows,
            np.ascontiguousarray(lengths_BT, dtype=np.int32),
            max_occurrences=max_occurrences,
            threads=thread_count(workers),
            advance=advance or (lambda steps: None),
        )
