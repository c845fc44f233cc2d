"""Evaluate: every metric of generated, real and planted images, measured in the same way.

Value, floor and ceiling of a score come from one function on image sets of equal size; so do those
of the planted sets, whose copying is known. A number that is not defined is ``null`` with a reason
in ``notes``, never NaN.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.protocols import ImageSet, Index, Metric, Tokenizer
from imagegram.records import Measured, Measurement, ScoreInfo, find_info
from imagegram.stages.image_costs import ENGINE_BYTES
from imagegram.stages.measure import FinishedMeasurement, Measure, finite
from imagegram.stages.needs import lacking
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import PROCESS_BYTES, Cost
from imagegram.store.manifest import Artifact, Handle
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Surroundings

#: Names of the first image sets in ``curves.npz`` and ``scores.json``; planted ones follow.
SETS: Final = ("generated", "floor", "ceiling")
#: Bytes of scores.json and curves.npz of all metrics, and bytes for each measured image.
_SCORES_BYTES: Final = 400_000
_SCORES_BYTES_AN_IMAGE: Final = 1_000
#: File of everything but the curves.
SCORES: Final = "scores.json"
Curves = dict[str, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of a run; every part may be missing.

    Attributes:
        value: score of the generated images.
        floor: score of held-out real images; None without a held-out set.
        ceiling: score of training images.
        low, high: 95 % interval of ``value``.
        normalized: (value - floor) / (ceiling - floor): 0 reads like held-out images, 1 like
            training images; None where the metric does not tell those two apart.
    """

    value: float | None
    floor: float | None
    ceiling: float | None
    low: float | None = None
    high: float | None = None
    normalized: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(Handle):
    """The scores of all metrics."""

    @cached_property
    def record(self) -> dict[str, Any]:
        """``scores.json``: scores, their descriptions, and the metrics that were left out."""
        record: dict[str, Any] = json.loads((self.artifact.path / SCORES).read_text())
        return record

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Scores by name, in the order of the metrics."""
        return {name: Score(**parts) for name, parts in self.record["scores"].items()}

    @property
    def values(self) -> dict[str, dict[str, float | None]]:
        """Score name -> image set, also a planted one -> value."""
        return dict(self.record["values"])

    @property
    def intervals(self) -> dict[str, dict[str, tuple[float | None, float | None]]]:
        """Score name -> image set -> (low, high)."""
        return {
            name: {which: (low, high) for which, (low, high) in sets.items()}
            for name, sets in self.record["intervals"].items()
        }

    @property
    def sizes(self) -> dict[str, int]:
        """Image set -> number of its images."""
        return dict(self.record["sizes"])

    @property
    def notes(self) -> dict[str, str]:
        """Score name -> reason why a part of it is missing."""
        return dict(self.record["notes"])

    @property
    def recipes(self) -> dict[str, dict[str, str]]:
        """Score name -> facts that comparable numbers must share."""
        return dict(self.record["recipes"])

    @cached_property
    def infos(self) -> dict[str, ScoreInfo]:
        """Score name -> description: words, unit, direction ..."""
        return {name: ScoreInfo.of(info) for name, info in self.record["infos"].items()}

    @property
    def skipped(self) -> dict[str, str]:
        """Metric name -> reason why it was left out."""
        return dict(self.record["skipped"])

    def write_csv(self, path: Path) -> None:
        """Write one row a score and image set: value and 95 % interval, empty if not defined."""
        with path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["score", "set", "value", "low", "high"])
            for name, values in self.values.items():
                for which, value in values.items():
                    writer.writerow([name, which, value, *self.intervals[name][which]])

    @cached_property
    def curves(self) -> Curves:
        """Image set -> curve name -> array; NaN where a curve is not defined."""
        curves: Curves = {}
        with np.load(self.artifact.path / "curves.npz") as arrays:
            for key in arrays.files:
                which, name = key.split("/")
                curves.setdefault(which, {})[name] = arrays[key]
        return curves


def kernels_of(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Name the packages of compiled kernels that metrics call: those that read the index."""
    if any({"matches", "places"} & metric.NEEDS for metric in metrics):
        return ("imagegram.indexes.kernels", "imagegram.metrics")
    return ()


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The stage that measures all metrics of all image sets; see :class:`Measure`.

    Attributes:
        metrics: metrics of the experiment.
        generated: samples.
        floor: held-out images, replayed; None without a held-out set.
        ceiling: training images, replayed.
        planted: images with known copying, by name.
        calibration: held-out images for thresholds; None: too few are held out.
        tokens, tokenizer: training documents, and their decoder.
        index: index of the training documents.
        seed: seed of subsets and resampling.
        near_duplicate_rms: bound of near-duplicates, which count as one source.
        max_reference_images: largest number of training images in feature distances.
    """

    kind: ClassVar[str] = "evaluation"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 7
    PARTS: ClassVar[tuple[type, ...]] = (Measure,)
    metrics: tuple[Metric, ...]
    generated: ImageSet
    floor: ImageSet | None
    ceiling: ImageSet
    tokens: TokenSet
    tokenizer: Tokenizer
    index: Index
    seed: int
    near_duplicate_rms: float
    calibration: ImageSet | None = None
    planted: Mapping[str, ImageSet] = field(default_factory=dict)
    max_reference_images: int = 2000

    @property
    def kernels(self) -> tuple[str, ...]:
        """Packages of the compiled kernels that it calls."""
        return kernels_of(self.metrics)

    @property
    def sets(self) -> dict[str, ImageSet]:
        """Measured image sets by name."""
        sets = {"generated": self.generated, "floor": self.floor, "ceiling": self.ceiling}
        return {name: images for name, images in sets.items() if images} | dict(self.planted)

    def parts(self, metric: Metric) -> dict[str, Measure]:
        """Return the measurements of one metric, by image set."""
        return {
            name: Measure(
                metric=metric,
                images=images,
                calibration=self.calibration,
                documents=self.tokens,
                tokenizer=self.tokenizer,
                index=self.index,
                seed=self.seed,
                num_skipped=self.ceiling.num_images,
                max_images=self.max_reference_images,
                near_duplicate_rms=self.near_duplicate_rms,
            )
            for name, images in self.sets.items()
        }

    def lacks(self, metric: Metric) -> dict[str, str]:
        """Return the image sets that a metric cannot measure, with the reasons."""
        ragged = self.tokenizer.spec.ragged
        found = {name: lacking(metric, images, ragged=ragged) for name, images in self.sets.items()}
        return {name: reason for name, reason in found.items() if reason}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Make all measurements, then write them as one record."""
        record = empty_record()
        record["sizes"] = {which: images.num_images for which, images in self.sets.items()}
        curves: Curves = {}
        made: list[FinishedMeasurement] = []
        task = context.progress.start("evaluate", len(self.metrics) * len(self.sets), "measures")
        for metric in self.metrics:
            lacks = self.lacks(metric)
            if "generated" in lacks:
                record["skipped"][metric.name] = lacks["generated"]
                context.progress.advance(task, len(self.sets))
                continue
            measured: dict[str, Measurement] = {}
            for which, stage in self.parts(metric).items():
                if which not in lacks:
                    made.append(context.make(stage))
                    measured[which] = made[-1].measurement
                    curves.setdefault(which, {}).update(measured[which].curves)
                context.progress.advance(task)
            for score in measured["generated"].scalars.keys() & record["scores"].keys():
                raise ConfigError(
                    f"two metrics write the score {score!r}; give their encoders different names, "
                    f"for example metric.{metric.name}.encoder.name=..."
                )
            for section, entries in combine(measured, metric=metric, lacks=lacks).items():
                record[section].update(entries)
        context.progress.finish(task)
        write_parts(out, kind=Measure.kind, parts=[part.artifact for part in made])
        write_record(out, record, curves)
        return {
            "num_metrics": len(self.metrics),
            "num_sets": len(self.sets),
            "num_scores": len(record["scores"]),
        }

    def load(self, artifact: Artifact) -> Evaluation:
        """Return the scores."""
        return Evaluation(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee one metric after the other, counting shared features and matches once."""
        counts = [images.num_images for images in self.sets.values()]
        if found := at.find(self):
            measured = len(self.metrics) * len(counts)
            return Cost.found(found, images=sum(counts), parts=measured)
        parts = [part for metric in self.metrics for part in self.parts(metric).values()]
        costs = [part.forecast(at) for part in parts]
        missing = [part for part, cost in zip(parts, costs, strict=True) if not cost.cached]
        shared = {name: stage for part in missing for name, stage in part.shared().items()}
        asked = [stage.forecast(at) for stage in shared.values()]
        artifact, whole = at.expect(self, {}), Cost.together(costs, at_once=1)
        return replace(
            whole,
            artifact=artifact,
            seconds=whole.seconds + sum(cost.seconds for cost in asked),
            handle=self.load(artifact),
            images=sum(counts),
            disk_bytes=scores_bytes(sum(cost.images for cost in costs))
            + sum(cost.disk_bytes for cost in asked),
            memory_bytes=PROCESS_BYTES
            + ENGINE_BYTES  # which replays leave behind
            + max((cost.memory_bytes for cost in asked), default=0),
        )


def scores_bytes(num_images: int) -> int:
    """Return the bytes of scores and curves, once by metric and once together."""
    return _SCORES_BYTES + _SCORES_BYTES_AN_IMAGE * num_images


def empty_record() -> dict[str, Any]:
    """Return the sections of ``scores.json``, without a score."""
    sections = ("sizes", "scores", "infos", "values", "intervals", "notes", "recipes", "skipped")
    return {section: {} for section in sections}


def combine(
    measured: Mapping[str, Measurement], *, metric: Metric, lacks: Mapping[str, str]
) -> dict[str, Any]:
    """Return the JSON record of one metric from its measurements.

    Args:
        measured: measurements by image set.
        metric: metric with the descriptions of its scores.
        lacks: image sets that it cannot measure, with the reasons.

    Returns:
        As :func:`empty_record`, by score name.
    """
    record, needs = empty_record(), tuple(sorted(metric.NEEDS))
    across = metric.across(measured) if hasattr(metric, "across") else {}
    named = {
        name: {which: one.scalars[name] for which, one in measured.items()}
        for name in measured["generated"].scalars
    }
    for name, parts in {**named, **{k: {"generated": v} for k, v in across.items()}}.items():
        own = parts["generated"]
        values = {which: finite(part.value) for which, part in parts.items()}
        score = Score(
            value=values["generated"],
            floor=values.get("floor"),
            ceiling=values.get("ceiling"),
            low=finite(own.low),
            high=finite(own.high),
            normalized=normalized(parts),
        )
        info = dataclasses.replace(find_info(metric.SCORES, name), needs=needs)
        record["scores"][name] = dataclasses.asdict(score)
        record["infos"][name] = dataclasses.asdict(info)
        record["values"][name] = values
        record["intervals"][name] = {
            which: [finite(part.low), finite(part.high)] for which, part in parts.items()
        }
        reasons = _reasons(measured, parts, lacks) if name in named else [own.note]
        if note := "; ".join(filter(None, reasons)):
            record["notes"][name] = note
        record["recipes"][name] = measured["generated"].recipe
    return record


def normalized(parts: Mapping[str, Measured]) -> float | None:
    """Return the value on a scale from held-out (0) to training images (1).

    None if one of the three is missing, if the intervals of floor and ceiling overlap, or if
    neither has an interval: the metric may then not distinguish held-out from training images, and
    the ratio may be noise. (One of the two may have none: images that are all alike.)

    >>> of = lambda value, width=0.1: Measured(value=value, low=value - width, high=value + width)
    >>> normalized({"generated": of(0.3), "floor": of(0.2), "ceiling": of(1.2)})
    0.1
    >>> normalized({"generated": of(0.3), "floor": of(0.2), "ceiling": of(0.3)}) is None
    True
    """
    own, floor, ceiling = (parts.get(name) for name in SETS)
    if own is None or floor is None or ceiling is None:
        return None
    value, zero, one = (finite(part.value) for part in (own, floor, ceiling))
    if value is None or zero is None or one is None or zero == one:
        return None
    low, high = (floor, ceiling) if zero < one else (ceiling, floor)
    top, bottom = finite(low.high), finite(high.low)
    if top is None and bottom is None:
        return None
    if (min(zero, one) if top is None else top) >= (max(zero, one) if bottom is None else bottom):
        return None
    return round((value - zero) / (one - zero), 12)


def _reasons(
    measured: Mapping[str, Measurement], parts: Mapping[str, Measured], lacks: Mapping[str, str]
) -> list[str]:
    """Return the reasons why parts of a score are missing, or not comparable."""
    missing: dict[str, list[str]] = {}
    for which, reason in lacks.items():
        missing.setdefault(reason, []).append(which)
    for which, part in parts.items():
        if finite(part.value) is None:
            missing.setdefault(part.note or "not a finite number", []).append(which)
    reasons = [f"{', '.join(sets)}: {reason}" for reason, sets in missing.items()]
    size = measured["generated"].recipe.get("N")
    reasons += [
        f"{which}: N = {measurement.recipe['N']}, not {size}; fewer images read as farther"
        for which, measurement in measured.items()
        if which in SETS and measurement.recipe.get("N") != size
    ]
    if not {"floor"} & (parts.keys() | lacks.keys()):
        reasons.append("floor: the corpus has no held-out images")
    return reasons


def write_record(out: Path, record: dict[str, Any], curves: Curves) -> None:
    """Write ``scores.json`` and ``curves.npz`` (keys ``<set>/<curve>``)."""
    (out / SCORES).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    arrays = {
        f"{which}/{name}": array for which, named in curves.items() for name, array in named.items()
    }
    np.savez(out / "curves.npz", **arrays)  # type: ignore[arg-type]
