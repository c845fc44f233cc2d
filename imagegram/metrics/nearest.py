"""Nearest training images in feature space: exact, over memory maps that are read once, in blocks.

>>> nearest_rows(np.array([[0.0], [5.0]]), np.array([[4.0], [1.0], [9.0]]), k=2).distances
array([[1., 4.],
       [1., 4.]])
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import Advance, over_tiles, row_tiles
from imagegram.metrics.manifolds import pairwise_distances

#: Rows that are searched at a time, and queries that search them: 8 MB an array of distances.
_ROWS: Final = 2048
_QUERIES: Final = 512


class Nearest(NamedTuple):
    """The nearest rows of each query, nearest first.

    Attributes:
        distances: (B, K) float64 Euclidean distances; equal rows are at exactly 0.
        ids: (B, K) int64.
    """

    distances: NDArray[np.float64]
    ids: NDArray[np.int64]


def nearest_rows(
    queries: NDArray[Any],
    rows: NDArray[Any],
    *,
    k: int = 1,
    workers: int = 1,
    advance: Advance = lambda steps: None,
) -> Nearest:
    """Find the k rows nearest to each query, or all rows if there are fewer.

    Takes the time of B N D multiplications, and 20 K B bytes beside blocks of both.

    Args:
        queries: (B, D).
        rows: (N, D), memory-mapped perhaps.
        k: K.
        workers: threads.
        advance: called with the number of further rows that were searched.
    """
    parts = row_tiles(len(queries), _QUERIES)

    def search(block: slice) -> tuple[slice, NDArray[np.float64], NDArray[np.int64]]:
        some = np.asarray(rows[block], dtype=np.float64)
        kept = min(k, len(some))
        distances = np.empty((len(queries), kept))
        ids = np.empty((len(queries), kept), dtype=np.int64)
        for part in parts:
            all_distances = pairwise_distances(queries[part], some)
            ids[part] = np.argpartition(all_distances, kept - 1, axis=1)[:, :kept]
            distances[part] = np.take_along_axis(all_distances, ids[part], axis=1)
        return block, distances, ids + block.start

    best = np.empty((len(queries), 0))
    best_ids = np.empty((len(queries), 0), dtype=np.int64)
    for block, distances, ids in over_tiles(search, row_tiles(len(rows), _ROWS), workers=workers):
        distances = np.concatenate([best, distances], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(distances, order, axis=1)
        best_ids = np.take_along_axis(np.concatenate([best_ids, ids], axis=1), order, axis=1)
        advance(block.stop - block.start)
    return Nearest(best, best_ids)
