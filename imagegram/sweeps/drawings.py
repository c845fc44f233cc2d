"""Contents of a sweep's figures, before they are drawn: points, curves, crosses, refusals.

``interactive.py`` draws it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.records import ScoreInfo
from imagegram.sweeps.aggregate import Configuration, Estimate, configurations, estimate, pareto
from imagegram.sweeps.axes import Axis
from imagegram.sweeps.jobs import Job, Scalar
from imagegram.sweeps.recipes import RecipeGroup, split_by_recipe
from imagegram.sweeps.scales import Scale
from imagegram.sweeps.styles import Styles

#: Groups whose ranked scores are drawn by default; the first two give the axes of the frontier.
COPYING: Final = "copying"
QUALITY: Final = "quality"
LIKELIHOOD: Final = "likelihood"
_DIGITS: Final = 6


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One configuration of a frontier.

    Attributes:
        configuration: the configuration.
        x, y: its two scores.
        is_optimal: no other mark of the frontier is better in one and as good in the other;
            false for all marks when a score has no direction.
    """

    configuration: Configuration
    x: Estimate
    y: Estimate
    is_optimal: bool


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """One score over another, for jobs whose scores have the same recipe.

    Attributes:
        x, y: the scores.
        axes: axes of the sweep.
        marks: one mark per configuration.
        paths: marks that differ along :func:`path_axis` only, in its order.
        floors, ceilings: distinct (x, y) of held-out and of training images.
        recipe: what distinguishes these jobs from those of other recipes; empty if alone.
    """

    x: ScoreInfo
    y: ScoreInfo
    axes: tuple[Axis, ...]
    marks: tuple[Mark, ...]
    paths: tuple[tuple[Mark, ...], ...]
    floors: tuple[tuple[float, float], ...]
    ceilings: tuple[tuple[float, float], ...]
    recipe: str

    @property
    def styles(self) -> Styles:
        """Colours and shapes of the marks."""
        return Styles.of(self.axes)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A score over one axis, with all other axes fixed.

    Attributes:
        configurations: configurations in the order of ``xs``.
        xs: places on the horizontal axis.
        estimates: one estimate per place.
    """

    configurations: tuple[Configuration, ...]
    xs: tuple[float, ...]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The curves of one score, and distinct curves of held-out and training images.

    Attributes:
        score: name of the score.
        curves: one for every combination of the other axes.
        floors, ceilings: each (xs, ys).
        recipe: as in :class:`Frontier`.
    """

    score: ScoreInfo
    curves: tuple[Curve, ...]
    floors: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    ceilings: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    recipe: str


@dataclass(frozen=True, kw_only=True)
class Knob:
    """All panels over one axis of a sweep.

    Attributes:
        scale: the horizontal axis.
        axes: axes of the sweep.
        panels: one panel per score and recipe.
        refusals: sentences that say what is not drawn, and why.
    """

    scale: Scale
    axes: tuple[Axis, ...]
    panels: tuple[Panel, ...]
    refusals: tuple[str, ...]

    @property
    def styles(self) -> Styles:
        """Colours and dashes of the axes that distinguish curves."""
        return Styles.of([axis for axis in self.axes if axis != self.scale.axis])


