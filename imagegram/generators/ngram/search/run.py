"""Runs the compiled kernel of samplers with an anchor, a label or coarse contexts, on threads.

As ``native.py`` does for all others. It reads up to two streams of the same documents: what is
compared (``contexts``, whole tokens or coarse ids) and what is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.ngram.blocks import lend, write_blocks
from imagegram.generators.ngram.conditions import row_labels
from imagegram.generators.ngram.kernels import (
    Documents,
    Rows,
    find_documents,
    make_knobs,
    make_work,
)
from imagegram.generators.ngram.native import over_aligned
from imagegram.generators.ngram.search.few import Rules, make_few
from imagegram.generators.ngram.search.kernel import write_row
from imagegram.generators.ngram.search.memo import FREQUENT, MAX_ENTRIES, make_memo
from imagegram.generators.ngram.trace import empty_trace
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels.search import ShardViews, shard_views
from imagegram.indexes.labels import ANY, Labels
from imagegram.indexes.order import Order
from imagegram.layout import TokenLayout
from imagegram.protocols import Sampler
from imagegram.records import Tokens, Trace
from imagegram.samplers.categorical import matching_classes

#: A search costs about as much as a look at so many places.
MANY: Final = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionedGenerator:
    """Index shards with what conditions ask for, prepared for the kernel on first use.

    Attributes:
        shards: of whole tokens, in the order of their document ids.
        contexts: what is compared, shard by shard; the shards themselves when ``divisor`` is 1.
        divisor: of whole ids, to those of the contexts.
        orders: aligned side files of the contexts; none: matching by position searches longer.
        labels: of the documents; None: nobody asks.
        frequent: candidates from which on a worker remembers what a context leads to.
        memo_entries: contexts that it remembers at most.
        many: places of the documents that may decide above which rare contexts are searched for.
    """

    shards: tuple[IndexShard, ...]
    contexts: tuple[IndexShard, ...]
    divisor: int = 1
    orders: tuple[Order, ...] = ()
    labels: Labels | None = None
    frequent: int = FREQUENT
    memo_entries: int = MAX_ENTRIES
    many: int = MANY

    @cached_property
    def views(self) -> ShardViews:
        """Addresses and prefix buckets of the contexts."""
        return shard_views(self.contexts)

    @cached_property
    def documents(self) -> Documents:
        """Where documents begin, in contexts and shards alike."""
        return find_documents(self.shards)

    @cached_property
    def by_label(self) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
        """Labels, documents label by label, and where each label's begin."""
        if self.labels is None:
            nobody = np.full(self.num_documents, ANY, dtype=np.int32)
            return nobody, np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
        labels = self.labels.by_document
        documents = np.argsort(labels, kind="stable").astype(np.int64)
        firsts = np.searchsorted(labels[documents], np.arange(len(self.labels.names) + 1))
        return labels, documents, firsts.astype(np.int64)

    @property
    def num_documents(self) -> int:
        """Documents of all shards."""
        return sum(shard.num_documents for shard in self.shards)

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
        aligned = sampler.matching == "position" and bool(self.orders)
        views = over_aligned(self.views, self.orders) if aligned else self.views
        knobs = make_knobs(self.contexts, sampler, layout, aligned=aligned)
        rules = self._rules(sampler, layout, samples, aligned)
        documents, num_shards = self.documents, len(self.shards)
        forced, number = forced_BT is not None, np.uint64(seed)

        def make() -> tuple[Any, ...]:
            return (
                make_memo(num_shards, frequent=self.frequent, entries=self.memo_entries),
                make_work(num_shards, self.num_documents),
                make_few(self.num_documents, num_shards, layout.num_tokens, rules.anchor),
            )

        def write(scratch: tuple[Any, ...], start: int, size: int) -> None:
            memo, work, few = scratch
            for b in range(start, start + size):
                write_row(
                    views, documents, knobs, rules, memo, work, few, rows, b, forced, number,
                    samples[b],
                )  # fmt: skip

        threads = max(1, min(workers, len(samples)))
        lent = lend([make() for _ in range(threads)], write)
        write_blocks(lent, len(samples), 1, threads, lambda n: advance(n * layout.num_tokens))
        return tokens_BT, trace

    def _rules(
        self, sampler: Sampler, layout: TokenLayout, samples: NDArray[np.uint64], aligned: bool
    ) -> Rules:
        labels, members, first_member = self.by_label
        classes_T = matching_classes(sampler.matching, layout)
        last = [shard.num_tokens - shard.num_documents for shard in self.contexts]
        return Rules(
            anchor=min(sampler.anchor, layout.num_tokens),
            label_tokens=sampler.label_tokens,
            in_place=sampler.matching == "position",
            divisor=self.divisor,
            many=self.many,
            count_documents=sampler.count_documents,
            next_address=np.array([s.tokens.ctypes.data for s in self.shards], dtype=np.uint64),
            first_rank=np.array([0] * len(last) if aligned else last, dtype=np.int64),
            labels=labels,
            members=members,
            first_member=first_member,
            row_labels=row_labels(sampler, self.labels, samples),
            sizes=np.bincount(classes_T)[classes_T].astype(np.int64),
        )
