"""The mathematics of the metrics: pure functions of arrays, no files, no networks.

Sets of images come by keyword as ``generated=`` and ``reference=``: most of these are asymmetric,
and swapped sets turn precision into recall without a word. All arithmetic is float64.

>>> x = np.random.default_rng(0).normal(size=(50, 4))
>>> abs(frechet_distance(generated=x, reference=x)) < 1e-6
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FrechetPair:
    """Generated features beside a Gaussian fitted to the reference, ready for many subsets.

    With ``F F^T = S_r`` the non-zero eigenvalues of ``S_g S_r`` are those of the covariance of
    ``generated @ F``, so one projection serves every subset, and the smaller of the n x n and the
    r x r form is decomposed: exact also where N < D, when a covariance has no full rank.
    """

    generated: Array
    projected: Array
    mean: Array
    trace: float

    @classmethod
    def fit(cls, *, generated: NDArray[Any], reference: NDArray[Any]) -> FrechetPair:
        """Project (N, D) generated features on the covariance of (R, D) reference features."""
        generated = np.asarray(generated, dtype=np.float64)
        reference = np.asarray(reference, dtype=np.float64)
        mean = reference.mean(axis=0)
        scaled = (reference - mean) / np.sqrt(len(reference) - 1)
        if len(reference) <= reference.shape[1]:
            factor = scaled.T
        else:
            values, vectors = np.linalg.eigh(scaled.T @ scaled)
            factor = vectors * np.sqrt(np.maximum(values, 0.0))
        # Centred first: a large common mean would eat the digits of the products.
        projected = (generated - mean) @ factor
        return cls(
            generated=generated, projected=projected, mean=mean, trace=float((scaled**2).sum())
        )

    def distance(self, rows: Rows | None = None) -> float:
        """Frechet distance of the chosen rows, at least two of them."""
        chosen = slice(None) if rows is None else rows
        x, y = self.generated[chosen], self.projected[chosen]
        shift = x.mean(axis=0) - self.mean
        spread = x.var(axis=0, ddof=1).sum()
        y = (y - y.mean(axis=0)) / np.sqrt(len(y) - 1)
        gram = y @ y.T if len(y) <= y.shape[1] else y.T @ y
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
        return float(shift @ shift + spread + self.trace - 2.0 * roots.sum())


def frechet_distance(*, generated: NDArray[Any], reference: NDArray[Any]) -> float:
    """Squared Frechet (2-Wasserstein) distance of Gaussians fitted to (N, D) and (R, D) features.

    ``|m_g - m_r|^2 + tr(S_g + S_r - 2 (S_g S_r)^(1/2))`` (Heusel et al., "GANs trained by a two
    time-scale update rule", NeurIPS 2017). Mostly bias while N is not many times D: only
    differences at equal N mean anything. At least two rows a set.
    """
    return FrechetPair.fit(generated=generated, reference=reference).distance()


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """Unbiased squared maximum mean discrepancy and its standard error over generated images."""

    value: float
    standard_error: float


def kernel_distance(*, generated: NDArray[Any], reference: NDArray[Any]) -> KernelDistance:
    """KID on all pairs: MMD^2 with the kernel ``(x.y / D + 1)^3`` of (N, D) and (R, D) features.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018; here the whole U-statistic instead of
    random subsets, so there is no randomness to seed. Unbiased, hence at times below zero. The
    standard error is the delete-one jackknife over generated images with the reference held fixed
    (it is the same for generated, held-out and training images); it is closed in row sums. At least
    two rows a set (the error needs three).
    """
    x = np.asarray(generated, dtype=np.float64)
    y = np.asarray(reference, dtype=np.float64)
    n, r = len(x), len(y)

    def kernel(a: Array, b: Array) -> Array:
        return np.asarray((a @ b.T / a.shape[1] + 1.0) ** 3)

    k_xx = kernel(x, x)
    np.fill_diagonal(k_xx, 0.0)
    k_yy = kernel(y, y)
    within = k_xx.sum(axis=1)
    across = kernel(x, y).mean(axis=1)
    constant = (k_yy.sum() - np.trace(k_yy)) / (r * (r - 1))
    total = within.sum()
    value = total / (n * (n - 1)) + constant - 2.0 * across.mean()
    if n < 3:
        return KernelDistance(value=float(value), standard_error=float("nan"))
    without = (total - 2.0 * within) / ((n - 1) * (n - 2))
    without = without - 2.0 * (across.sum() - across) / (n - 1)
    variance = (n - 1) / n * ((without - without.mean()) ** 2).sum()
    return KernelDistance(value=float(value), standard_error=float(np.sqrt(variance)))


def pairwise_distances(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """(N, D) and (R, D) to (N, R) Euclidean distances; equal rows are at exactly 0.

    ``|a|^2 + |b|^2 - 2 a.b`` cancels to noise for equal rows; what is below the rounding of the
    squares is 0, so that copies lie *inside* balls of radius 0.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)
    distances = squares - 2.0 * (a @ b.T)
    distances[distances < 1e-12 * squares] = 0.0
    return np.asarray(np.sqrt(distances))


