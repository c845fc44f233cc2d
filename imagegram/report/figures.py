"""Figures of the report: histograms and curves by level, and maps of values by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.protocols import Modality
from imagegram.report.charts import heat_map, histogram_chart, line_chart
from imagegram.report.ordered import ALL_SETS, SAMPLES_AND_HELD_OUT, named, ordered_sections
from imagegram.stages.evaluate import Curves

Array = NDArray[np.float64]
#: Share of all cells below the brightest colour of a map.
_BRIGHTEST: Final = 0.99


def chart_sections(
    curves: Curves, layout: TokenLayout, modality: Modality = IMAGES
) -> list[dict[str, Any]]:
    """Return the sections with one chart per level; charts without a curve are left out.

    Tokens of a sequence, which have one level, are also shown by position.
    """
    part = "a region of a picture" if layout.is_picture else "a piece of one picture"
    sections = [
        _histograms(
            curves,
            layout,
            "copied_span",
            "Copied spans",
            "Length, in tokens, of the phrase of the training corpus that each token lies in. Bars "
            "right of the dashed outline: longer pieces than real held-out "
            f"{modality.nouns} share with it.",
        ),
        _histograms(
            curves,
            layout,
            "aligned_match",
            "Copied in place",
            "Length, in tokens, of the longest run up to each token that one training "
            f"{modality.noun} holds "
            f"at the same positions: {part}, not a common texture.",
        ),
        _histograms(
            curves,
            layout,
            "order",
            "Contexts that decided",
            "Length of the context, in tokens, that chose each token. Long contexts have few "
            "places in the corpus and leave little choice.",
        ),
        _novelty(curves, layout, modality),
        *([] if layout.is_picture else ordered_sections(curves, layout, modality)),
    ]
    return [section for section in sections if section["charts"]]


def _histograms(
    curves: Curves, layout: TokenLayout, prefix: str, title: str, text: str
) -> dict[str, Any]:
    edges = curves.get("generated", {}).get(f"{prefix}_edges")
    charts = []
    for level in range(layout.num_levels):
        shares = named(curves, f"{prefix}_level{level}")
        shares.pop("ceiling", None)  # one tall bar at the far end would flatten the rest
        if edges is not None and shares:
            label = level_label(layout, level)
            svg = histogram_chart(edges, shares, title=f"{title}, {label}")
            charts.append({"label": label, "svg": svg})
    keys = SAMPLES_AND_HELD_OUT
    return {"title": title, "text": text, "x": "tokens", "charts": charts, "keys": keys}


def _novelty(curves: Curves, layout: TokenLayout, modality: Modality) -> dict[str, Any]:
    names = [
        (level_label(layout, level), f"novelty_level{level}") for level in range(layout.num_levels)
    ]
    if layout.is_picture:
        names.insert(0, ("all levels", "novelty"))
    charts = []
    for label, name in names:
        if lines := named(curves, name):
            svg = line_chart(lines, title=f"n-novelty, {label}")
            charts.append({"label": label, "svg": svg})
    return {
        "title": "Novelty",
        "text": f"Share of runs of n tokens that no training {modality.noun} holds. Below the "
        "dashed held-out curve the samples repeat the corpus more than real "
        f"{modality.nouns} do; above it they are noisier.",
        "x": "n",
        "charts": charts,
        "keys": ALL_SETS,
    }


# ------------------------------------------------------------------------------------------- maps


def heat_sections(curves: Curves, layout: TokenLayout) -> list[dict[str, Any]]:
    """Return maps by position, samples beside held-out images, of all measured values.

    Tokens of a sequence have no positions in the picture: they are shown as curves.
    """
    if not layout.is_picture:
        return []
    sections = [
        _maps(
            lambda which, level: curves.get(which, {}).get(f"entropy_level{level}"),
            layout,
            "Where there was choice",
            "Mean entropy, in bits, of the sampler's distribution at every position, over images "
            "and channels. Dark: the tokens before left one single continuation.",
        ),
        _maps(
            lambda which, level: _part(curves.get(which, {}).get("code_length"), layout, level),
            layout,
            "What a position costs",
            "Mean bits of a token at every position under the smoothed n-gram, over images and "
            "channels. Dark: the corpus foretells it.",
        ),
    ]
    return [section for section in sections if section["levels"]]


def _part(curve_T: Array | None, layout: TokenLayout, level: int) -> Array | None:
    return None if curve_T is None else curve_T[layout.level_slices[level]]


def _maps(
    find: Callable[[str, int], Array | None], layout: TokenLayout, title: str, text: str
) -> dict[str, Any]:
    found: dict[tuple[int, str], Array] = {}
    for level in range(layout.num_levels):
        shape = (layout.heights[level], layout.widths[level], layout.num_channels)
        for which in ("generated", "floor"):
            values = find(which, level)
            if values is not None:
                found[level, which] = values.reshape(shape).mean(axis=2)
    # A few extreme positions, such as the first, would leave the others dark.
    every = np.concatenate([values.ravel() for values in found.values()] or [np.zeros(1)])
    top = float(np.quantile(every, _BRIGHTEST)) or float(every.max()) or 1.0
    names = {"generated": "samples", "floor": "held-out"}
    levels = []
    for level in range(layout.num_levels):
        maps = [
            {
                "label": names[which],
                "mean": float(found[level, which].mean()),
                "image": heat_map(found[level, which], top),
            }
            for which in names
            if (level, which) in found
        ]
        if maps:
            levels.append({"label": level_label(layout, level), "maps": maps})
    return {"title": title, "text": text, "top": top, "levels": levels}


def level_label(layout: TokenLayout, level: int) -> str:
    """Return the label of a level with its size.

    >>> level_label(TokenLayout.sequence(64), 0)
    '64 tokens'
    """
    if not layout.is_picture:
        return f"{layout.widths[level]} tokens"
    return f"level {level}, {layout.heights[level]} × {layout.widths[level]}"  # noqa: RUF001
