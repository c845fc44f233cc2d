"""Scales: the positions of an axis' values in a figure of curves.

A corpus is placed at its number of images, a pyramid at its number of levels, a number at itself.
An axis that mixes numbers with names (or null) has its values at equal steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from imagegram.sweeps.axes import Axis, family_of, is_number, show
from imagegram.sweeps.jobs import Job, Scalar

#: Knobs of ordered tokens: title of the section, and label under the figure.
_WORDS: Final = {
    "tokenizer.num_tokens": ("Prefix length", "first tokens that are kept of an image"),
    "sampler.anchor": ("Anchor", "first tokens that a source must share"),
    "sampler.context_digits": ("Context digits", "digits of a token that contexts compare"),
}
#: Key that chooses a pyramid.
_PYRAMIDS: Final = ("tokenizer.name", "tokenizer.sizes")
#: Ratio of the largest to the smallest number from which the axis is logarithmic.
_LOG_FROM: Final = 4.0
_MAX_TICKS: Final = 9


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The horizontal axis of curves.

    Attributes:
        axis: the axis of the sweep.
        title: title of the section.
        label: label under the figure.
        places: value of the axis -> number.
        families: value -> name without its number; a curve joins one family only.
        texts: number -> label of its tick.
    """

    axis: Axis
    title: str
    label: str
    places: Mapping[Scalar, float]
    families: Mapping[Scalar, str] = field(default_factory=dict)
    texts: Mapping[float, str] = field(default_factory=dict)

    @property
    def is_log(self) -> bool:
        """Whether the axis is logarithmic."""
        numbers = list(self.places.values())
        return min(numbers) > 0 and max(numbers) >= _LOG_FROM * min(numbers) and not self.texts

    @property
    def ticks(self) -> dict[float, str]:
        """Places with their labels, few enough to read."""
        numbers = sorted(set(self.places.values()))
        every = -(-len(numbers) // _MAX_TICKS)
        return {number: self.texts.get(number, f"{number:,g}") for number in numbers[::every]}


def find_scales(axes: Sequence[Axis], jobs: Sequence[Job]) -> tuple[Scale, ...]:
    """Return a scale for every axis of curves; corpora and depths come first."""
    scales = [_corpus_scale(axis, jobs) or _depth_scale(axis, jobs) for axis in axes]
    found = [scale for scale in scales if scale is not None]
    found.sort(key=lambda scale: scale.axis.group != "corpus")
    rest = [axis for axis, scale in zip(axes, scales, strict=True) if scale is None]
    return tuple(found) + tuple(_knob_scale(axis) for axis in rest if axis.has_numbers)


def _corpus_scale(axis: Axis, jobs: Sequence[Job]) -> Scale | None:
    if axis.group != "corpus":
        return None
    places: dict[Scalar, float] = {}
    label = "training documents"
    for value in axis.values:
        sizes = [job.num_images for job in jobs if job.config.get(axis.key) == value]
        known = [size for size in sizes if size]
        if known:
            places[value] = known[0]
    if len(places) < len(axis.values):
        label = "number in the name of the corpus"
        places = _numbers_in_names(axis)
    if len(set(places.values())) < 2 or len(places) < len(axis.values):
        return None
    return Scale(
        axis=axis, title="Corpus size", label=label, places=places, families=_families(axis)
    )


def _depth_scale(axis: Axis, jobs: Sequence[Job]) -> Scale | None:
    if axis.key not in _PYRAMIDS:
        return None
    places: dict[Scalar, float] = {}
    for value in axis.values:
        configs = [job.config for job in jobs if job.config.get(axis.key) == value]
        sizes = {config.get("tokenizer.sizes") for config in configs}
        if len(sizes) == 1 and (text := str(sizes.pop())).startswith("["):
            places[value] = len(json.loads(text))
    if not places and axis.is_family:
        places = _numbers_in_names(axis)
    if len(set(places.values())) < 2 or len(places) < len(axis.values):
        return None
    return Scale(
        axis=axis, title="Pyramid depth", label="levels", places=places, families=_families(axis)
    )


def _knob_scale(axis: Axis) -> Scale:
    title, label = _WORDS.get(axis.key, (axis.label.replace("_", " ").capitalize(), axis.key))
    if axis.is_numeric:
        places = {value: float(value) for value in axis.values if is_number(value)}  # type: ignore[arg-type]
        return Scale(axis=axis, title=title, label=label, places=places)
    steps: dict[Scalar, float] = {value: float(step) for step, value in enumerate(axis.values)}
    texts = {step: show(value) for value, step in steps.items()}
    return Scale(axis=axis, title=title, label=label, places=steps, texts=texts)


def _numbers_in_names(axis: Axis) -> dict[Scalar, float]:
    """Return the last number in each value; values without a number are left out."""
    found = {value: re.findall(r"\d+", show(value)) for value in axis.values}
    return {value: float(numbers[-1]) for value, numbers in found.items() if numbers}


def _families(axis: Axis) -> dict[Scalar, str]:
    return {value: family_of(show(value)) for value in axis.values if axis.key.endswith(".name")}
