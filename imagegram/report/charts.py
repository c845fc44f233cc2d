"""Small charts as inline SVG: they take the page's colours, print, and need no script.

Kinds of lines everywhere, named by CSS class: ``generated`` (accent), ``floor`` (held-out images,
ink, dashed), ``ceiling`` (training images, pale) and ``jpeg`` (files of the same size, dotted).
Heat maps are pictures, because a fine level has too many cells to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from imagegram.records import Images

Array = NDArray[np.float64]
_WIDTH: Final = 320
_HEIGHT: Final = 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 10, 26
_DRAWN: Final = ("jpeg", "ceiling", "floor", "generated")  # drawn in this order, the last on top
#: Colours of heat maps from zero to the top: lightness grows with the value, also in print.
HEAT: Final = ("#1d1512", "#6b2a17", "#b4411f", "#e39a6b", "#fbeadb")


def histogram_chart(edges: Array, shares: Mapping[str, Array], *, title: str) -> Markup:
    """Draw bars of the generated shares, with held-out and training images as outlines.

    Args:
        edges: (E,) left edges of the bins, whole numbers.
        shares: by image set, (E,) shares that sum to 1.
        title: for readers who do not see the picture.
    """
    used = max((int(np.flatnonzero(s)[-1]) + 1 for s in shares.values() if s.any()), default=1)
    top = max([float(s.max()) for s in shares.values()] + [1e-9])
    step = (_WIDTH - _LEFT - _RIGHT) / used
    parts = [_axis_y(0.0, top, is_share=True)]
    for name in reversed(_DRAWN):  # outlines over bars
        if name not in shares:
            continue
        heights = [_y(float(share), top) for share in shares[name][:used]]
        if name == "generated":
            parts += [
                f'<rect class="generated" x="{_LEFT + i * step + 0.75:.1f}" y="{y:.1f}" '
                f'width="{max(step - 1.5, 0.5):.1f}" height="{_y(0, top) - y:.1f}"/>'
                for i, y in enumerate(heights)
            ]
        else:
            steps = "".join(
                f"L{_LEFT + i * step:.1f} {y:.1f}H{_LEFT + (i + 1) * step:.1f}"
                for i, y in enumerate(heights)
            )
            parts.append(f'<path class="{name}" d="M{_LEFT} {_y(0, top):.1f}{steps}"/>')
    every = max(1, math.ceil(used / 9))
    parts += [_label_x(_LEFT + (i + 0.5) * step, f"{int(edges[i])}") for i in range(0, used, every)]
    return _svg(parts, title)


def line_chart(
    curves: Mapping[str, Array],
    *,
    title: str,
    labels: Sequence[str] = (),
    ends: tuple[float, float] | None = None,
) -> Markup:
    """Draw curves over 1, 2, 3 ...; gaps where a curve is not defined.

    Args:
        curves: by image set, (X,) values.
        title: text for screen readers.
        labels: (X,) text below each value; None: its number.
        ends: values at the bottom and at the top; None: shares in 0 ... 1, as per cent.
    """
    count = max(len(curve) for curve in curves.values())
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, count - 1)
    bottom, top = ends or (0.0, 1.0)
    parts = [_axis_y(bottom, top, is_share=ends is None)]
    for name in _DRAWN:
        if name not in curves:
            continue
        path, pen = "", "M"
        for i, value in enumerate(curves[name]):
            if math.isnan(value):
                pen = "M"
                continue
            path += f"{pen}{_LEFT + i * step:.1f} {_y(float(value), top, bottom):.1f}"
            pen = "L"
        parts.append(f'<path class="{name}" d="{path}"/>')
    every = max(1, math.ceil(count / 9 if labels else count / 8))
    texts = labels or [str(i + 1) for i in range(count)]
    first = 0 if labels else every - 1
    parts += [_label_x(_LEFT + i * step, texts[i]) for i in range(first, count, every)]
    return _svg(parts, title)


def scale_chart(value: float, floor: float, ceiling: float, interval: Sequence[Any]) -> Markup:
    """Draw a strip from held-out (left) to training images (right) with the value on it.

    A value beyond an end is drawn outside of it, at most a tenth of the strip away.
    """
    width, height, margin = 132, 16, 16
    span = ceiling - floor

    def place(number: float) -> float:
        share = (number - floor) / span
        return margin + min(max(share, -0.1), 1.1) * (width - 2 * margin)

    low, high = interval
    bar = ""
    if low is not None and high is not None:
        a, b = sorted((place(low), place(high)))
        bar = f'<line class="interval" x1="{a:.1f}" x2="{b:.1f}" y1="8" y2="8"/>'
    return Markup(
        f'<svg class="scale" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="between held-out and training">'
        f'<line class="rule" x1="{margin}" x2="{width - margin}" y1="8" y2="8"/>'
        f'<circle class="floor" cx="{margin}" cy="8" r="3"/>'
        f'<circle class="ceiling" cx="{width - margin}" cy="8" r="3"/>{bar}'
        f'<circle class="generated" cx="{place(value):.1f}" cy="8" r="4"/></svg>'
    )


def heat_map(values_HW: Array, top: float) -> Images:
    """Return a picture of values, one pixel each.

    Args:
        values_HW: values from 0 on; (H, W).
        top: value of the brightest colour.

    Returns:
        (H, W, 3) uint8.

    >>> heat_map(np.array([[0.0, 4.0]]), top=4.0).tolist()
    [[[29, 21, 18], [251, 234, 219]]]
    """
    stops = np.array([[int(color[k : k + 2], 16) for k in (1, 3, 5)] for color in HEAT])
    places = np.clip(values_HW / top, 0.0, 1.0) * (len(HEAT) - 1)
    mixed = [np.interp(places, np.arange(len(HEAT)), channel) for channel in stops.T]
    return np.asarray(np.rint(np.stack(mixed, axis=-1)), dtype=np.uint8)


def _y(value: float, top: float, bottom: float = 0.0) -> float:
    return _HEIGHT - _BOTTOM - (value - bottom) / (top - bottom) * (_HEIGHT - _BOTTOM - _TOP)


def _axis_y(bottom: float, top: float, *, is_share: bool) -> str:
    """Draw rules and labels at the bottom, middle and top of the range; shares in per cent."""
    lines = []
    digits = 0 if top >= 0.1 else 1
    for part in (0.0, 0.5, 1.0):
        value = bottom + part * (top - bottom)
        y = _y(value, top, bottom)
        text = f"{100 * value:.{digits}f}%" if is_share else f"{value:.3g}"
        lines.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{text}</text>'
        )
    return "".join(lines)


def _label_x(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str) -> Markup:
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