def scores_of(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Return the names of all scores, in the order of their first job."""
    return tuple(dict.fromkeys(score for job in jobs for score in job.scores))


def infos_of(jobs: Sequence[Job]) -> dict[str, ScoreInfo]:
    """Return the descriptions of all scores; those of later jobs take precedence."""
    known = {name: info for job in jobs for name, info in job.infos.items()}
    return {score: known.get(score, ScoreInfo(name=score)) for score in scores_of(jobs)}


def choose(asked: str, option: str, group: str, infos: Mapping[str, ScoreInfo]) -> ScoreInfo | None:
    """Return the requested score, else the first-ranked score of a group, or None.

    Raises:
        ConfigError: no job has the requested score.
    """
    if asked:
        if asked not in infos:
            raise ConfigError(
                f"{option}: no job has a score {asked!r}; {did_you_mean(asked, infos)}"
            )
        return infos[asked]
    return next(iter(_ranked(group, infos)), None)


def headline_scores(
    infos: Mapping[str, ScoreInfo], *chosen: ScoreInfo | None
) -> tuple[ScoreInfo, ...]:
    """Return the scores that are drawn as curves: the chosen ones, then all with a rank."""
    asked = [info for info in chosen if info is not None]
    ranked = [info for group in (COPYING, QUALITY, LIKELIHOOD) for info in _ranked(group, infos)]
    return tuple(dict.fromkeys([*asked, *ranked]))


def axis_title(info: ScoreInfo) -> str:
    """Return the title of an axis: a score with its unit and its better direction.

    >>> axis_title(ScoreInfo(name="psnr", unit="dB", better="higher"))
    'psnr (dB, higher is better)'
    """
    told = [info.unit, f"{info.better} is better" if info.better else ""]
    text = ", ".join(filter(None, told))
    return f"{info.name} ({text})" if text else info.name


def frontiers(
    jobs: Sequence[Job], axes: Sequence[Axis], x: ScoreInfo, y: ScoreInfo
) -> tuple[Frontier, ...]:
    """Return one frontier per recipe, the one with most jobs first."""
    groups = split_by_recipe(jobs, [x.name, y.name])
    return tuple(_frontier(group, axes, x, y) for group in groups)


def _frontier(group: RecipeGroup, axes: Sequence[Axis], x: ScoreInfo, y: ScoreInfo) -> Frontier:
    found = configurations(group.jobs, axes)
    pairs = [(estimate(c.jobs, x.name), estimate(c.jobs, y.name)) for c in found]
    optimal = _optimal([(a.value, b.value) for a, b in pairs if a and b], x, y)
    marks = tuple(
        Mark(configuration=c, x=a, y=b, is_optimal=is_optimal)
        for c, (a, b), is_optimal in zip(found, pairs, optimal, strict=True)
        if a and b
    )
    return Frontier(
        x=x,
        y=y,
        axes=tuple(axes),
        marks=marks,
        paths=_paths(marks, axes),
        floors=_distinct([(mark.x.floor, mark.y.floor) for mark in marks]),
        ceilings=_distinct([(mark.x.ceiling, mark.y.ceiling) for mark in marks]),
        recipe=group.text,
    )


def _optimal(points: Sequence[tuple[float, float]], x: ScoreInfo, y: ScoreInfo) -> Sequence[bool]:
    """Return which points are Pareto-optimal in the directions of both scores."""
    if x.better is None or y.better is None:
        return [False] * len(points)
    signs = {"lower": 1, "higher": -1}
    return pareto([(signs[x.better] * a, signs[y.better] * b) for a, b in points])


def _paths(marks: Sequence[Mark], axes: Sequence[Axis]) -> tuple[tuple[Mark, ...], ...]:
    """Return the paths of marks along one axis, with all other axes equal."""
    along = path_axis(axes)
    if along is None:
        return ()
    groups: dict[tuple[Scalar, ...], list[Mark]] = {}
    for mark in marks:
        groups.setdefault(_elsewhere(mark.configuration, along), []).append(mark)
    order = along.values.index
    return tuple(
        tuple(sorted(group, key=lambda mark: order(mark.configuration.at[along.key])))
        for group in groups.values()
        if len(group) > 1
    )


def path_axis(axes: Sequence[Axis]) -> Axis | None:
    """Return the axis along which marks are joined: the ordered axis with most values."""
    ordered = [axis for axis in axes if axis.is_ordered]
    return max(ordered, key=lambda axis: len(axis.values), default=None)


def _elsewhere(configuration: Configuration, along: Axis) -> tuple[Scalar, ...]:
    """Return the values of a configuration on all axes but one."""
    return tuple(value for key, value in configuration.at.items() if key != along.key)


def knob(
    jobs: Sequence[Job], axes: Sequence[Axis], scale: Scale, scores: Sequence[ScoreInfo]
) -> Knob:
    """Return the panels of some scores over one axis."""
    panels: list[Panel] = []
    refusals: list[str] = []
    for score in scores:
        groups = split_by_recipe(jobs, [score.name])
        drawn = [_panel(group, axes, scale, score) for group in groups]
        panels += [panel for panel in drawn if panel.curves]
        left_out = [
            group.text for group, panel in zip(groups, drawn, strict=True) if not panel.curves
        ]
        if left_out and len(groups) > 1:
            refusals.append(
                f"{score.name} is not drawn over {scale.axis.label} for {'; '.join(left_out)}: "
                "numbers of different recipes are not comparable."
            )
    return Knob(scale=scale, axes=tuple(axes), panels=tuple(panels), refusals=tuple(refusals))


def _panel(group: RecipeGroup, axes: Sequence[Axis], scale: Scale, score: ScoreInfo) -> Panel:
    lines: dict[tuple[Scalar, ...], list[Configuration]] = {}
    for found in configurations(group.jobs, axes):
        family = scale.families.get(found.at[scale.axis.key], "")
        lines.setdefault((family, *_elsewhere(found, scale.axis)), []).append(found)
    curves = [_curve(line, scale, score.name) for line in lines.values()]
    if len({x for curve in curves for x in curve.xs}) < 2:
        curves = []
    return Panel(
        score=score,
        curves=tuple(curves),
        floors=_distinct_lines([(c.xs, [e.floor for e in c.estimates]) for c in curves]),
        ceilings=_distinct_lines([(c.xs, [e.ceiling for e in c.estimates]) for c in curves]),
        recipe=group.text,
    )


def _curve(line: Sequence[Configuration], scale: Scale, score: str) -> Curve:
    found = [(scale.places[c.at[scale.axis.key]], estimate(c.jobs, score), c) for c in line]
    rows = sorted(((x, e, c) for x, e, c in found if e is not None), key=lambda row: row[0])
    xs, estimates, where = zip(*rows, strict=True)
    return Curve(configurations=where, xs=xs, estimates=estimates)


def _ranked(group: str, infos: Mapping[str, ScoreInfo]) -> list[ScoreInfo]:
    """Return the scores of a group that are drawn by default, in order of rank."""
    ranked = [info for info in infos.values() if info.group == group and info.rank]
    return sorted(ranked, key=lambda info: info.rank)


def _distinct(
    points: Sequence[tuple[float | None, float | None]],
) -> tuple[tuple[float, float], ...]:
    known = [(x, y) for x, y in points if x is not None and y is not None]
    rounded = {tuple(f"{n:.{_DIGITS}g}" for n in point): point for point in known}
    return tuple(rounded.values())


def _distinct_lines(
    lines: Sequence[tuple[Sequence[float], Sequence[float | None]]],
) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
    found: dict[tuple[str, ...], tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for xs, ys in lines:
        known = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]
        if known:
            key = tuple(f"{n:.{_DIGITS}g}" for n in itertools.chain(*known))
            found[key] = (tuple(x for x, _ in known), tuple(y for _, y in known))
    return tuple(found.values())
