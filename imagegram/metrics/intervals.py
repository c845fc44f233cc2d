"""95 % intervals, and the cases in which no interval can be given.

Tokens of one image depend on each other, so images are resampled, never tokens. Rates of whole
images get Clopper-Pearson, quantiles order statistics. Distances of whole sets get a jackknife: a
bootstrap repeats rows, which adds the small-sample bias of a Frechet distance a second time and can
exclude its own estimate.

>>> round(clopper_pearson(successes=0, trials=1000).high, 5)
0.00368
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import Advance, over_tiles
from imagegram.records import Measured

CONFIDENCE: Final = 0.95
#: Fewest images for a percentile bootstrap; with fewer it covers far less than it claims.
MIN_IMAGES: Final = 10
_RESAMPLES: Final = 2000
_RESAMPLE_BLOCK: Final = 100


def clopper_pearson(*, successes: int, trials: int) -> Measured:
    """Return a rate with its exact two-sided interval (Clopper and Pearson, Biometrika 1934)."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    failures = trials - successes
    low = float(beta.ppf(tail, successes, failures + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, failures)) if failures else 1.0
    return Measured(value=successes / trials, low=low, high=high)


def mean_over_images(values_B: NDArray[np.float64], *, seed: int) -> Measured:
    """Return the mean of one number per image, with a percentile bootstrap over images.

    Args:
        values_B: one number an image.
        seed: seed of the resampling.

    Returns:
        No interval for fewer than :data:`MIN_IMAGES` images, nor when all are equal: the bootstrap
        would then claim certainty.
    """
    mean = float(values_B.mean())
    if len(values_B) < MIN_IMAGES or np.ptp(values_B) == 0:
        return Measured(value=mean)
    rng = np.random.Generator(np.random.Philox(key=seed))
    means = [
        values_B[rng.integers(len(values_B), size=(_RESAMPLE_BLOCK, len(values_B)))].mean(axis=1)
        for _ in range(_RESAMPLES // _RESAMPLE_BLOCK)  # in blocks: memory stays bounded
    ]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Measured(value=mean, low=float(low), high=float(high))


def ratio_over_images(
    parts_B: NDArray[np.float64], wholes_B: NDArray[np.float64], *, seed: int
) -> Measured:
    """Return the ratio of two sums over images, with a percentile bootstrap over images.

    Args:
        parts_B: counted part of each image.
        wholes_B: whole of each image; 0 for images without anything to count, not for all.
        seed: seed of the resampling.

    Returns:
        ``sum parts / sum wholes``; no interval for fewer than :data:`MIN_IMAGES` images that have
        something, nor when all their shares are equal.
    """
    used = wholes_B > 0
    parts, wholes = parts_B[used], wholes_B[used]
    ratio = float(parts.sum() / wholes.sum())
    if len(parts) < MIN_IMAGES or np.ptp(parts / wholes) == 0:
        return Measured(value=ratio)
    rng = np.random.Generator(np.random.Philox(key=seed))
    ratios = []
    for _ in range(_RESAMPLES // _RESAMPLE_BLOCK):
        rows = rng.integers(len(parts), size=(_RESAMPLE_BLOCK, len(parts)))
        ratios.append(parts[rows].sum(axis=1) / wholes[rows].sum(axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Measured(value=ratio, low=float(low), high=float(high))


def quantile_over_images(
    values_B: NDArray[np.float64], quantile: float, *, lowest: float, highest: float
) -> Measured:
    """Return a quantile of one number per image, with its interval by order statistics.

    The ends are two of the sorted values. Which ones follows from the binomial number of images
    below the quantile, whatever the numbers' distribution: it covers at least 95 % at every N
    (Conover, Practical Nonparametric Statistics, 3.2). A bootstrap of the 95th percentile covers
    83 % at 64 images and 92 % at 200.

    Args:
        values_B: one number an image, at least one.
        quantile: 0 ... 1.
        lowest: smallest possible number, the lower end when no order statistic can be it.
        highest: largest possible number, likewise.
    """
    from scipy.stats import binom

    tail = (1 - CONFIDENCE) / 2
    ranks = binom.ppf([tail, 1 - tail], len(values_B), quantile)
    ordered = np.concatenate([[lowest], np.sort(values_B), [highest]])
    return Measured(
        value=float(np.quantile(values_B, quantile)),
        low=float(ordered[int(ranks[0])]),
        high=float(ordered[int(ranks[1]) + 1]),
    )


def check_blocks(name: str, blocks: int) -> None:
    """Refuse a jackknife of fewer than two blocks.

    Args:
        name: name of the metric.
        blocks: its ``jackknife_blocks``.

    Raises:
        ConfigError: saying what to use.
    """
    if blocks < 2:
        raise ConfigError(f"metric.{name}.jackknife_blocks is {blocks}; use 2 or more")


def delete_block_jackknife(
    statistics: Callable[[int | None], NDArray[np.float64]],
    *,
    num_images: int,
    blocks: int = 20,
    workers: int = 1,
    advance: Advance = lambda steps: None,
) -> list[Measured]:
    """Return statistics of a set of images with delete-block jackknife intervals.

    ``SE^2 = (K - 1) / K * sum_k (theta_k - mean theta)^2`` over K estimates, each without one block
    of images (Kuensch, Annals of Statistics 1989); the interval is ``value +- t * SE`` with
    Student's t of K - 1 degrees of freedom. Image i is in block ``i % blocks``.

    Args:
        statistics: returns (M,) numbers for all images (None), or for all but those of a block.
        num_images: number of images.
        blocks: K.
        workers: threads that compute the statistics.
        advance: called when another of the K + 1 (or 1) subsets is done.

    Returns:
        M measured numbers; without interval where a block would hold fewer than two images, or an
        estimate is undefined.
    """
    from scipy.stats import t

    subsets: list[int | None] = [None]
    if num_images >= 2 * blocks:
        subsets += range(blocks)
    results = []
    for result in over_tiles(statistics, subsets, workers=workers):
        results.append(result)
        advance(1)
    values, *others = results
    if not others:
        return [Measured(value=float(value)) for value in values]
    estimates = np.array(others)
    variances = (blocks - 1) / blocks * ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0)
    halves = t.ppf((1 + CONFIDENCE) / 2, blocks - 1) * np.sqrt(variances)
    return [
        Measured(value=float(value), low=float(value - half), high=float(value + half))
        if np.isfinite(half) and half > 0
        else Measured(value=float(value))
        for value, half in zip(values, halves, strict=True)
    ]
