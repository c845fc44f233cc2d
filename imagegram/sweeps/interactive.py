"""Figures of the report in plotly, whose points show details under the mouse pointer.

A figure is made in the colours of the light page; the script of the page draws it, and replaces
the colours in dark mode. All user text is escaped, because plotly reads labels as HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

from imagegram.records import ScoreInfo
from imagegram.sweeps.aggregate import Estimate
from imagegram.sweeps.axes import describe
from imagegram.sweeps.drawings import Curve, Frontier, Knob, Mark, Panel, axis_title
from imagegram.sweeps.ranges import axis_range
from imagegram.sweeps.styles import DASHES, SHAPES, palette

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FONT: Final = (
    "ui-sans-serif, system-ui, -apple-system, Segoe UI, Helvetica Neue, Arial, sans-serif"
)
#: More labels than this overlap; the mouse pointer still shows them.
_MAX_LABELS: Final = 30
_CLEAR: Final = "rgba(0,0,0,0)"
_HOVER: Final = "%{customdata}<extra></extra>"


def frontier_figure(frontier: Frontier) -> go.Figure:
    """Draw one score over another, with intervals, crosses of real images and optimal points."""
    figure, colors = _empty(), palette()
    for path in frontier.paths:
        figure.add_scatter(
            x=[mark.x.value for mark in path],
            y=[mark.y.value for mark in path],
            mode="lines",
            line={"color": colors["pale"], "width": 1.5},
            hoverinfo="skip",
        )
    for mark in frontier.marks:
        figure.add_trace(_interval_trace(mark, frontier))
    best = [mark for mark in frontier.marks if mark.is_optimal]
    figure.add_scatter(
        x=[mark.x.value for mark in best],
        y=[mark.y.value for mark in best],
        mode="markers",
        marker={"symbol": "circle-open", "size": 22, "color": colors["ink"], "line": {"width": 1}},
        hoverinfo="skip",
    )
    for mark in frontier.marks:
        figure.add_trace(_mark_trace(mark, frontier))
    for name, symbol, points in (
        ("held-out", "cross-thin-open", frontier.floors),
        ("training", "x-thin-open", frontier.ceilings),
    ):
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 16 if len(points) == 1 else 10,
                "color": colors["ink"],
                "line": {"width": 2 if len(points) == 1 else 1.5},
            },
            customdata=[_tell_cross(name, frontier, point) for point in points],
            hovertemplate=_HOVER,
        )
    crosses = frontier.floors + frontier.ceilings
    marks = frontier.marks
    figure.update_layout(_layout(height=480, margin={"l": 68, "r": 18, "t": 12, "b": 58}))
    figure.update_xaxes(_axis(frontier.x, [m.x for m in marks], [x for x, _ in crosses]))
    figure.update_yaxes(_axis(frontier.y, [m.y for m in marks], [y for _, y in crosses]))
    figure.update_xaxes(title={"text": escape(axis_title(frontier.x)), "standoff": 10})
    figure.update_yaxes(title={"text": escape(axis_title(frontier.y)), "standoff": 10})
    return figure


def panel_figure(panel: Panel, knob: Knob) -> go.Figure:
    """Draw one score over one axis, a line for every combination of the others."""
    figure, colors = _empty(), palette()
    for name, lines, color, dash in (
        ("training", panel.ceilings, colors["pale"], "solid"),
        ("held-out", panel.floors, colors["ink"], "dash"),
    ):
        for xs, ys in lines:
            figure.add_scatter(
                x=xs,
                y=ys,
                mode="lines",
                line={"color": color, "width": 1.5, "dash": dash},
                customdata=[f"<b>{name}</b><br>{panel.score.show(y)}" for y in ys],
                hovertemplate=_HOVER,
            )
    for curve in panel.curves:
        figure.add_trace(_curve_trace(curve, panel, knob))
    others = [y for _, ys in panel.floors + panel.ceilings for y in ys]
    estimates = [e for curve in panel.curves for e in curve.estimates]
    figure.update_layout(_layout(height=230, margin={"l": 52, "r": 10, "t": 8, "b": 40}))
    figure.update_yaxes(_axis(panel.score, estimates, others))
    ticks = knob.scale.ticks
    figure.update_xaxes(
        _look(),
        type="log" if knob.scale.is_log else "linear",
        tickvals=list(ticks),
        ticktext=[escape(text) for text in ticks.values()],
        showgrid=False,
        title={"text": escape(knob.scale.label), "font": {"size": 11}, "standoff": 6},
    )
    return figure


def plotly_script() -> str:
    """Return the plotly library, which the page contains once."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _empty() -> go.Figure:
    """Return a figure without plotly's template, whose colours have no dark counterparts."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.layout.template = None
    return figure


def _interval_trace(mark: Mark, frontier: Frontier) -> go.Scatter:
    """Return the trace of both intervals of a mark; marks are drawn above all intervals."""
    import plotly.graph_objects as go

    color = frontier.styles.faint(mark.configuration.at)
    return go.Scatter(
        x=[mark.x.value],
        y=[mark.y.value],
        error_x=_bars([mark.x], color),
        error_y=_bars([mark.y], color),
        mode="markers",
        marker={"size": 1, "color": color},
        hoverinfo="skip",
    )


def _mark_trace(mark: Mark, frontier: Frontier) -> go.Scatter:
    import plotly.graph_objects as go

    styles, at = frontier.styles, mark.configuration.at
    axis = styles.color_axis if len(frontier.marks) <= _MAX_LABELS else None
    label = axis.short(at[axis.key]) if axis and axis.is_ordered else ""
    return go.Scatter(
        x=[mark.x.value],
        y=[mark.y.value],
        mode="markers+text",
        marker={"symbol": SHAPES[styles.shape(at)], "size": 12, "color": styles.color(at)},
        text=[escape(label)],
        textposition="top right",
        textfont={"color": palette()["ink"], "size": 12},
        customdata=[
            f"<b>{_words(describe(at, frontier.axes))}</b>"
            f"<br>{_tell(frontier.x, mark.x)}<br>{_tell(frontier.y, mark.y)}"
            + ("<br>no other is better in both" if mark.is_optimal else "")
        ],
        hovertemplate=_HOVER,
    )


def _curve_trace(curve: Curve, panel: Panel, knob: Knob) -> go.Scatter:
    import plotly.graph_objects as go

    styles, at = knob.styles, curve.configurations[0].at
    color, shape = styles.color(at), styles.shape(at)
    return go.Scatter(
        x=curve.xs,
        y=[estimate.value for estimate in curve.estimates],
        error_y=_bars(curve.estimates, styles.faint(at)),
        mode="lines+markers",
        line={"color": color, "width": 2, "dash": DASHES[shape]},
        marker={"symbol": SHAPES[shape], "size": 8, "color": color},
        customdata=[
            f"<b>{_words(describe(c.at, knob.axes))}</b><br>{_tell(panel.score, e)}"
            for c, e in zip(curve.configurations, curve.estimates, strict=True)
        ],
        hovertemplate=_HOVER,
    )


def _bars(estimates: Sequence[Estimate], color: str) -> dict[str, Any]:
    """Return error bars from ``value`` to ``low`` and ``high``."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0 if e.high is None else e.high - e.value for e in estimates],
        "arrayminus": [0 if e.low is None else e.value - e.low for e in estimates],
        "color": color,
        "thickness": 1.5,
        "width": 0,
    }


