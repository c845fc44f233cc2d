"""Configurations: groups of jobs that differ only in their seed, with means over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagegram.intervals import CONFIDENCE
from imagegram.stages.evaluate import Score
from imagegram.sweeps.axes import Axis, axis_values
from imagegram.sweeps.jobs import Job, Scalar
from imagegram.sweeps.recipes import split_by_recipe


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One score of a configuration.

    Attributes:
        value: mean over seeds.
        low, high: 95 % interval, or None, see :func:`estimate`.
        floor, ceiling: means over seeds, of held-out and of training images.
        num_seeds: number of seeds with a value.
    """

    value: float
    low: float | None
    high: float | None
    floor: float | None
    ceiling: float | None
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A group of jobs that differ only in their seed.

    Attributes:
        at: key of an axis -> value of the jobs on it, in the order of the axes.
        jobs: one job per seed.
    """

    at: Mapping[str, Scalar]
    jobs: tuple[Job, ...]


def configurations(jobs: Sequence[Job], axes: Sequence[Axis]) -> tuple[Configuration, ...]:
    """Group jobs by their values on the axes, in the order of the axes' values."""
    groups: dict[tuple[Scalar, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(axis_values(job, axes), []).append(job)
    ranks = [{value: rank for rank, value in enumerate(axis.values)} for axis in axes]
    ordered = sorted(groups, key=lambda at: [r[v] for r, v in zip(ranks, at, strict=True)])
    keys = [axis.key for axis in axes]
    return tuple(
        Configuration(at=dict(zip(keys, values, strict=True)), jobs=tuple(groups[values]))
        for values in ordered
    )


def one_job_a_seed(
    jobs: Sequence[Job], axes: Sequence[Axis]
) -> tuple[tuple[Job, ...], tuple[Job, ...]]:
    """Split completed jobs into one per configuration and seed, and earlier repetitions."""
    completed = [job for job in jobs if job.is_completed]
    last = {(axis_values(job, axes), job.seed): job.folder for job in completed}
    kept = set(last.values())
    return (
        tuple(job for job in completed if job.folder in kept),
        tuple(job for job in completed if job.folder not in kept),
    )


def estimate(jobs: Sequence[Job], score: str) -> Estimate | None:
    """Return the mean of a score over jobs that differ only in their seed.

    The interval is ``mean +- t * s / sqrt(n)`` with Student's t of n - 1 degrees of freedom over n
    seeds. For one seed it is the job's own interval. If all seeds agree, where t would claim
    certainty, it is the hull of the jobs' intervals.

    Returns:
        The estimate, or None when no job has a value.

    Raises:
        ValueError: the jobs' recipes differ, so that a mean would mix them.
    """
    groups = split_by_recipe(jobs, [score])
    if len(groups) > 1:
        raise ValueError(f"recipes of {score} differ: {'; '.join(g.text for g in groups)}")
    if not groups:
        return None
    parts = [job.scores[score] for job in groups[0].jobs]
    values = [part.value for part in parts if part.value is not None]
    low, high = _interval(values) or _hull(parts)
    return Estimate(
        value=statistics.fmean(values),
        low=low,
        high=high,
        floor=_mean([part.floor for part in parts]),
        ceiling=_mean([part.ceiling for part in parts]),
        num_seeds=len(values),
    )


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which points are Pareto-optimal: no other is as low in both and lower in one.

    >>> pareto([(0.0, 9.0), (0.5, 5.0), (0.6, 5.0), (1.0, 1.0)])
    [True, True, False, True]
    """
    order = sorted(range(len(points)), key=lambda i: points[i])
    optimal = [False] * len(points)
    best, best_x = math.inf, -math.inf
    for i in order:
        x, y = points[i]
        if y < best or (y == best and x == best_x):
            optimal[i], best, best_x = True, y, x
    return optimal


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 2 or min(values) == max(values):
        return None
    from scipy.stats import t

    spread = statistics.stdev(values) / math.sqrt(len(values))
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * spread
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _hull(parts: Sequence[Score]) -> tuple[float | None, float | None]:
    lows = [part.low for part in parts if part.low is not None]
    highs = [part.high for part in parts if part.high is not None]
    return (min(lows), max(highs)) if lows and highs else (None, None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
