"""Colours and shapes of a sweep's figures, legible on paper and in the dark.

Figures are drawn in the colours of the light page; the page's script replaces each by its dark
counterpart in dark mode (:func:`dark_partners`). Paper, ink and accent are those of
``report/templates/report.css``, which is read, not repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from imagegram import report
from imagegram.sweeps.axes import Axis
from imagegram.sweeps.jobs import Scalar

REPORT_CSS: Final = Path(report.__file__).parent / "templates" / "report.css"
SHAPES: Final = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon")
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

#: A colour on paper, and in the dark.
Pair = tuple[str, str]

#: Colours of values without an order, which differ in hue and lightness.
_SERIES: Final = (
    ("#b4411f", "#f08a63"),
    ("#2f6f8f", "#7fb9d6"),
    ("#6b7f2a", "#b6c86a"),
    ("#7a4b8c", "#c79bd8"),
    ("#b8860b", "#e6bd55"),
    ("#3b8070", "#7fccb8"),
    ("#8c5a3c", "#cf9f80"),
    ("#5a5f6b", "#a9b0bf"),
)
#: Colours of ordered values, interpolated between these stops.
_RAMP: Final = (("#dc9a6c", "#9c5a43"), ("#b4411f", "#f08a63"), ("#3d1207", "#ffe9dc"))
#: Share of its mark's colour in the colour of an interval; the rest is paper.
_FAINT: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class Styles:
    """Which axis is shown by colour, and which by shape (in curves: by dashes).

    Attributes:
        color_axis: the one with most values; None without axes.
        shape_axis: another axis, preferably one of names.
    """

    color_axis: Axis | None
    shape_axis: Axis | None

    @classmethod
    def of(cls, axes: Sequence[Axis]) -> Styles:
        """Choose the two axes among those that a figure does not show in another way."""
        by_size = sorted(axes, key=lambda axis: -len(axis.values))
        if not by_size:
            return cls(color_axis=None, shape_axis=None)
        color, *others = by_size
        fitting = [axis for axis in others if len(axis.values) <= len(SHAPES)]
        shape = min(fitting, key=lambda axis: axis.is_ordered, default=None)
        return cls(color_axis=color, shape_axis=shape)

    def color(self, at: Mapping[str, Scalar]) -> str:
        """Return the colour for values on the axes; the accent colour without an axis."""
        return self._pair(at)[0]

    def faint(self, at: Mapping[str, Scalar]) -> str:
        """Return the fainter colour of an interval, so that bars do not hide marks."""
        return _faint(self._pair(at))[0]

    def _pair(self, at: Mapping[str, Scalar]) -> Pair:
        axis = self.color_axis
        if axis is None:
            return (palette()["accent"], palette("dark")["accent"])
        return _shade(axis, axis.values.index(at[axis.key]), len(axis.values))

    def shape(self, at: Mapping[str, Scalar]) -> int:
        """Return the index into SHAPES and DASHES for values on the axes."""
        axis = self.shape_axis
        return 0 if axis is None else axis.values.index(at[axis.key])

    def colors(self) -> list[tuple[Scalar, str, str]]:
        """Return every value of the colour axis with its colour (light, dark)."""
        values = self.color_axis.values if self.color_axis else ()
        return [
            (value, *_shade(self.color_axis, rank, len(values)))
            for rank, value in enumerate(values)
            if self.color_axis
        ]


def _shade(axis: Axis, rank: int, count: int) -> Pair:
    """Return the colour of the rank-th of ``count`` values."""
    if not axis.is_ordered:
        return _SERIES[rank % len(_SERIES)]
    share = rank / max(1, count - 1)
    return _mix([pair[0] for pair in _RAMP], share), _mix([pair[1] for pair in _RAMP], share)


def _faint(pair: Pair) -> Pair:
    paper = (palette()["paper"], palette("dark")["paper"])
    light, dark = (_mix([p, c], _FAINT) for p, c in zip(paper, pair, strict=True))
    return (light, dark)


def _mix(stops: Sequence[str], share: float) -> str:
    """Return the colour at ``share`` of the way through ``stops``.

    >>> _mix(["#000000", "#102030", "#ffffff"], 0.25)
    '#081018'
    """
    place = share * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    low, high = ([int(stops[first + i][k : k + 2], 16) for k in (1, 3, 5)] for i in (0, 1))
    rest = place - first
    return "#" + "".join(f"{round(a + (b - a) * rest):02x}" for a, b in zip(low, high, strict=True))


@cache
def palette(scheme: str = "light") -> dict[str, str]:
    """Return the colours among the page's CSS properties, by name, ``light`` or ``dark``."""
    blocks = re.findall(r":root \{(.*?)\}", REPORT_CSS.read_text(), re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))


def dark_partners(axes: Sequence[Axis]) -> dict[str, str]:
    """Return light colour -> dark colour for all colours of figures over these axes."""
    light, dark = palette(), palette("dark")
    pairs = [(light[name], dark[name]) for name in light]
    for axis in axes:
        pairs += [_shade(axis, rank, len(axis.values)) for rank in range(len(axis.values))]
    return dict(pairs + [_faint(pair) for pair in pairs])
