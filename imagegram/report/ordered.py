"""Figures of sequences: scores by position, and reconstruction by prefix length where ordered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.protocols import Modality
from imagegram.report.charts import line_chart
from imagegram.stages.evaluate import Curves

Array = NDArray[np.float64]
#: Keys of a legend: CSS class and words.
SAMPLES_AND_HELD_OUT: Final = (("generated", "samples"), ("floor", "held-out"))
ALL_SETS: Final = (*SAMPLES_AND_HELD_OUT, ("ceiling", "training"))
#: Curve, its label, and whether it is a share; by the metrics that write them.
_POSITIONS: Final = (
    ("source_share_by_position", "from the {noun}'s largest source", True),
    ("copied_prefix_by_position", "in a copied prefix", True),
    ("forced_by_position", "forced steps", True),
    ("suffix_len_by_position", "context that decided, tokens", False),
    ("entropy_level0", "choice of the sampler, bits", False),
    ("code_length", "cost under the n-gram, bits", False),
    ("id_entropy", "entropy of the ids, bits", False),
)


def ordered_sections(
    curves: Curves, layout: TokenLayout, modality: Modality = IMAGES
) -> list[dict[str, Any]]:
    """Return the sections by position and by prefix length; empty where not measured."""
    return [_positions(curves, layout, modality), _prefixes(curves)]


def _positions(curves: Curves, layout: TokenLayout, modality: Modality) -> dict[str, Any]:
    charts, heading = [], "By prefix position" if layout.is_ranked else "By position"
    for name, words, is_share in _POSITIONS:
        if lines := named(curves, name):
            label = words.format(noun=modality.noun)
            ends = None if is_share else (0.0, _highest(lines) or 1.0)
            title = f"{heading}: {label}"
            charts.append({"label": label, "svg": line_chart(lines, title=title, ends=ends)})
    text = (
        "What the first tokens are like, and what the last: shares of "
        f"{modality.nouns} and means over them."
    )
    if layout.is_ranked:
        text += (
            " The first tokens say what a picture shows, so a prefix that is copied is a layout "
            "that is copied."
        )
    if layout.order == "none":
        text += " The order of these tokens says nothing: no position matters more than another."
    if any("id_entropy" in of for of in curves.values()):
        text += (
            " The entropy of the ids is that of their frequencies in the set, so at most the "
            f"logarithm of its number of {modality.nouns}."
        )
    keys = ALL_SETS
    return {
        "title": heading,
        "text": text,
        "x": "position",
        "charts": charts,
        "keys": keys,
    }


def _prefixes(curves: Curves) -> dict[str, Any]:
    lines = named(curves, "prefix_psnr")
    charts, keys = [], [*ALL_SETS[1:]]
    if lines:
        which = "floor" if "floor" in lines else next(iter(lines))
        lines["jpeg"] = curves[which]["prefix_jpeg_psnr"]
        labels = [f"{length:,.0f}" for length in curves[which]["prefix_lengths"]]
        svg = line_chart(lines, title="Prefixes", labels=labels, ends=_around(lines.values()))
        charts.append({"label": "peak signal to noise, dB", "svg": svg})
        keys.append(("jpeg", "JPEG of as many bits"))
    return {
        "title": "Reconstruction by prefix length",
        "text": "Real images decoded from their first k tokens, beside their originals. Dotted: "
        "the best JPEG files of the same originals whose scans have no more bits; their headers "
        "and tables are not counted, in their favour.",
        "x": "k",
        "charts": charts,
        "keys": keys,
    }


def named(curves: Curves, name: str) -> dict[str, Array]:
    """Return the named curve of samples and real images; charts omit planted sets."""
    return {
        which: curves[which][name]
        for which in ("generated", "floor", "ceiling")
        if name in curves.get(which, {})
    }


def _highest(lines: dict[str, Array]) -> float:
    return max(float(np.nanmax(line)) for line in lines.values())


def _around(lines: Iterable[Array]) -> tuple[float, float]:
    """Return whole decibels below and above all values."""
    values = np.concatenate(list(lines))
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    return float(np.floor(known.min())), float(np.floor(known.max()) + 1)
