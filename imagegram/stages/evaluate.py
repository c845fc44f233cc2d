"""Evaluate: every metric asked of generated, real and planted images, in the same way.

Value, floor and ceiling of a score come from one function on image sets of equal size; so do the
planted sets, of which it is known what was copied. A number that is not defined is ``null`` with a
reason in ``notes``, never NaN.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.protocols import ImageSet, Index, Metric, Tokenizer
from imagegram.records import Measured, Measurement, ScoreInfo, find_info
from imagegram.stages.embed import TORCH_BYTES, features_bytes
from imagegram.stages.match import MATCH_BYTES, Match
from imagegram.stages.measure import FinishedMeasurement, Measure, finite
from imagegram.stages.needs import lacking
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import PROCESS_BYTES, Cost
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact
from imagegram.store.parts import write_parts
from imagegram.store.stage import Context, Surroundings

#: Names of the first image sets in ``curves.npz`` and ``scores.json``; planted ones follow.
SETS: Final = ("generated", "floor", "ceiling")
#: scores.json and curves.npz of all metrics: fixed part, and the part of each measured image.
_SCORES_BYTES: Final = 400_000
_SCORES_BYTES_AN_IMAGE: Final = 1_000
#: Everything but the curves.
SCORES: Final = "scores.json"
Curves = dict[str, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of a run; every part may be missing.

    Attributes:
        value: of the generated images.
        floor: of held-out real images; None without a held-out set.
        ceiling: of training images.
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
class Evaluation:
    """What the metrics said.

    Attributes:
        artifact: of the stage.
    """

    artifact: Artifact

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def record(self) -> dict[str, Any]:
        """``scores.json``: scores, what is known of each, and which metrics were left out."""
        record: dict[str, Any] = json.loads((self.artifact.path / SCORES).read_text())
        return record

    @cached_property
    def scores(self) -> dict[str, Score]:
        """By score name, in the order of the metrics."""
        return {name: Score(**parts) for name, parts in self.record["scores"].items()}

    @property
    def values(self) -> dict[str, dict[str, float | None]]:
        """Score name -> image set -> value; planted sets included."""
        return dict(self.record["values"])

    @property
    def intervals(self) -> dict[str, dict[str, tuple[float | None, float | None]]]:
        """Score name -> image set -> (low, high)."""
        return {
            name: {which: (low, high) for which, (low, high) in sets.items()}
            for name, sets in self.record["intervals"].items()
        }

    @property
    def notes(self) -> dict[str, str]:
        """Score name -> why a part of it is missing."""
        return dict(self.record["notes"])

    @property
    def recipes(self) -> dict[str, dict[str, str]]:
        """Score name -> what numbers must share to be comparable."""
        return dict(self.record["recipes"])

    @cached_property
    def infos(self) -> dict[str, ScoreInfo]:
        """Score name -> words, unit, direction ..."""
        return {name: ScoreInfo.of(info) for name, info in self.record["infos"].items()}

    @property
    def skipped(self) -> dict[str, str]:
        """Metric name -> why it was left out."""
        return dict(self.record["skipped"])

    @cached_property
    def curves(self) -> Curves:
        """Image set -> curve name -> array; NaN where a curve is not defined."""
        curves: Curves = {}
        with np.load(self.artifact.path / "curves.npz") as arrays:
            for key in arrays.files:
                which, name = key.split("/")
                curves.setdefault(which, {})[name] = arrays[key]
        return curves


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """All metrics of an experiment, asked of all image sets; see :class:`Measure`.

    Attributes:
        metrics: the questions.
        generated: samples.
        floor: held-out images, replayed; None without a held-out set.
        ceiling: training images, replayed.
        planted: images whose copying is known, by name.
        calibration: held-out images that thresholds are set on; None without enough.
        tokens, tokenizer: the training documents, and what decodes them.
        index: over the training documents.
        seed: of subsets and resampling.
        near_duplicate_rms: of training images that count as one source.
        max_reference_images: training images that feature distances are measured against.
    """

    kind: ClassVar[str] = "evaluation"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 6
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
    def sets(self) -> dict[str, ImageSet]:
        """Every image set that is measured, by name."""
        sets = {"generated": self.generated, "floor": self.floor, "ceiling": self.ceiling}
        return {name: images for name, images in sets.items() if images} | dict(self.planted)

    def parts(self, metric: Metric) -> dict[str, Measure]:
        """The measurements of one metric, by image set."""
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
        """Image sets that a metric cannot be asked of, and why."""
        ragged = self.tokenizer.spec.ragged
        found = {name: lacking(metric, images, ragged=ragged) for name, images in self.sets.items()}
        return {name: reason for name, reason in found.items() if reason}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Make every measurement, then put them into one record."""
        record = empty_record()
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
        """Open the scores."""
        return Evaluation(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee metric after metric, and once what the missing measurements share."""
        counts = [images.num_images for images in self.sets.values()]
        if found := at.find(self):
            measured = len(self.metrics) * len(counts)
            return Cost.found(found, images=sum(counts), parts=measured)
        parts = [part for metric in self.metrics for part in self.parts(metric).values()]
        costs = [part.forecast(at) for part in parts]
        missing = [part for part, cost in zip(parts, costs, strict=True) if not cost.cached]
        shared = {name: stage for part in missing for name, stage in part.shared().items()}
        asked = [stage.forecast(at) for stage in shared.values()]
        encoders = {
            repr(identity(part.metric.encoder))
            for part in missing
            if hasattr(part.metric, "encoder")
        }
        rows = (sum(counts) + self.max_reference_images) * len(encoders)
        artifact = at.expect(self, {})
        return replace(
            Cost.together(costs, at_once=1),
            artifact=artifact,
            handle=self.load(artifact),
            images=sum(counts),
            disk_bytes=scores_bytes(sum(cost.images for cost in costs))
            + sum(cost.disk_bytes for cost in asked),
            memory_bytes=PROCESS_BYTES
            + (MATCH_BYTES if any(isinstance(stage, Match) for stage in shared.values()) else 0)
            + (TORCH_BYTES if encoders else 0)
            + features_bytes(rows),
        )


def scores_bytes(num_images: int) -> int:
    """Bytes of scores and curves of all metrics, once by metric and once together."""
    return _SCORES_BYTES + _SCORES_BYTES_AN_IMAGE * num_images


def empty_record() -> dict[str, Any]:
    """``scores.json`` without a score."""
    sections = ("scores", "infos", "values", "intervals", "notes", "recipes", "skipped")
    return {section: {} for section in sections}


def combine(
    measured: Mapping[str, Measurement], *, metric: Metric, lacks: Mapping[str, str]
) -> dict[str, Any]:
    """The JSON record of one metric from its measurements.

    Args:
        measured: by image set.
        metric: describes its scores.
        lacks: image sets that it could not be asked of, and why.

    Returns:
        As :func:`empty_record`, by score name.
    """
    record, needs = empty_record(), tuple(sorted(metric.NEEDS))
    for name in measured["generated"].scalars:
        parts = {which: one.scalars[name] for which, one in measured.items()}
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
        if reasons := _reasons(measured, parts, lacks):
            record["notes"][name] = "; ".join(reasons)
        record["recipes"][name] = measured["generated"].recipe
    return record


def normalized(parts: Mapping[str, Measured]) -> float | None:
    """Where the value lies between held-out (0) and training images (1).

    None where one of the three is missing, where the intervals of floor and ceiling meet, or where
    neither has one: it is then not known that the metric tells held-out from training images, and
    the ratio may be noise. (One alone may have none: images that are all alike.)

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
    """Why parts of a score are missing, or not comparable."""
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
