"""Evaluations made of numbers, without images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagegram.metrics.shipped import recorded_infos
from imagegram.report.readings import Reading, read_scores

SIZES = {"generated": 50, "floor": 50, "ceiling": 50}
Sets = Mapping[str, tuple[float | None, ...]]


class Evaluated:
    """An evaluation by its numbers: score -> image set -> value, low, high."""

    def __init__(self, scores: Mapping[str, Sets], sizes: Mapping[str, int] = SIZES) -> None:
        self.sizes = dict(sizes)
        self.infos = recorded_infos({}, scores)
        self.values = {n: {s: v[0] for s, v in sets.items()} for n, sets in scores.items()}
        self.intervals = {n: {s: v[1:] for s, v in sets.items()} for n, sets in scores.items()}


def read_one(score: str, sets: Sets, sizes: Mapping[str, int] = SIZES) -> Reading:
    """The reading of one score."""
    evaluation: Any = Evaluated({score: sets})
    (reading,) = read_scores(evaluation, sizes)
    return reading
