"""The mathematics of the metrics: pure functions of arrays, no files, no networks.

Sets of images come by keyword as ``generated=`` and ``reference=``: most of these are asymmetric,
and swapped sets silently turn precision into recall. All arithmetic is float64.

>>> x = np.random.default_rng(0).normal(size=(50, 4))
>>> abs(frechet_distance(generated=x, reference=x)) < 1e-6
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import Advance, one_thread_each, over_tiles, row_tiles
from imagegram.records import Tokens, row_sizes

Array = NDArray[np.float64]
#: Images of a tile.
_ROWS: Final = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class FrechetPair:
    """Generated features and a Gaussian fitted to the reference, prepared for many subsets.

    With ``F F^T = S_r`` the non-zero eigenvalues of ``S_g S_r`` are those of the covariance of
    ``generated @ F``, and the smaller of the n x n and the r x r form is decomposed: exact also
    where N < D, when a covariance has no full rank. Sums over all images are kept, so that the cost
    of a subset depends only on the images that it leaves out.

    Attributes:
        generated: (N, D) features; image i is in block ``i % blocks``.
        blocks: K.
        centre: (D,) their mean.
        factor: (D, M) F, where M is the smaller of D and R.
        shift: (D,) from the reference's mean to theirs.
        trace: trace of the reference's covariance.
        gram: (M, M) sum of squares of the projected features; None where N is at most M.
        squares: sum of squares of the centred features.
    """

    generated: NDArray[Any]
    blocks: int
    centre: Array
    factor: Array
    shift: Array
    trace: float
    gram: Array | None
    squares: float

    @classmethod
    def fit(
        cls,
        *,
        generated: NDArray[Any],
        reference: NDArray[Any],
        blocks: int = 1,
        workers: int = 1,
    ) -> FrechetPair:
        """Fit (N, D) generated and (R, D) reference features; takes 8 bytes x (R + 5 D) x D."""
        reference = np.asarray(reference, dtype=np.float64)
        mean = reference.mean(axis=0)
        scaled = (reference - mean) / np.sqrt(len(reference) - 1)
        if len(reference) <= reference.shape[1]:
            factor = scaled.T
        else:
            with one_thread_each():
                values, vectors = np.linalg.eigh(scaled.T @ scaled)
            factor = vectors * np.sqrt(np.maximum(values, 0.0))
        centre = generated.mean(axis=0, dtype=np.float64)
        gram, squares = None, 0.0
        if len(generated) > factor.shape[1]:
            gram = np.zeros((factor.shape[1],) * 2)

        def add(rows: slice) -> tuple[Array | None, float]:
            # Centred first: a large common mean would cost the products their precision.
            x = generated[rows] - centre
            y = None if gram is None else x @ factor
            return None if y is None else y.T @ y, float((x**2).sum())

        for products, own in over_tiles(add, row_tiles(len(generated), _ROWS), workers=workers):
            squares += own
            if gram is not None:
                gram += products
        return cls(
            generated=generated,
            blocks=blocks,
            centre=centre,
            factor=factor,
            shift=centre - mean,
            trace=float((scaled**2).sum()),
            gram=gram,
            squares=squares,
        )

    def distance(self, without: int | None = None) -> float:
        """Return the Frechet distance of all images, or of at least two without a block."""
        left_out = slice(0, 0) if without is None else slice(without, None, self.blocks)
        x = self.generated[left_out] - self.centre
        count = len(self.generated) - len(x)
        # Sums over the rest follow from the left-out images: all centred features sum to 0.
        mean = -x.sum(axis=0) / count
        squares = self.squares - float((x**2).sum())
        if self.gram is None or count <= len(self.gram):
            gram = self._small_gram(without)
        else:
            y, moved = x @ self.factor, mean @ self.factor
            gram = self.gram - y.T @ y - count * np.outer(moved, moved)
        spread = (squares - count * float(mean @ mean)) / (count - 1)
        shift = self.shift + mean
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(gram / (count - 1)), 0.0))
        return float(shift @ shift + spread + self.trace - 2.0 * roots.sum())

    def _small_gram(self, without: int | None) -> Array:
        """Return (n, n) products of the projected features of n <= M images, around their mean."""
        kept = np.arange(len(self.generated)) % self.blocks != without
        y = (self.generated[kept] - self.centre) @ self.factor
        y -= y.mean(axis=0)
        return np.asarray(y @ y.T if len(y) <= y.shape[1] else y.T @ y)


def frechet_distance(*, generated: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the squared Frechet distance of Gaussians fitted to (N, D) and (R, D) features.

    ``|m_g - m_r|^2 + tr(S_g + S_r - 2 (S_g S_r)^(1/2))`` (Heusel et al., "GANs trained by a two
    time-scale update rule", NeurIPS 2017). Mostly bias while N is not many times D: only
    differences at equal N mean anything. At least two rows a set.
    """
    return FrechetPair.fit(generated=generated, reference=reference).distance()


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """Unbiased squared maximum mean discrepancy and its standard error over generated images.

    Attributes:
        value: the distance.
        standard_error: its jackknife standard error; NaN: there are too few images.
        num_left_out: images, or documents, that the jackknife left out one by one.
    """

    value: float
    standard_error: float
    num_left_out: int


