"""Sweep: the jobs that were read, their axes, which jobs count, and which scores are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imagegram.records import ScoreInfo
from imagegram.sweeps.aggregate import Configuration, configurations, one_job_a_seed
from imagegram.sweeps.axes import Axis, find_axes
from imagegram.sweeps.drawings import (
    COPYING,
    QUALITY,
    Frontier,
    Knob,
    choose,
    frontiers,
    headline_scores,
    infos_of,
    knob,
)
from imagegram.sweeps.jobs import Job, read_jobs
from imagegram.sweeps.recipes import RecipeGroup, split_by_recipe
from imagegram.sweeps.scales import find_scales
from imagegram.sweeps.tables import read_results


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Jobs of one or several multiruns, ready to be compared.

    Attributes:
        paths: folders and files on the command line.
        jobs: all jobs, including failed and unfinished ones.
        x, y: the scores of the frontier; None when no job has such a score.
    """

    paths: tuple[Path, ...]
    jobs: tuple[Job, ...]
    x: ScoreInfo | None
    y: ScoreInfo | None

    @cached_property
    def all_axes(self) -> tuple[Axis, ...]:
        """Axes in which all jobs differ, including jobs without scores."""
        return find_axes(self.jobs)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Axes in which the counted jobs differ."""
        return find_axes(self.counted)

    @cached_property
    def counted(self) -> tuple[Job, ...]:
        """Completed jobs, one per configuration and seed."""
        return one_job_a_seed(self.jobs, self.all_axes)[0]

    @cached_property
    def repeated(self) -> tuple[Job, ...]:
        """Completed jobs that repeat the configuration and seed of another job."""
        return one_job_a_seed(self.jobs, self.all_axes)[1]

    @property
    def unfinished(self) -> tuple[Job, ...]:
        """Jobs that failed, were killed, are still running or cannot be read."""
        return tuple(job for job in self.jobs if not job.is_completed)

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """Counted jobs, grouped over seeds."""
        return configurations(self.counted, self.axes)

    @cached_property
    def infos(self) -> dict[str, ScoreInfo]:
        """Descriptions of all scores, by name."""
        return infos_of(self.jobs)

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of all scores."""
        return tuple(self.infos)

    @cached_property
    def frontiers(self) -> tuple[Frontier, ...]:
        """One frontier per recipe; empty without a copying and a quality score."""
        if self.x is None or self.y is None:
            return ()
        return frontiers(self.counted, self.axes, self.x, self.y)

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """Curves over every axis of numbers."""
        scores = headline_scores(self.infos, self.x, self.y)
        scales = find_scales(self.axes, self.counted)
        found = (knob(self.counted, self.axes, scale, scores) for scale in scales)
        return tuple(each for each in found if each.panels or each.refusals)

    @cached_property
    def mixed(self) -> dict[str, tuple[RecipeGroup, ...]]:
        """Scores whose recipe differs between jobs, with the groups of comparable jobs."""
        groups = {score: split_by_recipe(self.counted, [score]) for score in self.scores}
        return {score: parts for score, parts in groups.items() if len(parts) > 1}


def read_sweep(paths: Sequence[Path], *, x: str = "", y: str = "") -> Sweep:
    """Read job folders and choose what the frontier shows.

    Args:
        paths: folders of multiruns, single run folders, or results.csv files.
        x: a score; empty for the first in rank of the copying scores.
        y: a score; empty for the first in rank of the quality scores.

    Raises:
        ConfigError: a folder without jobs, or a score that no job has; says what there is.
    """
    files = [path for path in paths if path.is_file()]
    jobs = read_jobs([path for path in paths if path not in files])
    jobs += tuple(job for path in files for job in read_results(path))
    infos = infos_of(jobs)
    return Sweep(
        paths=tuple(paths),
        jobs=jobs,
        x=choose(x, "x", COPYING, infos),
        y=choose(y, "y", QUALITY, infos),
    )
