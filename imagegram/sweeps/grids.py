"""Tables of the page: all jobs, and configurations with means over seeds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

from imagegram.records import ScoreInfo
from imagegram.report.tables import by_group
from imagegram.sweeps.aggregate import Configuration, Estimate, configurations, estimate
from imagegram.sweeps.axes import Axis, show
from imagegram.sweeps.jobs import Job, Scalar
from imagegram.sweeps.recipes import recipe_of
from imagegram.sweeps.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading."""

    title: Markup
    meaning: str = ""
    is_text: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its text, sort key, tooltip and number of columns."""

    text: str
    sort: str = ""
    small: str = ""
    title: str = ""
    is_text: bool = False
    span: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: its cells and its CSS class."""

    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A heading over several columns."""

    title: str
    width: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A sortable table; the rows of ``foot`` are not sorted."""

    groups: tuple[Group, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    foot: tuple[Row, ...] = field(default=())


def jobs_grid(sweep: Sweep) -> Grid:
    """Return the table of jobs: values on the axes, scores and seconds."""
    scores = _in_groups(sweep)
    recipes = _recipe_texts(sweep)
    has_status = bool(sweep.unfinished or sweep.repeated)
    lead = [_column("job"), *map(_axis_column, sweep.all_axes), _column("seed")]
    lead += [_column("status", is_text=True)] * has_status
    lead += [_column("recipe", is_text=True)] * bool(recipes)
    rows = []
    for number, job in enumerate(sweep.jobs):
        cells = [Cell(text=_short_name(job, sweep), sort=str(number), title=job.name)]
        cells += [_value_cell(job.config.get(axis.key), axis) for axis in sweep.all_axes]
        cells.append(_value_cell(job.seed))
        status = "repeated" if job in sweep.repeated else job.outcome
        cells += [Cell(text=status, sort=status, is_text=True)] * has_status
        recipe = recipes.get(job.name, "")
        cells += [Cell(text=recipe, sort=recipe, is_text=True)] * bool(recipes)
        cells += [_score_cell(job, score) for score in scores]
        cells.append(Cell(text=f"{job.duration_s:.1f}", sort=str(job.duration_s)))
        rows.append(Row(cells=tuple(cells), mark="" if job.is_completed else "failed"))
    return Grid(
        groups=_groups(len(lead), scores, tail=1),
        columns=(*lead, *map(_score_column, scores), _column("seconds")),
        rows=tuple(rows),
        foot=_real_rows(sweep.counted, scores, len(lead), tail=1),
    )


def means_grid(sweep: Sweep) -> Grid | None:
    """Return the table of means per configuration and recipe; None if all have one seed."""
    if all(len(found.jobs) < 2 for found in sweep.configurations):
        return None
    scores = _in_groups(sweep)
    recipes = _recipe_texts(sweep)
    lead = [_axis_column(axis) for axis in sweep.axes] or [_column("configuration")]
    lead += [_column("recipe", is_text=True)] * bool(recipes) + [_column("seeds")]
    rows = []
    for jobs in _same_recipes(sweep):
        for found in configurations(jobs, sweep.axes):
            cells = [_value_cell(found.at[axis.key], axis) for axis in sweep.axes]
            cells = cells or [Cell(text="the only one")]
            text = recipes.get(found.jobs[0].name, "")
            cells += [Cell(text=text, sort=text, is_text=True)] * bool(recipes)
            cells.append(_seeds_cell(found))
            cells += [_estimate_cell(estimate(found.jobs, score.name), score) for score in scores]
            rows.append(Row(cells=tuple(cells)))
    return Grid(
        groups=_groups(len(lead), scores, tail=0),
        columns=(*lead, *map(_score_column, scores)),
        rows=tuple(rows),
        foot=_real_rows(sweep.counted, scores, len(lead), tail=0),
    )


def _in_groups(sweep: Sweep) -> list[ScoreInfo]:
    """Sort scores by the groups of the report, keeping their order within a group."""
    groups = by_group(sweep.scores, sweep.infos)
    return [info for members in groups.values() for info in members]


def _groups(lead: int, scores: Sequence[ScoreInfo], *, tail: int) -> tuple[Group, ...]:
    widths = Counter(info.group for info in scores)
    groups = [Group(title="", width=lead)]
    groups += [Group(title=group.capitalize(), width=width) for group, width in widths.items()]
    return tuple(groups + [Group(title="", width=tail)] * bool(tail))


def _recipe_texts(sweep: Sweep) -> dict[str, str]:
    """Return, for each job, how its recipes differ from those of other jobs."""
    texts: dict[str, list[str]] = {}
    for groups in sweep.mixed.values():
        for group in groups:
            for job in group.jobs:
                texts.setdefault(job.name, []).append(group.text)
    return {name: "; ".join(dict.fromkeys(parts)) for name, parts in texts.items()}


def _same_recipes(sweep: Sweep) -> list[list[Job]]:
    """Group counted jobs that share the recipes of all scores."""
    groups: dict[str, list[Job]] = {}
    for job in sweep.counted:
        recipes = {score: recipe_of(job, score, sweep.counted) for score in sweep.mixed}
        groups.setdefault(json.dumps(recipes, sort_keys=True), []).append(job)
    return list(groups.values())


def _real_rows(
    jobs: Sequence[Job], scores: Sequence[ScoreInfo], lead: int, *, tail: int
) -> tuple[Row, ...]:
    """Return rows with the range, over all jobs, of held-out and of training scores."""
    rows = []
    for title, part in (("held-out", "floor"), ("training", "ceiling")):
        cells = [Cell(text=title, span=lead)]
        for score in scores:
            of_jobs = [job.scores[score.name] for job in jobs if score.name in job.scores]
            found = [getattr(one, part) for one in of_jobs]
            known = [value for value in found if value is not None]
            ends = (min(known), max(known)) if known else (None,)
            shown = dict.fromkeys(score.show(value) for value in ends)
            cells.append(Cell(text=" to ".join(shown)))
        rows.append(Row(cells=tuple(cells + [Cell(text="")] * tail), mark="real"))
    return tuple(rows)


def _column(title: str, *, meaning: str = "", is_text: bool = False) -> Column:
    """Return a heading in which long names may break after an underscore or a dot."""
    breakable = escape(title).replace("_", "_<wbr>").replace(".", ".<wbr>")
    return Column(title=Markup(breakable), meaning=meaning, is_text=is_text)


def _axis_column(axis: Axis) -> Column:
    meaning = ", ".join([axis.key, *axis.followers])
    return _column(axis.label, meaning=meaning, is_text=not axis.has_numbers)


def _score_column(score: ScoreInfo) -> Column:
    return _column(score.name, meaning=f"{score.words} {score.unit}".strip())


def _value_cell(value: Scalar, axis: Axis | None = None) -> Cell:
    is_text = axis is not None and not axis.has_numbers
    return Cell(text=show(value), sort=show(value), is_text=is_text)


def _score_cell(job: Job, score: ScoreInfo) -> Cell:
    if score.name not in job.scores:
        return Cell(text="")
    parts = job.scores[score.name]
    title = f"held-out {score.show(parts.floor)}, training {score.show(parts.ceiling)}"
    sort = "" if parts.value is None else repr(parts.value)
    return Cell(
        text=score.show(parts.value),
        sort=sort,
        small=score.show_interval(parts.low, parts.high),
        title=title,
    )


def _estimate_cell(found: Estimate | None, score: ScoreInfo) -> Cell:
    if found is None:
        return Cell(text=score.show(None))
    title = f"held-out {score.show(found.floor)}, training {score.show(found.ceiling)}"
    return Cell(
        text=score.show(found.value),
        sort=repr(found.value),
        small=score.show_interval(found.low, found.high),
        title=f"{title}; {found.num_seeds} seeds",
    )


def _seeds_cell(found: Configuration) -> Cell:
    seeds = ", ".join(show(job.seed) for job in found.jobs)
    return Cell(text=str(len(found.jobs)), sort=str(len(found.jobs)), title=f"seeds {seeds}")


def _short_name(job: Job, sweep: Sweep) -> str:
    """Return the job's number if there is one sweep, else its name."""
    number = re.match(r"(\d+)_", job.name)
    return number[1] if number and len(sweep.paths) == 1 else job.name
