"""Compute the side files of an order from the table of an index shard.

The inverse is a scatter; shared lengths are counted along the stream (Kasai's algorithm) by threads
that each start with their own part. Besides the maps of table and stream, memory holds ranks and
shared lengths, 6 bytes a token up to 4 G tokens; building the aligned table needs no more. Each
file is written once, from begin to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import UnsupportedError
from imagegram.indexes.build import order_kernels as kernels
from imagegram.indexes.format import IndexShard, map_file, pointer_width
from imagegram.indexes.order import INVERSE_PADDING, inverse_width, minima_sizes

#: Number of progress reports of :func:`build_order`.
STEPS: Final = 4
#: Suffixes per piece of ``repeat.0``, which is written piece by piece.
_PIECE: Final = 1 << 22

T = TypeVar("T")


def order_memory(num_tokens: int) -> int:
    """Return the peak memory of :func:`build_order` in bytes, besides maps and MBs per thread."""
    return num_tokens * max(inverse_width(num_tokens) + 2, pointer_width(num_tokens))


def build_order(
    shard: IndexShard,
    out: Path,
    *,
    aligned: bool,
    workers: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Write the files of :class:`~imagegram.indexes.order.Order` into the folder ``out``.

    Args:
        shard: with its table.
        out: written.
        aligned: whether to build the aligned order.
        workers: threads.
        advance: called :data:`STEPS` times.

    Raises:
        UnsupportedError: for an aligned order of documents that are not equally long.
    """
    if aligned and shard.num_documents and shard.document_length is None:
        raise UnsupportedError(
            f"{shard.name}: its documents are not equally long, so positions do not line up and "
            "matching=position has no order; use matching=free"
        )
    with ThreadPoolExecutor(workers) as pool:
        job = _Job(shard=shard, aligned=aligned, workers=workers, pool=pool)
        table = shard.table
        if aligned:
            job.partition().tofile(out / "aligned.0")
            table = map_file(out / "aligned.0", np.dtype("u1"))
        advance()
        inverse = job.invert(table)
        inverse.tofile(out / "inverse.0")
        advance()
        lcp = job.share(table, inverse)
        lcp.tofile(out / "lcp.0")
        advance()
        with (out / "repeat.0").open("wb") as file:
            for piece in job.repeats(inverse, lcp):
                piece.tofile(file)
        with (out / "minima.0").open("wb") as file:
            level = lcp
            for _ in minima_sizes(lcp.size):
                level = kernels.minima_of(level)
                level.tofile(file)
        advance()


class _Job:
    """One order under construction: a shard, its geometry and its threads."""

    def __init__(
        self, *, shard: IndexShard, aligned: bool, workers: int, pool: ThreadPoolExecutor
    ) -> None:
        self.shard = shard
        self.n = shard.num_tokens
        self.width = shard.pointer_width
        self.rank_width = inverse_width(self.n)
        self.documents = shard.num_documents
        self.stride = (shard.document_length or 0) + 1 if aligned else 0
        self.workers = workers
        self.pool = pool

    def parts(self) -> list[tuple[int, int]]:
        """Split the range 0 ... n into about equal parts, one per thread."""
        ends = [self.n * k // self.workers for k in range(self.workers + 1)]
        return list(pairwise(ends))

    def each(self, function: Callable[[int, int], T]) -> list[T]:
        """Return the results of ``function(first, last)`` for all parts."""
        return list(self.pool.map(lambda part: function(*part), self.parts()))

    def partition(self) -> NDArray[np.uint8]:
        """Make the aligned table: pointers sorted stably by position in the document."""
        source = _address(self.shard.table), self.width, self.n
        aligned = np.empty(self.n * self.width, np.uint8)
        counts = self.each(
            lambda first, last: kernels.count_buckets(
                *source, first, last, self.documents, self.stride
            )
        )
        # Where each part's suffixes of each position begin: after all of the positions before,
        # and after those of the same position that earlier parts hold.
        by_position = np.array(counts, dtype=np.int64).T
        starts = np.cumsum(by_position).reshape(by_position.shape) - by_position
        free = [np.ascontiguousarray(column) for column in starts.T]
        jobs = [
            partial(kernels.partition, *source, *part, self.documents, mine, _address(aligned))
            for part, mine in zip(self.parts(), free, strict=True)
        ]
        list(self.pool.map(lambda job: job(), jobs))
        return aligned

    def invert(self, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make the packed ranks, with padding."""
        inverse = np.empty(self.n * self.rank_width + INVERSE_PADDING, np.uint8)
        inverse[inverse.size - INVERSE_PADDING :] = 0
        source = _address(table), self.width, self.n
        target = _address(inverse), self.rank_width
        self.each(lambda first, last: kernels.invert(*source, first, last, *target))
        return inverse

    def share(self, table: NDArray[np.uint8], inverse: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Make the shared lengths by rank."""
        lcp = np.empty(self.n, np.uint16)
        source = _address(self.shard.tokens), _address(table), self.width, self.n
        ranks = _address(inverse), self.rank_width
        geometry = self.documents, self.stride, _address(lcp)
        self.each(lambda first, last: kernels.share(*source, *ranks, first, last, *geometry))
        return lcp

    def repeats(
        self, inverse: NDArray[np.uint8], lcp: NDArray[np.uint16]
    ) -> Iterator[NDArray[np.uint16]]:
        """Yield the repeats along the stream, piece by piece."""
        source = _address(inverse), self.rank_width, self.n, lcp
        for start in range(0, self.n, _PIECE * self.workers):
            firsts = range(start, min(start + _PIECE * self.workers, self.n), _PIECE)
            yield from self.pool.map(
                lambda first: kernels.repeats(*source, first, min(first + _PIECE, self.n)), firsts
            )


def _address(array: NDArray[Any]) -> np.uint64:
    return np.uint64(array.ctypes.data)
