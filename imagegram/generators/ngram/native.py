"""Runs the compiled generators over many images, on threads.

An index of one shard with side files (``indexes/order.py``) is walked; everything else is searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.ngram.blocks import Write, lend, write_blocks
from imagegram.generators.ngram.conditions import is_conditioned
from imagegram.generators.ngram.kernels import (
    Documents,
    Knobs,
    Rows,
    find_documents,
    make_knobs,
    make_work,
)
from imagegram.generators.ngram.search.intervals import write_row
from imagegram.generators.ngram.search.memo import FREQUENT, MAX_ENTRIES, make_memo
from imagegram.generators.ngram.trace import empty_trace
from imagegram.generators.ngram.walk.book import MAX_CLASSES, make_book
from imagegram.generators.ngram.walk.candidates import make_sieve
from imagegram.generators.ngram.walk.kernel import write_rows
from imagegram.generators.ngram.walk.order import Walk, make_walk, make_walkers
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels.search import ShardViews, shard_views
from imagegram.indexes.order import Order
from imagegram.layout import TokenLayout
from imagegram.protocols import Sampler
from imagegram.records import Tokens, Trace
from imagegram.samplers.categorical import matching_classes

#: Images that a thread takes through each step together: enough for their misses to overlap.
BLOCK: Final = 32
#: Side files tell shorter contexts from longer ones below this.
_LONGEST: Final = 65535


def wanted_order(sampler: Sampler, num_shards: int) -> str | None:
    """Which side files make this sampler fast: ``suffix``, ``aligned``, or None when none do.

    Of the shards of whole tokens: contexts of coarse ids have shards and orders of their own.
    """
    if is_conditioned(sampler):
        return "aligned" if sampler.matching == "position" and not sampler.context_digits else None
    if sampler.matching == "position":
        return "aligned"
    return "suffix" if num_shards == 1 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeGenerator:
    """Index shards, prepared for the kernels on first use.

    Attributes:
        shards: in the order of their document ids.
        orders: side files, one a shard, all of one kind; or none.
        frequent: candidates from which on a worker remembers what a context leads to.
        memo_entries: contexts that it remembers at most.
    """

    shards: tuple[IndexShard, ...]
    orders: tuple[Order, ...] = ()
    frequent: int = FREQUENT
    memo_entries: int = MAX_ENTRIES

    @cached_property
    def views(self) -> ShardViews:
        """Addresses and prefix buckets of the suffix arrays."""
        return shard_views(self.shards)

    @cached_property
    def aligned_views(self) -> ShardViews:
        """The same over the aligned tables, which have no prefix buckets."""
        return over_aligned(self.views, self.orders)

    @cached_property
    def walk(self) -> Walk:
        """The only shard with its side files."""
        return make_walk(self.orders[0])

    @cached_property
    def documents(self) -> Documents:
        """Where documents begin."""
        return find_documents(self.shards)

    def rows(
        self,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        samples: NDArray[np.uint64],
        seed: int,
        forced_BT: Tokens | None,
        advance: Callable[[int], None],
        workers: int,
    ) -> tuple[Tokens, Trace]:
        """Like ``ngram.reference.trace_rows``, on up to ``workers`` threads."""
        shape = (len(samples), layout.num_tokens)
        tokens_BT = np.zeros(shape, dtype=np.uint16) if forced_BT is None else forced_BT.copy()
        trace = empty_trace(*shape)
        rows = Rows(tokens=tokens_BT, **vars(trace))
        order = self._order(sampler, layout)
        knobs = make_knobs(self.shards, sampler, layout, aligned=order == "aligned")
        walks = order is not None and len(self.shards) == 1
        threads = max(1, min(workers, len(samples)))
        block = min(BLOCK, -(-len(samples) // threads)) if walks else 1
        write = (self._walking if walks else self._searching)(
            threads, block, knobs, rows, samples, forced_BT is not None, np.uint64(seed)
        )
        write_blocks(write, len(samples), block, threads, lambda n: advance(n * layout.num_tokens))
        return tokens_BT, trace

    def _walking(
        self,
        threads: int,
        block: int,
        knobs: Knobs,
        rows: Rows,
        samples: NDArray[np.uint64],
        forced: bool,
        seed: np.uint64,
    ) -> Write:
        walk, num_tokens = self.walk, rows.tokens.shape[1]

        def make() -> tuple[Any, ...]:
            book = make_book(knobs.temperature, frequent=self.frequent, entries=self.memo_entries)
            return book, make_sieve(walk, knobs, book), make_walkers(block, num_tokens)

        def write(scratch: tuple[Any, ...], start: int, size: int) -> None:
            book, sieve, walkers = scratch
            write_rows(walk, knobs, book, sieve, walkers, rows, start, size, forced, seed, samples)

        return lend([make() for _ in range(threads)], write)

    def _searching(
        self,
        threads: int,
        block: int,
        knobs: Knobs,
        rows: Rows,
        samples: NDArray[np.uint64],
        forced: bool,
        seed: np.uint64,
    ) -> Write:
        views = self.aligned_views if knobs.aligned else self.views
        documents, num_shards = self.documents, len(self.shards)
        num_documents = int(views.num_documents.sum())

        def make() -> tuple[Any, ...]:
            memo = make_memo(num_shards, frequent=self.frequent, entries=self.memo_entries)
            return memo, make_work(num_shards, num_documents)

        def write(scratch: tuple[Any, ...], start: int, size: int) -> None:
            memo, work = scratch
            for b in range(start, start + size):
                write_row(views, documents, knobs, memo, work, rows, b, forced, seed, samples[b])

        return lend([make() for _ in range(threads)], write)

    def _order(self, sampler: Sampler, layout: TokenLayout) -> str | None:
        """The side files to use: those that the sampler wants, when they are here."""
        wanted = wanted_order(sampler, len(self.shards))
        limits_T = sampler.max_context_per_position(layout)
        longest = int(np.minimum(limits_T, np.arange(1, layout.num_tokens + 1)).max())
        if wanted is None or not self.orders or longest >= _LONGEST:
            return None
        if matching_classes(sampler.matching, layout).max() >= MAX_CLASSES and wanted == "suffix":
            return None
        return wanted if self.orders[0].aligned == (wanted == "aligned") else None


def over_aligned(views: ShardViews, orders: Sequence[Order]) -> ShardViews:
    """Views whose tables are those of aligned orders."""
    tables = [order.table.ctypes.data for order in orders]
    return views._replace(table_address=np.array(tables, dtype=np.uint64))
