"""What a sweep's figures show, before any library draws it: points, curves, crosses, refusals.

``interactive.py`` draws it for the report, ``static.py`` for a file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.sweeps.aggregate import Configuration, Estimate, configurations, estimate, pareto
from imagegram.sweeps.axes import Axis
from imagegram.sweeps.jobs import Job, Scalar
from imagegram.sweeps.recipes import RecipeGroup, split_by_recipe
from imagegram.sweeps.scales import Scale
from imagegram.sweeps.styles import Styles

#: What is drawn when nobody asked: the first that is there; a prefix ends in an underscore.
COPYING: Final = ("largest_source_share", "exact_copy_rate", "forced_copy_rate")
QUALITY: Final = ("kd_", "fd_")
#: Drawn as curves beside the others; the held-out floor is the likelihood to read.
LIKELIHOOD: Final = ("bits_per_dim", "bits_per_token")
_HIGHER_IS_BETTER: Final = re.compile(r"precision|recall|density|coverage|novelty|vendi|authpct")
_DIGITS: Final = 6


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One configuration of a frontier.

    Attributes:
        configuration: what it is.
        x, y: its two scores.
        is_optimal: no other mark of the frontier is better in one and as good in the other.
    """

    configuration: Configuration
    x: Estimate
    y: Estimate
    is_optimal: bool


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """One score over another, of jobs whose numbers may meet.

    Attributes:
        x, y: names of the scores.
        axes: of the sweep.
        marks: configurations.
        paths: marks that differ along :func:`path_axis` only, in its order.
        floors, ceilings: distinct (x, y) of held-out and of training images.
        recipe: what tells these jobs from others that could not be drawn with them, or nothing.
    """

    x: str
    y: str
    axes: tuple[Axis, ...]
    marks: tuple[Mark, ...]
    paths: tuple[tuple[Mark, ...], ...]
    floors: tuple[tuple[float, float], ...]
    ceilings: tuple[tuple[float, float], ...]
    recipe: str

    @property
    def styles(self) -> Styles:
        """Colours and shapes."""
        return Styles.of(self.axes)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A score over one axis, where all other axes stand still.

    Attributes:
        configurations: in the order of ``xs``.
        xs: places.
        estimates: one a place.
    """

    configurations: tuple[Configuration, ...]
    xs: tuple[float, ...]
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The curves of one score, and those of held-out and training images, the same drawn once.

    Attributes:
        score: its name.
        curves: one for every combination of the other axes.
        floors, ceilings: each (xs, ys).
        recipe: as in :class:`Frontier`.
    """

    score: str
    curves: tuple[Curve, ...]
    floors: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    ceilings: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]
    recipe: str


@dataclass(frozen=True, kw_only=True)
class Knob:
    """All panels over one axis.

    Attributes:
        scale: the horizontal axis.
        axes: of the sweep.
        panels: one a score and recipe.
        refusals: sentences about what is not drawn, and why.
    """

    scale: Scale
    axes: tuple[Axis, ...]
    panels: tuple[Panel, ...]
    refusals: tuple[str, ...]

    @property
    def styles(self) -> Styles:
        """Colours and dashes of the axes that tell curves apart."""
        return Styles.of([axis for axis in self.axes if axis != self.scale.axis])


def scores_of(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Names of all scores, in the order in which jobs have them."""
    return tuple(dict.fromkeys(score for job in jobs for score in job.scores))


def choose(asked: str, option: str, defaults: Sequence[str], scores: Sequence[str]) -> str | None:
    """The score that was asked for, else the first default that is there; None without one.

    Raises:
        ConfigError: nobody has the score that was asked for.
    """
    if asked:
        if asked not in scores:
            raise ConfigError(
                f"{option}: no job has a score {asked!r}; {did_you_mean(asked, scores)}"
            )
        return asked
    return next(iter(_present(defaults, scores)), None)


def headline_scores(scores: Sequence[str], *chosen: str | None) -> tuple[str, ...]:
    """The scores that curves are drawn of: the chosen ones, then the defaults that are there."""
    asked = [score for score in chosen if score is not None]
    return tuple(dict.fromkeys([*asked, *_present(COPYING + QUALITY + LIKELIHOOD, scores)]))


def lower_is_better(score: str) -> bool:
    """The direction of a score; what is not known as a quality to be high is better low."""
    return _HIGHER_IS_BETTER.search(score) is None


def frontiers(jobs: Sequence[Job], axes: Sequence[Axis], x: str, y: str) -> tuple[Frontier, ...]:
    """One frontier a recipe, that of the most jobs first."""
    return tuple(_frontier(group, axes, x, y) for group in split_by_recipe(jobs, [x, y]))


def _frontier(group: RecipeGroup, axes: Sequence[Axis], x: str, y: str) -> Frontier:
    found = configurations(group.jobs, axes)
    pairs = [(estimate(c.jobs, x), estimate(c.jobs, y)) for c in found]
    signs = [1 if lower_is_better(score) else -1 for score in (x, y)]
    points = [(signs[0] * a.value, signs[1] * b.value) for a, b in pairs if a and b]
    marks = tuple(
        Mark(configuration=c, x=a, y=b, is_optimal=optimal)
        for c, (a, b), optimal in zip(found, pairs, pareto(points), strict=True)
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


def _paths(marks: Sequence[Mark], axes: Sequence[Axis]) -> tuple[tuple[Mark, ...], ...]:
    """Marks along one axis, joined where all others are equal."""
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
    """The axis along which marks are joined: of those with an order, that with most values."""
    ordered = [axis for axis in axes if axis.is_ordered]
    return max(ordered, key=lambda axis: len(axis.values), default=None)


def _elsewhere(configuration: Configuration, along: Axis) -> tuple[Scalar, ...]:
    """Where it lies on all axes but one."""
    return tuple(value for key, value in configuration.at.items() if key != along.key)


def knob(jobs: Sequence[Job], axes: Sequence[Axis], scale: Scale, scores: Sequence[str]) -> Knob:
    """Curves of some scores over one axis."""
    panels: list[Panel] = []
    refusals: list[str] = []
    for score in scores:
        groups = split_by_recipe(jobs, [score])
        drawn = [_panel(group, axes, scale, score) for group in groups]
        panels += [panel for panel in drawn if panel.curves]
        left_out = [
            group.text for group, panel in zip(groups, drawn, strict=True) if not panel.curves
        ]
        if left_out and len(groups) > 1:
            refusals.append(
                f"{score} is not drawn over {scale.axis.label} for {'; '.join(left_out)}: numbers "
                "of different recipes are not comparable."
            )
    return Knob(scale=scale, axes=tuple(axes), panels=tuple(panels), refusals=tuple(refusals))


def _panel(group: RecipeGroup, axes: Sequence[Axis], scale: Scale, score: str) -> Panel:
    lines: dict[tuple[Scalar, ...], list[Configuration]] = {}
    for found in configurations(group.jobs, axes):
        family = scale.families.get(found.at[scale.axis.key], "")
        lines.setdefault((family, *_elsewhere(found, scale.axis)), []).append(found)
    curves = [_curve(line, scale, score) for line in lines.values()]
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


def _present(defaults: Sequence[str], scores: Sequence[str]) -> list[str]:
    return [
        score
        for default in defaults
        for score in scores
        if score == default or (default.endswith("_") and score.startswith(default))
    ]


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
