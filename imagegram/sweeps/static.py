"""Figures as PNG files, for a README: matplotlib.

Not plotly, which writes files only through a browser of its own; and these figures need no more
than matplotlib draws. It is looked for when somebody asks, and is no dependency of a run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagegram.errors import MissingDependencyError
from imagegram.images import grids
from imagegram.records import ScoreInfo
from imagegram.sweeps.aggregate import Estimate
from imagegram.sweeps.axes import describe, show
from imagegram.sweeps.drawings import Frontier, Knob, Panel, axis_title
from imagegram.sweeps.ranges import axis_range
from imagegram.sweeps.samples import first_samples
from imagegram.sweeps.styles import Styles, palette
from imagegram.sweeps.sweep import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: In the order of ``styles.SHAPES`` and ``styles.DASHES``.
_MARKERS: Final = ("o", "s", "D", "^", "v", "p")
_LINES: Final[tuple[Any, ...]] = ("-", "--", ":", "-.", (0, (8, 3)), (0, (8, 3, 2, 3)))
_DPI: Final = 130
_SAMPLES_DPI: Final = 90
_PANEL: Final = (3.3, 2.9)
_MAX_ACROSS: Final = 4
_NUM_SAMPLES: Final = 16


def write_figures(folder: Path, sweep: Sweep) -> list[Path]:
    """Write ``frontier.png``, ``curves_AXIS.png`` and ``samples.png``; returns their paths.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingDependencyError(
            "figures=png needs matplotlib: pip install -c constraints.txt matplotlib"
        ) from error
    figures: dict[str, Figure] = {}
    with rc_context(_look()):
        for number, frontier in enumerate(sweep.frontiers):
            figures[f"frontier{f'_{number + 1}' if number else ''}"] = _frontier(frontier)
        for knob in sweep.knobs:
            if knob.panels:
                name = re.sub(r"\W+", "_", knob.scale.axis.label)
                figures[f"curves_{name}"] = _knob(knob)
        if (samples := _samples(sweep)) is not None:
            figures["samples"] = samples
        for name, figure in figures.items():  # pictures are noise: they fill a file quickly
            figure.savefig(folder / f"{name}.png", dpi=_DPI if name != "samples" else _SAMPLES_DPI)
    return [folder / f"{name}.png" for name in figures]