def kernel_distance(
    *,
    generated: NDArray[Any],
    reference: NDArray[Any],
    documents: NDArray[np.int64] | None = None,
    workers: int = 1,
    advance: Advance = lambda steps: None,
) -> KernelDistance:
    """Return KID on all pairs of (N, D) and (R, D) features: MMD^2, kernel ``(x.y / D + 1)^3``.

    Binkowski et al., "Demystifying MMD GANs", ICLR 2018; here the whole U-statistic instead of
    random subsets, so there is no randomness to seed. Unbiased, hence at times below zero. The
    standard error is the delete-one jackknife over generated images with the reference held fixed
    (it is the same for generated, held-out and training images); it is closed in row sums. At least
    two rows a set (the error needs three). Takes the time of (N + R)^2 D / 2 multiplications, and
    40 MB a worker.

    Args:
        generated: (N, D) features.
        reference: (R, D) features.
        documents: (N,) document of each generated row, which are left out together.
        workers: threads.
        advance: called with the number of further images (of N + R) that are compared with their
            own set.
    """
    n, r = len(generated), len(reference)
    across = np.empty(n)

    def compare(rows: slice) -> tuple[slice, Array]:
        tiles = row_tiles(r, _ROWS)
        sums = [_kernel(generated[rows], reference[part]).sum(axis=1) for part in tiles]
        return rows, np.sum(sums, axis=0)

    for rows, sums in over_tiles(compare, row_tiles(n, _ROWS), workers=workers):
        across[rows] = sums / r
    within = _kernel_sums(generated, workers, advance)
    constant = _kernel_sums(reference, workers, advance).sum() / (r * (r - 1))
    total = within.sum()
    value = total / (n * (n - 1)) + constant - 2.0 * across.mean()
    groups = np.arange(n) if documents is None else np.unique(documents, return_inverse=True)[1]
    groups = groups.reshape(-1)
    sizes = np.bincount(groups)
    left, count = n - sizes, len(sizes)
    if count < 2 or left.min() < 2:
        return KernelDistance(value=float(value), standard_error=float("nan"), num_left_out=count)
    # Pairs inside what is left out stand in two of its row sums.
    inside = np.zeros(count)
    for group in np.flatnonzero(sizes > 1):
        products = _kernel(*[generated[groups == group]] * 2)
        inside[group] = products.sum() - np.trace(products)
    without = (total - 2.0 * np.bincount(groups, within) + inside) / (left * (left - 1))
    without = without - 2.0 * (across.sum() - np.bincount(groups, across)) / left
    variance = (count - 1) / count * ((without - without.mean()) ** 2).sum()
    return KernelDistance(
        value=float(value), standard_error=float(np.sqrt(variance)), num_left_out=count
    )


