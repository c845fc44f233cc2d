"""Near-duplicates: pictures whose 16x16 RGB thumbnails differ little, found exactly.

Compressed again, resized or recaptioned, a picture keeps its thumbnail almost to the level. The
search is exact and needs no index: the mean of a 4x4 block never differs more than its pixels do
(Jensen), so distances of the 48 block means rule out nearly all pairs.

>>> rng = np.random.default_rng(0)
>>> thumbnails = rng.integers(0, 256, (5, 16, 16, 3)).astype(np.uint8)
>>> thumbnails[3] = thumbnails[1] ^ 1  # every value off by one
>>> cluster_labels(thumbnails, rms=1.0).tolist()
[0, 1, 2, 1, 4]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Images

_BLOCK = 4


@dataclass(frozen=True)
class ThumbnailSearch:
    """Exact search among thumbnails.

    Attributes:
        thumbnails: (N, 16, 16, 3) uint8.
        block_sums: (N, 48) float64 sums of 4x4 blocks, whole numbers.
        squares: (N,) squared lengths of ``block_sums``.
    """

    thumbnails: Images
    block_sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def over(cls, thumbnails: Images) -> ThumbnailSearch:
        """Prepare (N, 16, 16, 3) thumbnails."""
        count, height, width, channels = thumbnails.shape
        shape = (count, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, channels)
        blocks = thumbnails.reshape(shape).sum(axis=(2, 4), dtype=np.float64)
        sums = blocks.reshape(count, (height // _BLOCK) * (width // _BLOCK) * channels)
        return cls(thumbnails, sums, np.einsum("nd,nd->n", sums, sums))

    def neighbours(self, thumbnail: Images, *, rms: float, first: int = 0) -> NDArray[np.intp]:
        """Indices, ascending from ``first``, of thumbnails within ``rms`` of one.

        Args:
            thumbnail: (16, 16, 3) uint8.
            rms: largest root mean squared difference, 0 ... 255.
            first: lowest index to look at.
        """
        limit = rms * rms * thumbnail.size
        (query,) = ThumbnailSearch.over(thumbnail[None]).block_sums
        cross = self.block_sums[first:] @ query
        coarse = self.squares[first:] - 2 * cross + query @ query
        near = np.flatnonzero(coarse <= limit * _BLOCK * _BLOCK) + first
        difference = self.thumbnails[near].astype(np.int32) - thumbnail
        found: NDArray[np.intp] = near[(difference**2).sum(axis=(1, 2, 3)) <= limit]
        return found


def cluster_labels(thumbnails: Images, *, rms: float) -> NDArray[np.intp]:
    """Connected components of "within ``rms`` of each other".

    Args:
        thumbnails: (N, 16, 16, 3) uint8.
        rms: largest root mean squared difference of neighbours, 0 ... 255.

    Returns:
        (N,) the lowest index of each thumbnail's component.
    """
    flat = thumbnails.reshape(len(thumbnails), 16 * 16 * 3)
    # Exact copies are merged first: a corpus of copies would otherwise cost N**2 comparisons.
    _, firsts, inverse = np.unique(flat, axis=0, return_index=True, return_inverse=True)
    search = ThumbnailSearch.over(thumbnails[firsts])
    parents = list(range(len(firsts)))

    def root(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for node in range(len(firsts)):
        for other in search.neighbours(search.thumbnails[node], rms=rms, first=node + 1).tolist():
            parents[root(other)] = root(node)
    roots = np.array([root(node) for node in range(len(firsts))], dtype=np.intp)
    labels = roots[inverse.ravel()]
    lowest = np.full(len(firsts), len(thumbnails), dtype=np.intp)
    np.minimum.at(lowest, labels, np.arange(len(thumbnails)))
    return lowest[labels]