def _tell(score: ScoreInfo, estimate: Estimate) -> str:
    text = f"{escape(score.name)} <b>{score.show(estimate.value)}</b>"
    if estimate.low is not None:
        text += f" [{score.show(estimate.low)}, {score.show(estimate.high)}]"
    seeds = "1 seed" if estimate.num_seeds == 1 else f"mean of {estimate.num_seeds} seeds"
    real = f"held-out {score.show(estimate.floor)}"
    return f"{text}<br>{seeds}; {real}, training {score.show(estimate.ceiling)}"


def _tell_cross(name: str, frontier: Frontier, point: tuple[float, float]) -> str:
    scores = zip((frontier.x, frontier.y), point, strict=True)
    return f"<b>{name}</b>" + "".join(
        f"<br>{escape(score.name)} <b>{score.show(value)}</b>" for score, value in scores
    )


def _words(text: str) -> str:
    return escape(text).replace(", ", "<br>")


def _axis(
    score: ScoreInfo, estimates: Sequence[Estimate], others: Sequence[float]
) -> dict[str, Any]:
    ends = axis_range(estimates, others, is_share=score.is_share)
    return _look() | {"range": list(ends), "tickformat": ".4~p" if score.is_share else ",.4~r"}


def _look() -> dict[str, Any]:
    colors = palette()
    return {
        "gridcolor": colors["rule"],
        "linecolor": colors["pale"],
        "tickcolor": colors["pale"],
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
    }


def _layout(*, height: int, margin: dict[str, int]) -> dict[str, Any]:
    colors = palette()
    return {
        "height": height,
        "margin": margin,
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "modebar": {"bgcolor": _CLEAR, "color": colors["soft"], "activecolor": colors["ink"]},
        "font": {"family": _FONT, "size": 12, "color": colors["soft"]},
        "showlegend": False,
        "dragmode": False,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": colors["paper"],
            "bordercolor": colors["pale"],
            "font": {"family": _FONT, "size": 12, "color": colors["ink"]},
            "align": "left",
        },
    }