def _kernel(a: NDArray[Any], b: NDArray[Any]) -> Array:
    """Return the (n, m) kernel of two tiles of features."""
    products = np.asarray(a, dtype=np.float64) @ np.asarray(b, dtype=np.float64).T
    products /= a.shape[1]
    products += 1.0
    cubes = products * products
    cubes *= products
    return np.asarray(cubes)


def _kernel_sums(features: NDArray[Any], workers: int, advance: Advance) -> Array:
    """Return the (N,) sums of the kernel of every image with all others; each pair once."""
    tiles = row_tiles(len(features), _ROWS)
    pairs = [(a, b) for i, a in enumerate(tiles) for b in tiles[i:]]
    sums = np.zeros(len(features))

    def compare(pair: tuple[slice, slice]) -> tuple[slice, slice, Array, Array]:
        a, b = pair
        products = _kernel(features[a], features[b])
        if a == b:
            np.fill_diagonal(products, 0.0)
        return a, b, products.sum(axis=1), products.sum(axis=0)

    for a, b, of_a, of_b in over_tiles(compare, pairs, workers=workers):
        sums[a] += of_a
        if a != b:
            sums[b] += of_b
        if b == tiles[-1]:
            advance(a.stop - a.start)
    return sums


# --------------------------------------------------------------------------------------- sequences


def novelty_curve(
    suffix_lengths_BT: NDArray[Any],
    *,
    max_n: int,
    positions: NDArray[Any] | None = None,
    sizes_B: NDArray[np.int64] | None = None,
) -> Array:
    """Return (B, max_n) shares of every image's n-grams that the training corpus lacks.

    ``nov(n) = (#{i: NSL_i < n} - min(n - 1, len)) / (len - min(n - 1, len))``, NSL_i the length of
    the longest suffix of ``image[..i]`` found in the corpus (Merrill, Smith, Elazar, "Evaluating
    n-gram novelty of language models using Rusty-DAWG", EMNLP 2024). The subtracted positions are
    the first n - 1, which end no n-gram; they are left out here position by position.

    Args:
        suffix_lengths_BT: NSL of every position.
        max_n: largest n.
        positions: positions at which an n-gram may end (those of one level); default: all.
        sizes_B: number of written positions of every row, from the left; None: all.

    Returns:
        Column n - 1 is for n-grams of length n; NaN where no n-gram can end.
    """
    lengths = np.asarray(suffix_lengths_BT)
    ends = np.arange(lengths.shape[1]) if positions is None else np.asarray(positions)
    if sizes_B is not None and (sizes_B < lengths.shape[1]).any():
        rows = zip(lengths, sizes_B, strict=True)
        curves = [_novelty(row[None], ends[ends < size], max_n) for row, size in rows]
        return np.concatenate(curves) if curves else np.empty((0, max_n))
    return _novelty(lengths, ends, max_n)


def _novelty(lengths: NDArray[Any], ends: NDArray[Any], max_n: int) -> Array:
    """Return the :func:`novelty_curve` of n-grams that end at the same positions in all rows."""
    # Fewer n-grams end at the first positions: these are counted one by one.
    early, late = ends[ends < max_n], ends[ends >= max_n]
    shorter = np.zeros((len(lengths), max_n), dtype=np.int64)
    columns: Any = late
    if late.size and np.array_equal(late, np.arange(late[0], late[0] + late.size)):
        columns = slice(int(late[0]), int(late[0]) + late.size)  # a view of a run, not a copy
    for row, counts in zip(lengths, shorter, strict=True):
        cut = np.minimum(row[columns], max_n)
        counts[:] = np.bincount(cut, minlength=max_n + 1)[:max_n].cumsum()
    curve = np.full((len(lengths), max_n), np.nan)
    for n in range(1, max_n + 1):
        there = early[early >= n - 1]
        if there.size + late.size:
            unseen = shorter[:, n - 1] + (lengths[:, there] < n).sum(axis=1)
            curve[:, n - 1] = unseen / (there.size + late.size)
    return curve


