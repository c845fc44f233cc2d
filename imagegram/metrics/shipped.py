"""Descriptions of all scores of the metrics in ``conf/metric/``, without a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from imagegram.protocols import Metric
from imagegram.records import ScoreInfo, find_info
from imagegram.schema import component_classes


def shipped_metrics() -> tuple[type[Metric], ...]:
    """Return the metric classes, in the order of their files."""
    classes: Any = [cls for (group, _), cls in component_classes().items() if group == "metric"]
    return tuple(classes)


@cache
def shipped_scores() -> tuple[ScoreInfo, ...]:
    """Return the description of every score that a shipped metric can write."""
    return tuple(
        replace(info, needs=tuple(sorted(metric.NEEDS)))
        for metric in shipped_metrics()
        for info in metric.SCORES
    )


def recorded_infos(record: Mapping[str, Any], scores: Iterable[str]) -> dict[str, ScoreInfo]:
    """Return the descriptions of scores in ``scores.json``, by name.

    Records before version 5 of the evaluation have none: the shipped metrics' are used then, and
    scores of other metrics have no better direction.
    """
    if (stored := record.get("infos")) is not None:
        return {name: ScoreInfo.of(info) for name, info in stored.items()}
    return {name: find_info(shipped_scores(), name) for name in scores}
