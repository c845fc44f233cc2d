"""Near-duplicates: pictures whose 16x16 RGB thumbnails differ little, found exactly.

A picture that was compressed again, resized or recaptioned keeps almost the same thumbnail. The
search is exact and needs no index: the RMS difference of block means is never larger than the RMS
difference of the pixels (Jensen), so the 48 means of 4x4 blocks rule out nearly all pairs. For
clusters, thumbnails are sorted by their overall mean, and each is compared only with those whose
mean is at most ``rms`` larger.

>>> rng = np.random.default_rng(0)
>>> thumbnails = rng.integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
>>> thumbnails[3] = thumbnails[1] ^ 1  # every value off by one
>>> cluster_labels(thumbnails, rms=1.0).tolist()
[0, 1, 2, 1, 4]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Images


@dataclass(frozen=True)
class ThumbnailSearch:
    """Exact search among thumbnails.

    Attributes:
        thumbnails: (N, 768) uint8: N thumbnails of 16 x 16 x 3.
        block_sums: (48, N) int32 sums of their 4x4 blocks.
    """

    thumbnails: Images
    block_sums: NDArray[np.int32]

    @classmethod
    def over(cls, thumbnails: Images) -> ThumbnailSearch:
        """Prepare (N, 16, 16, 3) thumbnails."""
        from imagegram.images.near_kernels import NUM_SUMS, block_sums

        flat = np.array(thumbnails, dtype=np.uint8, order="C")
        flat = flat.reshape(len(thumbnails), math.prod(thumbnails.shape[1:]))
        sums = np.empty((NUM_SUMS, len(flat)), dtype=np.int32)
        block_sums(flat, sums)
        return cls(flat, sums)

    def neighbours(
        self, thumbnail: Images, *, rms: float, first: int = 0, end: int | None = None
    ) -> NDArray[np.int64]:
        """Return the ascending indices, from ``first`` on, of thumbnails within ``rms`` of one.

        Args:
            thumbnail: (16, 16, 3) uint8.
            rms: largest root mean squared difference, 0 ... 255.
            first: lowest index to look at.
            end: one more than the highest; None: all.
        """
        from imagegram.images.near_kernels import find_near

        stop = len(self.thumbnails) if end is None else end
        found = np.empty(max(stop - first, 0), dtype=np.int64)
        query = np.array(thumbnail, dtype=np.uint8, order="C").reshape(1, -1)
        limit = float(rms * rms * thumbnail.size)
        count = find_near(self.thumbnails, self.block_sums, query, first, stop, limit, found)
        return found[:count]


def cluster_labels(thumbnails: Images, *, rms: float) -> NDArray[np.intp]:
    """Label the connected components of "within ``rms`` of each other".

    Args:
        thumbnails: (N, 16, 16, 3) uint8.
        rms: largest root mean squared difference of neighbours, 0 ... 255.

    Returns:
        (N,) the lowest index of each thumbnail's component.
    """
    flat = thumbnails.reshape(len(thumbnails), 16 * 16 * 3)
    # Exact copies are merged first: a corpus of copies would otherwise cost N**2 comparisons.
    _, firsts, inverse = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    totals = flat[firsts].sum(axis=1, dtype=np.int64)
    order = np.argsort(totals, kind="stable")
    search = ThumbnailSearch.over(thumbnails[firsts[order]])
    # One level more than the limit, so that no rounding of it hides a pair.
    farthest = totals[order] + rms * flat.shape[1] + 1
    ends = np.searchsorted(totals[order], farthest, side="right")
    parents = list(range(len(order)))

    def root(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for node, end in enumerate(ends.tolist()):
        near = search.neighbours(search.thumbnails[node], rms=rms, first=node + 1, end=end)
        for other in near.tolist():
            parents[root(other)] = root(node)
    roots = np.empty(len(order), dtype=np.intp)
    roots[order] = [root(node) for node in range(len(order))]
    labels = roots[inverse.ravel()]
    lowest = np.full(len(order), len(thumbnails), dtype=np.intp)
    np.minimum.at(lowest, labels, np.arange(len(thumbnails)))
    return lowest[labels]