def length_edges(maximum: int) -> NDArray[np.int64]:
    """Return left edges of half-octave bins of lengths: 0, 1, 2, 3, 4, 6, 8, ... ``maximum``.

    >>> length_edges(20).tolist()
    [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """
    edges = [0, 1]
    while edges[-1] < maximum:
        edges.append(edges[-1] + (1 << max(0, edges[-1].bit_length() - 2)))
    return np.array([edge for edge in edges if edge <= maximum or edge < 2], dtype=np.int64)


def length_histogram(lengths: NDArray[Any], edges: NDArray[Any]) -> Array:
    """Return the (len(edges),) share of ``lengths`` in each bin; the last bin is open.

    >>> length_histogram(np.array([0, 1, 7, 99]), np.array([0, 1, 2, 4])).tolist()
    [0.25, 0.25, 0.0, 0.5]
    """
    counts = length_counts(lengths, edges)
    return np.asarray(counts / max(1, counts.sum()))


def length_counts(lengths: NDArray[Any], edges: NDArray[Any]) -> NDArray[np.int64]:
    """Count (B, T) ``lengths`` in each bin, (len(edges),), as :func:`length_histogram`."""
    counts = np.zeros(len(edges), dtype=np.int64)
    for row in np.atleast_2d(lengths):  # row by row: memory stays bounded
        bins = np.searchsorted(edges, row, side="right") - 1
        counts += np.bincount(bins, minlength=len(edges))
    return counts


def mean_of_defined(values: NDArray[Any], *, axis: int) -> Array:
    """Return the mean along an axis without NaNs; NaN where all are NaN.

    >>> mean_of_defined(np.array([[1.0, np.nan], [3.0, np.nan]]), axis=0).tolist()
    [2.0, nan]
    """
    defined = ~np.isnan(values)
    if defined.all():
        return np.asarray(values.mean(axis=axis))
    sums, counts = np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))


def mean_of_written(
    values_BT: NDArray[Any], sizes_B: NDArray[np.int64], *, positions: slice = slice(None)
) -> Array:
    """Return the (B,) mean over the written positions of every row, 0 where none are written.

    Args:
        values_BT: value of every position.
        sizes_B: number of written positions of each row, from the left; the rest is padding.
        positions: positions to average.

    >>> mean_of_written(np.array([[1, 3, 8], [4, 2, 9]]), np.array([2, 3])).tolist()
    [2.0, 5.0]
    """
    at_T = np.arange(values_BT.shape[1])[positions]
    written_BT = at_T < sizes_B[:, None]
    sums_B = np.where(written_BT, values_BT[:, positions], 0).sum(axis=1, dtype=np.float64)
    return np.asarray(sums_B / np.maximum(written_BT.sum(axis=1), 1))


def written_counts(
    lengths_BT: NDArray[Any],
    sizes_B: NDArray[np.int64],
    edges: NDArray[Any],
    *,
    positions: slice,
) -> NDArray[np.int64]:
    """Count the lengths at written positions in each bin, (len(edges),).

    Args:
        lengths_BT: length at every position; 0 where nothing is written.
        sizes_B: number of written positions of each row, from the left.
        edges: left edges of the bins, the first is 0.
        positions: positions to count.
    """
    counts = length_counts(lengths_BT[:, positions], edges)
    at_T = np.arange(lengths_BT.shape[1])[positions]
    counts[0] -= int((at_T >= sizes_B[:, None]).sum())
    return counts


def num_steps(tokens_BT: Tokens) -> NDArray[np.int64]:
    """Return the (B,) steps of each row: its tokens, and the separator where it ends early."""
    return np.minimum(row_sizes(tokens_BT) + 1, tokens_BT.shape[1])
