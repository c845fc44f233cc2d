"""Legends of a sweep's figures as small inline pictures that take the page's colours."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Final

from markupsafe import Markup

from imagegram.sweeps.axes import show
from imagegram.sweeps.drawings import Frontier, Knob
from imagegram.sweeps.jobs import Scalar
from imagegram.sweeps.styles import SHAPES, Styles

Color = tuple[Scalar, str, str]
_MAX_COLORS: Final = 12
#: Inside of a box of 16 by 16.
_SIGNS: Final = {
    "circle": '<circle cx="8" cy="8" r="5"/>',
    "square": '<rect x="3.5" y="3.5" width="9" height="9"/>',
    "diamond": '<polygon points="8,1.5 14.5,8 8,14.5 1.5,8"/>',
    "triangle-up": '<polygon points="8,2 14,13 2,13"/>',
    "triangle-down": '<polygon points="8,14 14,3 2,3"/>',
    "pentagon": '<polygon points="8,1.5 14.2,6 11.8,13.3 4.2,13.3 1.8,6"/>',
    "plus": '<line x1="8" x2="8" y1="2" y2="14"/><line x1="2" x2="14" y1="8" y2="8"/>',
    "times": '<line x1="3" x2="13" y1="3" y2="13"/><line x1="3" x2="13" y1="13" y2="3"/>',
    "ring": '<circle class="ring" cx="8" cy="8" r="6.5"/>',
    "line": '<line x1="0" x2="16" y1="8" y2="8"/>',
    "dashes": '<line x1="0" x2="16" y1="8" y2="8" stroke-dasharray="4 3"/>',
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a legend: a sign and its meaning."""

    sign: Markup
    text: str


@dataclass(frozen=True, kw_only=True)
class Legend:
    """Entries under one heading: an axis, or empty for signs that all figures share."""

    title: str
    entries: tuple[Entry, ...]


def frontier_legend(frontier: Frontier) -> list[Legend]:
    """Explain the colours, shapes and crosses of a frontier."""
    shared = [
        Entry(sign=_sign("plus"), text="held-out"),
        Entry(sign=_sign("times"), text="training"),
    ]
    if any(mark.is_optimal for mark in frontier.marks):
        shared.append(Entry(sign=_sign("ring"), text="no other point is better in both"))
    return [*_axes(frontier.styles), Legend(title="", entries=tuple(shared))]


def knob_legend(knob: Knob) -> list[Legend]:
    """Explain the colours and lines of curves."""
    shared = [
        Entry(sign=_sign("dashes"), text="held-out"),
        Entry(sign=_sign("line", "pale"), text="training"),
    ]
    if knob.styles.color_axis is None:
        shared.insert(0, Entry(sign=_sign("circle", "accent"), text="samples"))
    return [*_axes(knob.styles), Legend(title="", entries=tuple(shared))]


def _axes(styles: Styles) -> list[Legend]:
    legends = []
    if styles.color_axis is not None:
        entries = [
            Entry(sign=_sign("circle", light=light, dark=dark), text=show(value))
            for value, light, dark in _few(styles.colors())
        ]
        legends.append(Legend(title=styles.color_axis.label, entries=tuple(entries)))
    if styles.shape_axis is not None:
        entries = [
            Entry(sign=_sign(shape, "soft"), text=show(value))
            for shape, value in zip(SHAPES, styles.shape_axis.values, strict=False)
        ]
        legends.append(Legend(title=styles.shape_axis.label, entries=tuple(entries)))
    return legends


def _few(colors: list[Color]) -> list[Color]:
    """Return all colours, or some of a long ramp, always with the last one."""
    every = -(-len(colors) // _MAX_COLORS)
    return colors[::-every][::-1]


def _sign(shape: str, *classes: str, light: str = "", dark: str = "") -> Markup:
    colors = f' style="--light: {escape(light)}; --dark: {escape(dark)}"' if light else ""
    names = " ".join(["sign", *classes, *(["own"] if light else [])])
    return Markup(
        f'<svg class="{names}" viewBox="0 0 16 16" aria-hidden="true"{colors}>{_SIGNS[shape]}</svg>'
    )