@dataclass(frozen=True, kw_only=True)
class ManifoldPair:
    """Distances inside and between two sets of features, ready for many subsets.

    Attributes:
        generated: (N, N) distances between generated images.
        between: (N, R) distances from generated to reference images.
        radii: (R,) distance of each reference image to its k-th nearest other.
        nearest_k: k.
    """

    generated: Array
    between: Array
    radii: Array
    nearest_k: int

    @classmethod
    def fit(
        cls, *, generated: NDArray[Any], reference: NDArray[Any], nearest_k: int
    ) -> ManifoldPair:
        """All distances of (N, D) generated and (R, D) reference features; N, R > nearest_k."""
        return cls(
            generated=pairwise_distances(generated, generated),
            between=pairwise_distances(generated, reference),
            radii=_kth_other(pairwise_distances(reference, reference), nearest_k),
            nearest_k=nearest_k,
        )

    def measure(self, rows: Rows | None = None) -> dict[str, float]:
        """Precision, recall, density and coverage of the chosen rows; NaN for k rows or fewer."""
        rows = np.arange(len(self.generated)) if rows is None else rows
        if len(rows) <= self.nearest_k:
            return dict.fromkeys(("precision", "recall", "density", "coverage"), float("nan"))
        between = self.between[rows]
        radii = _kth_other(self.generated[np.ix_(rows, rows)], self.nearest_k)
        inside = between <= self.radii
        return {
            "precision": float(inside.any(axis=1).mean()),
            "recall": float((between <= radii[:, None]).any(axis=0).mean()),
            "density": float(inside.sum(axis=1).mean() / self.nearest_k),
            "coverage": float((between.min(axis=0) <= self.radii).mean()),
        }


def _kth_other(distances: Array, k: int) -> Array:
    """Distance of every row to its k-th nearest other (the nearest is the row itself)."""
    return np.asarray(np.partition(distances, k, axis=1)[:, k])


def prdc(
    *, generated: NDArray[Any], reference: NDArray[Any], nearest_k: int = 5
) -> dict[str, float]:
    """Precision, recall (Kynkaanniemi et al. 2019), density, coverage (Naeem et al., ICML 2020).

    Precision: share of generated images inside the reference manifold, the union of balls around
    reference images that reach their k-th nearest other. Recall: share of reference images inside
    the generated manifold. Balls are closed, as in the first paper, so a corpus of duplicates
    contains its own copies; where no distance equals a radius, the numbers are those of the PyPI
    package ``prdc``.
    """
    return ManifoldPair.fit(generated=generated, reference=reference, nearest_k=nearest_k).measure()


# --------------------------------------------------------------------------------------- sequences


def novelty_curve(
    suffix_lengths_BT: NDArray[Any], *, max_n: int, positions: NDArray[Any] | None = None
) -> Array:
    """(B, max_n): share of every image's n-grams that the training corpus does not hold.

    ``nov(n) = (#{i: NSL_i < n} - min(n - 1, len)) / (len - min(n - 1, len))``, NSL_i the length of
    the longest suffix of ``image[..i]`` found in the corpus (Merrill, Smith, Elazar, "Evaluating
    n-gram novelty of language models using Rusty-DAWG", EMNLP 2024). The subtracted positions are
    the first n - 1, which end no n-gram; they are left out here position by position.

    Args:
        suffix_lengths_BT: NSL of every position.
        max_n: largest n.
        positions: positions at which an n-gram may end (those of one level); default: all.

    Returns:
        Column n - 1 holds n; NaN where no n-gram can end.
    """
    lengths = np.asarray(suffix_lengths_BT)
    ends = np.arange(lengths.shape[1]) if positions is None else np.asarray(positions)
    curve = np.full((len(lengths), max_n), np.nan)
    for n in range(1, max_n + 1):
        if len(columns := ends[ends >= n - 1]):
            curve[:, n - 1] = (lengths[:, columns] < n).mean(axis=1)
    return curve


def length_edges(maximum: int) -> NDArray[np.int64]:
    """Left edges of half-octave bins of lengths: 0, 1, 2, 3, 4, 6, 8, 12 ... up to ``maximum``.

    >>> length_edges(20).tolist()
    [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """
    edges = [0, 1]
    while edges[-1] < maximum:
        edges.append(edges[-1] + (1 << max(0, edges[-1].bit_length() - 2)))
    return np.array([edge for edge in edges if edge <= maximum or edge < 2], dtype=np.int64)


def length_histogram(lengths: NDArray[Any], edges: NDArray[Any]) -> Array:
    """(len(edges),) share of ``lengths`` in each bin [edge, next edge); the last bin is open.

    >>> length_histogram(np.array([0, 1, 7, 99]), np.array([0, 1, 2, 4])).tolist()
    [0.25, 0.25, 0.0, 0.5]
    """
    bins = np.searchsorted(edges, np.asarray(lengths).ravel(), side="right") - 1
    counts = np.bincount(bins, minlength=len(edges))
    return np.asarray(counts / max(1, counts.sum()))
