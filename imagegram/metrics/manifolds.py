"""Precision, recall, density, coverage of large sets, also without each block of images in turn.

Distances are computed tile by tile and not kept. Subsets need only the nearest images of an image
in each block, and the nearest generated image of every reference image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import Advance, over_tiles, row_tiles

Array = NDArray[np.float64]

#: Rows of a tile: 512 x 512 distances are 2 MB.
_TILE: Final = 512
PRDC: Final = ("precision", "recall", "density", "coverage")


def pairwise_distances(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """Return (N, R) Euclidean distances of (N, D) and (R, D); equal rows are at exactly 0.

    ``|a|^2 + |b|^2 - 2 a.b`` cancels to noise for equal rows; values below the rounding error of
    the squares are set to 0, so that copies lie *inside* balls of radius 0.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    distances = squares - 2.0 * (a @ b.T)
    distances[distances < 1e-12 * squares] = 0.0
    return np.asarray(np.sqrt(distances, out=distances))


@dataclass(frozen=True, kw_only=True, eq=False)
class ManifoldPair:
    """Distances of N generated and R reference images, summarized for all subsets.

    Image i is in block ``i % blocks``; a subset is all images, or all but one block.

    Attributes:
        num_images: N.
        nearest_k: k of the balls.
        blocks: K.
        inside: (N,) number of reference balls that contain each generated image.
        nearest: (K, R) distance of each reference image to the nearest generated one of a block.
        radii: (R,) radii of the reference balls.
        recalled: (K + 1, R) whether a generated ball contains each reference image: first for all
            generated images, then without each block.
    """

    num_images: int
    nearest_k: int
    blocks: int
    inside: NDArray[np.int64]
    nearest: Array
    radii: Array
    recalled: NDArray[np.bool_]

    @classmethod
    def fit(
        cls,
        *,
        generated: NDArray[Any],
        reference: NDArray[Any],
        nearest_k: int,
        blocks: int = 1,
        workers: int = 1,
        advance: Advance = lambda steps: None,
    ) -> ManifoldPair:
        """Summarize (N, D) generated and (R, D) reference features; N, R > nearest_k.

        Takes 8 K (k + 1) bytes a generated image and 2 K bytes a reference image and worker, and
        the time of (N + R)^2 D multiplications.

        Args:
            generated: (N, D) features.
            reference: (R, D) features.
            nearest_k: k.
            blocks: K.
            workers: threads.
            advance: called with the number of further generated images that are done, each twice.
        """
        size = len(generated)
        radii = _others(reference, nearest_k, blocks=1, workers=workers)[:, 0]
        own = _others(generated, nearest_k, blocks=blocks, workers=workers, advance=advance)
        inside = np.empty(size, dtype=np.int64)
        nearest = np.full((blocks, len(reference)), np.inf)
        recalled = np.zeros((blocks + 1, len(reference)), dtype=np.bool_)

        def compare(rows: slice) -> tuple[slice, NDArray[Any], NDArray[Any], NDArray[Any]]:
            distances = pairwise_distances(generated[rows], reference)
            block_of = np.arange(rows.start, rows.stop) % blocks
            near, held = np.full_like(nearest, np.inf), np.zeros_like(recalled)
            for block in np.unique(block_of):
                near[block] = distances[block_of == block].min(axis=0)
            for subset in range(blocks + 1):
                kept = distances <= own[rows, subset, None]
                held[subset] = (kept & (block_of != subset - 1)[:, None]).any(axis=0)
            return rows, (distances <= radii).sum(axis=1), near, held

        for rows, balls, near, held in over_tiles(compare, row_tiles(size, _TILE), workers=workers):
            inside[rows] = balls
            np.minimum(nearest, near, out=nearest)
            recalled |= held
            advance(rows.stop - rows.start)
        return cls(
            num_images=size,
            nearest_k=nearest_k,
            blocks=blocks,
            inside=inside,
            nearest=nearest,
            radii=radii,
            recalled=recalled,
        )

    def measure(self, without: int | None = None) -> dict[str, float]:
        """Return precision, recall, density and coverage of all images, or without a block.

        NaN when at most k images are left.
        """
        kept = np.ones(self.num_images, dtype=np.bool_)
        blocks = np.ones(self.blocks, dtype=np.bool_)
        if without is not None:
            kept, blocks[without] = np.arange(self.num_images) % self.blocks != without, False
        inside = self.inside[kept]
        if len(inside) <= self.nearest_k:
            return dict.fromkeys(PRDC, float("nan"))
        covered = self.nearest[blocks].min(axis=0) <= self.radii
        return {
            "precision": float((inside > 0).mean()),
            "recall": float(self.recalled[0 if without is None else without + 1].mean()),
            "density": float(inside.mean() / self.nearest_k),
            "coverage": float(covered.mean()),
        }


def _others(
    features: NDArray[Any],
    k: int,
    *,
    blocks: int,
    workers: int,
    advance: Advance = lambda steps: None,
) -> Array:
    """Return (N, K + 1) distances to the k-th nearest other image, of all, then without blocks.

    Every tile is computed once and used for its rows and its columns.
    """
    size = len(features)
    # The nearest is the image itself, so keep k + 1; infinite where a block has fewer.
    nearest = np.full((size, blocks, k + 1), np.inf)
    members = [np.arange(block, size, blocks) for block in range(min(blocks, size))]
    tiles = [rows[part] for rows in members for part in row_tiles(len(rows), _TILE)]
    pairs = [(a, b) for a in range(len(tiles)) for b in range(a, len(tiles))]

    def smallest(distances: Array) -> Array:
        least: Array = distances
        return np.partition(least, k, axis=1)[:, : k + 1] if least.shape[1] > k else least

    def compare(pair: tuple[int, int]) -> tuple[int, int, Array, Array]:
        a, b = pair
        distances = pairwise_distances(features[tiles[a]], features[tiles[b]])
        return a, b, smallest(distances), smallest(distances.T)

    def merge(a: int, b: int, found: Array) -> None:
        rows, block = tiles[a], int(tiles[b][0]) % blocks
        nearest[rows, block] = smallest(np.concatenate([nearest[rows, block], found], axis=1))

    for a, b, of_a, of_b in over_tiles(compare, pairs, workers=workers):
        merge(a, b, of_a)
        if a != b:
            merge(b, a, of_b)
        if b == len(tiles) - 1:  # the last pair of its row of tiles
            advance(len(tiles[a]))
    result = np.empty((size, blocks + 1))
    for subset in range(blocks + 1):
        kept = [block for block in range(blocks) if block != subset - 1]
        parts = nearest[:, kept].reshape(size, -1)
        wide = parts.shape[1] > k
        result[:, subset] = np.partition(parts, k, axis=1)[:, k] if wide else np.inf
    return result


def prdc(
    *, generated: NDArray[Any], reference: NDArray[Any], nearest_k: int = 5
) -> dict[str, float]:
    """Return precision, recall (Kynkaanniemi 2019), density, coverage (Naeem et al., ICML 2020).

    Precision: share of generated images inside the reference manifold, the union of balls around
    reference images that reach their k-th nearest other. Recall: share of reference images inside
    the generated manifold. Balls are closed, as in the first paper, so a corpus of duplicates
    contains its own copies; where no distance equals a radius, the numbers are those of the PyPI
    package ``prdc``.
    """
    return ManifoldPair.fit(generated=generated, reference=reference, nearest_k=nearest_k).measure()
