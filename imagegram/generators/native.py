"""Runs the compiled generators over many images, on threads.

Threads and not processes: kernels release Python's lock, and the memory maps are shared as they
are. Every image is one job; which thread takes it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.kernels import Documents, Knobs, Rows, Work, make_work
from imagegram.generators.memo import FREQUENT, MAX_ENTRIES, Memo, make_memo
from imagegram.generators.position_kernel import write_row_by_position
from imagegram.generators.reference import matching_classes
from imagegram.generators.suffix_kernel import write_row
from imagegram.generators.trace import empty_trace
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels import ShardViews, shard_views
from imagegram.indexes.stream import TOKEN_BYTES
from imagegram.protocols import Sampler
from imagegram.records import Tokens, Trace
from imagegram.tokenizers.layout import TokenLayout

_NO_STARTS: Final = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeGenerator:
    """Index shards, prepared for the kernels on first use.

    Attributes:
        shards: in the order of their document ids.
        frequent: candidates from which on a worker remembers what a context leads to.
        memo_entries: contexts that it remembers at most.
    """

    shards: tuple[IndexShard, ...]
    frequent: int = FREQUENT
    memo_entries: int = MAX_ENTRIES

    @cached_property
    def views(self) -> ShardViews:
        """Addresses and prefix buckets of the suffix arrays."""
        return shard_views(self.shards)

    @cached_property
    def documents(self) -> Documents:
        """Where documents begin."""
        uneven = [shard.document_length is None for shard in self.shards]
        starts = [
            np.asarray(shard.offsets).astype(np.int64) // TOKEN_BYTES if differs else _NO_STARTS
            for shard, differs in zip(self.shards, uneven, strict=True)
        ]
        sizes = np.array([len(at) for at in starts], dtype=np.int64)
        return Documents(
            stride=np.array([(s.document_length or -1) + 1 for s in self.shards], dtype=np.int64),
            first_start=np.cumsum(sizes) - sizes,
            starts=np.concatenate(starts),
        )

    @cached_property
    def columns(self) -> Tokens:
        """(T, N) all documents, position by position; needs equally long ones."""
        rows = [_rows(shard) for shard in self.shards if shard.num_documents]
        columns_TN = np.empty((rows[0].shape[1], sum(map(len, rows))), dtype=np.uint16)
        start = 0
        for row_NT in rows:
            columns_TN[:, start : start + len(row_NT)] = row_NT.T
            start += len(row_NT)
        return columns_TN

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
        """Like :func:`imagegram.generators.reference.trace_rows`, on up to ``workers`` threads."""
        shape = (len(samples), layout.num_tokens)
        tokens_BT = np.zeros(shape, dtype=np.uint16) if forced_BT is None else forced_BT.copy()
        trace = empty_trace(*shape)
        rows = Rows(tokens=tokens_BT, **vars(trace))
        knobs = self._knobs(sampler, layout)
        threads = max(1, min(workers, len(samples)))
        write = (self._by_position if sampler.matching == "position" else self._by_suffix)(
            threads, knobs, rows, forced_BT is not None, np.uint64(seed)
        )
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(write, range(len(samples)), samples):
                advance(layout.num_tokens)
        return tokens_BT, trace

    def _by_suffix(
        self, threads: int, knobs: Knobs, rows: Rows, forced: bool, seed: np.uint64
    ) -> Callable[[int, np.uint64], None]:
        views, documents = self.views, self.documents
        idle: SimpleQueue[tuple[Memo, Work]] = SimpleQueue()
        num_documents = int(views.num_documents.sum())
        for _ in range(threads):
            memo = make_memo(len(self.shards), frequent=self.frequent, entries=self.memo_entries)
            idle.put((memo, make_work(len(self.shards), num_documents)))

        def write(b: int, sample: np.uint64) -> None:
            memo, work = idle.get()
            try:
                write_row(views, documents, knobs, memo, work, rows, b, forced, seed, sample)
            finally:  # else the other images would wait for it
                idle.put((memo, work))

        return write

    def _by_position(
        self, threads: int, knobs: Knobs, rows: Rows, forced: bool, seed: np.uint64
    ) -> Callable[[int, np.uint64], None]:
        columns_TN = self.columns
        idle: SimpleQueue[tuple[NDArray[np.int32], Work]] = SimpleQueue()
        for _ in range(threads):
            idle.put((np.empty((2, columns_TN.shape[1]), dtype=np.int32), make_work(1, 1)))

        def write(b: int, sample: np.uint64) -> None:
            members, work = idle.get()
            try:
                write_row_by_position(
                    columns_TN, knobs, members, work, rows, b, forced, seed, sample
                )
            finally:  # else the other images would wait for it
                idle.put((members, work))

        return write

    def _knobs(self, sampler: Sampler, layout: TokenLayout) -> Knobs:
        num_documents = sum(shard.num_documents for shard in self.shards)
        return Knobs(
            temperature=float(sampler.temperature),
            top_k=sampler.top_k or 0,
            top_p=float(sampler.top_p),
            min_p=float(sampler.min_p),
            needed=min(sampler.min_count, num_documents),
            count_documents=sampler.count_documents,
            filtered=sampler.matching in ("channel", "level"),
            shifts=sampler.matching in ("free", "channel"),
            limits=sampler.max_context_per_position(layout),
            classes=matching_classes(sampler.matching, layout),
        )


def _rows(shard: IndexShard) -> Tokens:
    """(N, T) documents of a shard whose documents are equally long; a view of the memory map."""
    stride = (shard.document_length or 0) + 1
    # A strided view, because streams of other tools lack the last separator.
    return np.lib.stride_tricks.as_strided(
        shard.tokens[1:],
        shape=(shard.num_documents, stride - 1),
        strides=(stride * TOKEN_BYTES, TOKEN_BYTES),
        writeable=False,
    )
