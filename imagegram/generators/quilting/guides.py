"""Guides: thumbnails of pictures that do not exist, mixed from those of similar training images.

A training image is drawn, and the K most similar ones are looked up, itself among them. The guide
is their mean m and a normal sum of their differences from it,

    m + sum_k (z_k - mean of z) (x_k - m) / sqrt(K),    z_k ~ N(0, 1),

so it varies as these images do: a smoothed bootstrap with the covariance of the neighbours
(Silverman and Young, "The bootstrap: to smooth or not to smooth?", Biometrika 74, 1987). A mean has
less contrast than what it is made of, and so has a quilt, for dull patches are near to many: the
differences of the guide from its mean colour are multiplied by a number.

Array names: ``B`` samples, ``N`` documents, ``C`` numbers of a thumbnail, colour last.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.training.draws import GUIDES, generator

#: Thumbnails that are compared at a time.
_CHUNK: Final = 8192


def draw_guides(
    thumbnails_NC: NDArray[np.uint32],
    clusters_N: NDArray[np.int64],
    samples_B: NDArray[np.uint64],
    *,
    seed: int,
    num_images: int,
    contrast: float,
    largest: int,
) -> NDArray[np.int64]:
    """Return the (B, C) guides of samples, each a function of seed and sample id.

    Args:
        thumbnails_NC: sums of pixels, 0 ... ``largest``.
        clusters_N: near-duplicates, of which only the nearest is mixed.
        samples_B: sample ids.
        seed: 0 ... 2**64 - 1.
        num_images: images that a guide is mixed from, K; fewer where there are no more.
        contrast: multiplies the differences from the mean colour.
        largest: the most that a number may be.
    """
    randoms = [generator(seed=seed, purpose=GUIDES, number=int(one)) for one in samples_B]
    first_B = np.array([random.integers(len(thumbnails_NC)) for random in randoms])
    found = np.empty((len(samples_B), thumbnails_NC.shape[1]), dtype=np.int64)
    near = nearest(thumbnails_NC, clusters_N, first_B, num_images)
    for row, (documents, random) in enumerate(zip(near, randoms, strict=True)):
        x_KC = thumbnails_NC[documents].astype(np.float64)
        mean_C = x_KC.mean(axis=0)
        z_K = random.standard_normal(len(documents))
        off_KC = (z_K - z_K.mean())[:, None] * (x_KC - mean_C)
        mixed = (mean_C + off_KC.sum(axis=0) / math.sqrt(len(documents))).reshape(-1, 3)
        colour = mixed.mean(axis=0)
        sharpened = colour + contrast * (mixed - colour)
        found[row] = np.clip(np.rint(sharpened), 0, largest).ravel()
    return found


def nearest(
    thumbnails_NC: NDArray[np.uint32],
    clusters_N: NDArray[np.int64],
    first_B: NDArray[np.int64],
    most: int,
) -> Iterator[NDArray[np.int64]]:
    """Yield the documents most similar to each of B documents, nearest first, of each cluster one.

    Among equals the lower number is nearer; a document is the nearest to itself.
    """
    wanted_BC = thumbnails_NC[first_B].astype(np.float64)
    kept: list[list[tuple[float, int]]] = [[(-1.0, int(first))] for first in first_B]
    for start in range(0, len(thumbnails_NC), _CHUNK):
        distances_BM = squared_distances(wanted_BC, thumbnails_NC[start : start + _CHUNK])
        for row, distances_M in enumerate(distances_BM):
            order_M = np.argsort(distances_M, kind="stable")
            further = ((float(distances_M[m]), start + int(m)) for m in order_M)
            kept[row] = _first_of_each(heapq.merge(kept[row], further), clusters_N, most)
    for own in kept:
        yield np.array([document for _, document in own])


def _first_of_each(
    ranked: Iterable[tuple[float, int]], clusters_N: NDArray[np.int64], most: int
) -> list[tuple[float, int]]:
    """Return the first document of each of the first clusters, with its distance."""
    found: dict[int, tuple[float, int]] = {}
    for one in ranked:
        found.setdefault(int(clusters_N[one[1]]), one)
        if len(found) == most:
            break
    return list(found.values())


def squared_distances(
    some_BC: NDArray[np.float64], others_MC: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the (B, M) squared distances of whole numbers, exactly: all sums are below 2**53."""
    others = others_MC.astype(np.float64)
    own_B1 = np.einsum("bc,bc->b", some_BC, some_BC)[:, None]
    own_M = np.einsum("mc,mc->m", others, others)
    distances: NDArray[np.float64] = own_B1 - 2 * (some_BC @ others.T) + own_M
    return distances