def _look() -> Any:
    colors = palette()
    return {
        "figure.facecolor": colors["paper"],
        "axes.facecolor": colors["paper"],
        "axes.edgecolor": colors["pale"],
        "axes.labelcolor": colors["soft"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": colors["rule"],
        "grid.linewidth": 0.7,
        "axes.axisbelow": True,
        "xtick.color": colors["soft"],
        "ytick.color": colors["soft"],
        "text.color": colors["ink"],
        "font.size": 9,
        "legend.frameon": False,
    }


def _figure(width: float, height: float) -> Figure:
    """A figure without the global state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _frontier(frontier: Frontier) -> Figure:
    colors, styles = palette(), frontier.styles
    figure = _figure(8.2, 4.8)
    axes = figure.add_subplot()
    for path in frontier.paths:
        xs, ys = [mark.x.value for mark in path], [mark.y.value for mark in path]
        axes.plot(xs, ys, color=colors["pale"], linewidth=1, zorder=1)
    for mark in frontier.marks:
        at, place = mark.configuration.at, (mark.x.value, mark.y.value)
        axes.errorbar(
            [place[0]],
            [place[1]],
            xerr=_bars([mark.x]),
            yerr=_bars([mark.y]),
            color=styles.color(at),
            ecolor=styles.faint(at),
            elinewidth=1.2,
            marker=_MARKERS[styles.shape(at)],
            markersize=6,
            zorder=3,
        )
        if mark.is_optimal:
            axes.plot(*place, "o", mfc="none", mec=colors["ink"], ms=13, mew=0.8, zorder=4)
        if styles.color_axis is not None and styles.color_axis.is_ordered:
            text = styles.color_axis.short(at[styles.color_axis.key])
            axes.annotate(text, place, xytext=(6, 5), textcoords="offset points", fontsize=8)
    for marker, points in (("+", frontier.floors), ("x", frontier.ceilings)):
        size = 11 if len(points) == 1 else 7
        for x, y in points:
            axes.plot(x, y, marker, color=colors["ink"], ms=size, mew=1.4, zorder=5)
    crosses = frontier.floors + frontier.ceilings
    _scale(axes.xaxis, frontier.x, [m.x for m in frontier.marks], [x for x, _ in crosses])
    _scale(axes.yaxis, frontier.y, [m.y for m in frontier.marks], [y for _, y in crosses])
    axes.set_xlabel(axis_title(frontier.x))
    axes.set_ylabel(axis_title(frontier.y))
    axes.set_title(frontier.recipe, fontsize=9, loc="left")
    handles = _handles(styles, is_lines=False)
    handles += [
        _handle("held-out images", marker="+", color=colors["ink"]),
        _handle("training images", marker="x", color=colors["ink"]),
    ]
    if any(mark.is_optimal for mark in frontier.marks):
        ring = {"marker": "o", "color": colors["ink"], "mfc": "none", "ms": 9}
        handles.append(_handle("none is better in both", **ring))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    return figure


def _knob(knob: Knob) -> Figure:
    down = -(-len(knob.panels) // _MAX_ACROSS)
    across = -(-len(knob.panels) // down)
    figure = _figure(_PANEL[0] * across, _PANEL[1] * down + 0.4)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, panel in zip(grid, knob.panels, strict=False):
        _panel(axes, panel, knob)
    for axes in grid[len(knob.panels) :]:
        axes.set_visible(False)
    colors = palette()
    handles = _handles(knob.styles, is_lines=True)
    handles += [
        _handle("held-out images", linestyle="--", color=colors["ink"]),
        _handle("training images", linestyle="-", color=colors["pale"]),
    ]
    # Two names fit below a panel; more in a row would leave the page.
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * across, fontsize=8)
    return figure


def _panel(axes: Axes, panel: Panel, knob: Knob) -> None:
    colors, styles = palette(), knob.styles
    for lines, color, line in (
        (panel.ceilings, colors["pale"], "-"),
        (panel.floors, colors["ink"], "--"),
    ):
        for xs, ys in lines:
            axes.plot(xs, ys, color=color, linestyle=line, linewidth=1.2)
    for curve in panel.curves:
        at = curve.configurations[0].at
        shape = styles.shape(at)
        axes.errorbar(
            curve.xs,
            [estimate.value for estimate in curve.estimates],
            yerr=_bars(curve.estimates),
            color=styles.color(at),
            ecolor=styles.faint(at),
            elinewidth=1.2,
            linestyle=_LINES[shape],
            marker=_MARKERS[shape],
            markersize=4,
        )
    others = [y for _, ys in panel.floors + panel.ceilings for y in ys]
    _scale(axes.yaxis, panel.score, [e for c in panel.curves for e in c.estimates], others)
    if knob.scale.is_log:
        axes.set_xscale("log")
    axes.set_xticks(list(knob.scale.ticks), list(knob.scale.ticks.values()))
    axes.set_xticks([], minor=True)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(knob.scale.label, fontsize=8)
    title = f"{panel.score.name}, {panel.recipe}" if panel.recipe else panel.score.name
    axes.set_title(title, fontsize=9, loc="left")


def _samples(sweep: Sweep) -> Figure | None:
    """One row of samples a configuration, the same seeds below each other."""
    found = [(c, first_samples(c.jobs[0], _NUM_SAMPLES)) for c in sweep.configurations]
    rows = [(describe(c.at, sweep.axes), images) for c, images in found if images is not None]
    if not rows:
        return None
    figure = _figure(10, 0.62 * len(rows) + 0.1)
    grid = figure.subplots(len(rows), 1, squeeze=False).ravel()
    for axes, (text, images) in zip(grid, rows, strict=True):
        scale = grids.scale_for(images.shape[1], target=64)
        axes.imshow(grids.grid(images, columns=_NUM_SAMPLES, scale=scale))
        axes.set(xticks=[], frame_on=False)
        axes.set_yticks([images.shape[1] * scale / 2], [text.replace(", ", "\n")], fontsize=7)
        axes.tick_params(length=0)
        axes.grid(visible=False)
    return figure


def _bars(estimates: Sequence[Estimate]) -> list[list[float]]:
    """Lengths below and above each value."""
    return [
        [0.0 if e.low is None else max(0.0, e.value - e.low) for e in estimates],
        [0.0 if e.high is None else max(0.0, e.high - e.value) for e in estimates],
    ]


def _scale(
    axis: Any, score: ScoreInfo, estimates: Sequence[Estimate], others: Sequence[float]
) -> None:
    from matplotlib.ticker import PercentFormatter

    ends = axis_range(estimates, others, is_share=score.is_share)
    axis.set_view_interval(*ends, ignore=True)
    if score.is_share:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _handles(styles: Styles, *, is_lines: bool) -> list[Any]:
    """What colours and shapes mean."""
    found = [
        _handle(f"{styles.color_axis.label} {show(value)}", marker="o", color=light)
        for value, light, _ in styles.colors()
        if styles.color_axis
    ]
    if styles.shape_axis is not None:
        for index, value in enumerate(styles.shape_axis.values):
            line = {"linestyle": _LINES[index]} if is_lines else {}
            text = f"{styles.shape_axis.label} {show(value)}"
            soft = palette()["soft"]
            found.append(_handle(text, marker=_MARKERS[index], color=soft, **line))
    return found


def _handle(label: str, **look: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **({"linestyle": "none"} | look))
