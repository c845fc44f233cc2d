"""Evaluate: every metric asked of generated, held-out and training images, in the same way.

Value, floor and ceiling of a score come from one function on three image sets of equal size. A
number that is not defined is ``null`` with a reason in ``notes``, never NaN.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.protocols import (
    Context,
    Encoder,
    FittedGenerator,
    ImageSet,
    Index,
    Metric,
    Progress,
    Tokenizer,
)
from imagegram.records import Features, Measured, Measurement
from imagegram.stages.embed import Embed, EmbedReference
from imagegram.stages.match import Match
from imagegram.stages.parts import write_parts
from imagegram.stages.tokens import TokenSet
from imagegram.store.artifacts import Artifact
from imagegram.tokenizers.layout import TokenLayout

#: Names of the three image sets in ``curves.npz`` and ``scores.json``.
SETS: Final = ("generated", "floor", "ceiling")
Curves = dict[str, dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of a run; every part may be missing.

    Attributes:
        value: of the generated images.
        floor: of held-out real images; None without a held-out set.
        ceiling: of training images.
        low, high: 95 % interval of ``value``.
    """

    value: float | None
    floor: float | None
    ceiling: float | None
    low: float | None = None
    high: float | None = None


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
        """``scores.json``: scores, intervals, notes and recipes, each by score name."""
        record: dict[str, Any] = json.loads((self.artifact.path / "scores.json").read_text())
        return record

    @cached_property
    def scores(self) -> dict[str, Score]:
        """By score name, in the order of the metrics."""
        return {name: Score(**parts) for name, parts in self.record["scores"].items()}

    @property
    def notes(self) -> dict[str, str]:
        """Score name -> why a part of it is missing."""
        return dict(self.record["notes"])

    @property
    def recipes(self) -> dict[str, dict[str, str]]:
        """Score name -> what numbers must share to be comparable."""
        return dict(self.record["recipes"])

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
class TrainingReference:
    """The training corpus, as metrics see it; features are made through the context, and shared.

    Attributes:
        model: a fitted generator that has an index.
        tokens, tokenizer: the training documents, and what decodes them.
        seed: of subsets and resampling.
        image_size: side of the measured images in pixels.
        num_skipped: documents that the ceiling took, see :class:`EmbedReference`.
        max_images: reference images.
        context: makes features.
    """

    model: FittedGenerator
    tokens: TokenSet
    tokenizer: Tokenizer
    seed: int
    image_size: int
    num_skipped: int
    max_images: int
    context: Context

    @property
    def index(self) -> Index:
        """The index over all training documents."""
        return self.model.index

    @property
    def layout(self) -> TokenLayout:
        """Of the tokenizer."""
        return self.tokenizer.layout

    @property
    def workers(self) -> int:
        """Threads that a metric may spend."""
        return self.context.workers

    @property
    def progress(self) -> Progress:
        """Where to report what takes seconds."""
        return self.context.progress

    def match_lengths(self, images: ImageSet) -> NDArray[np.integer[Any]]:
        """(B, T) longest matches of an image set in the index."""
        return self.context.make(Match(model=self.model, images=images)).lengths

    def features(self, encoder: Encoder, images: ImageSet) -> Features:
        """(B, D) features of an image set."""
        return self.context.make(Embed(encoder=encoder, images=images)).features

    def reference_features(self, encoder: Encoder) -> Features:
        """(R, D) features of training images."""
        stage = EmbedReference(
            encoder=encoder,
            tokens=self.tokens,
            tokenizer=self.tokenizer,
            image_size=self.image_size,
            num_skipped=self.num_skipped,
            max_images=self.max_images,
            seed=self.seed,
        )
        return self.context.make(stage).features


@dataclass(frozen=True, kw_only=True)
class MeasureMetric:
    """One metric, asked of the three image sets; the part that :class:`Evaluate` is made of.

    Attributes: those of :class:`Evaluate`, with one metric.
    """

    kind: ClassVar[str] = "scores"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (
        Embed,
        EmbedReference,
        Match,
    )
    metric: Metric
    generated: ImageSet
    floor: ImageSet | None
    ceiling: ImageSet
    tokens: TokenSet
    tokenizer: Tokenizer
    model: FittedGenerator
    seed: int
    max_reference_images: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Measure three times, write scores and curves."""
        reference = TrainingReference(
            model=self.model,
            tokens=self.tokens,
            tokenizer=self.tokenizer,
            seed=self.seed,
            image_size=int(self.generated.images.shape[1]),
            num_skipped=self.ceiling.num_images,
            max_images=self.max_reference_images,
            context=context,
        )
        sets = dict(zip(SETS, (self.generated, self.floor, self.ceiling), strict=True))
        task = context.progress.start(f"measure {self.metric.name}", len(sets), "image sets")
        measured: dict[str, Measurement] = {}
        for name, images in sets.items():
            if images is not None:
                measured[name] = self.metric.measure(generated=images, reference=reference)
            context.progress.advance(task)
        context.progress.finish(task)
        record = combine(measured)
        write_record(out, record, {name: m.curves for name, m in measured.items()})
        return {"metric": self.metric.name, "num_scores": len(record["scores"])}

    def load(self, artifact: Artifact) -> Evaluation:
        """Open the scores of one metric."""
        return Evaluation(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """All metrics of an experiment; each is an artifact of its own, so one more costs only itself.

    Attributes:
        metrics: the questions.
        generated: samples.
        floor: held-out images, replayed; None without a held-out set.
        ceiling: training images, replayed.
        tokens, tokenizer: the training documents, and what decodes them.
        model: a fitted generator that has an index.
        seed: of subsets and resampling.
        max_reference_images: training images that feature distances are measured against.
    """

    kind: ClassVar[str] = "evaluation"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (MeasureMetric,)
    metrics: tuple[Metric, ...]
    generated: ImageSet
    floor: ImageSet | None
    ceiling: ImageSet
    tokens: TokenSet
    tokenizer: Tokenizer
    model: FittedGenerator
    seed: int
    max_reference_images: int = 2000

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Make every metric's scores, then put them into one record."""
        shared = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "metrics"
        }
        record: dict[str, Any] = {"scores": {}, "intervals": {}, "notes": {}, "recipes": {}}
        curves: Curves = {}
        parts = [context.make(MeasureMetric(metric=metric, **shared)) for metric in self.metrics]
        write_parts(out, kind=MeasureMetric.kind, parts=[part.artifact for part in parts])
        for metric, part in zip(self.metrics, parts, strict=True):
            for score in part.scores.keys() & record["scores"].keys():
                raise ConfigError(
                    f"two metrics write the score {score!r}; give their encoders different names, "
                    f"for example metric.{metric.name}.encoder.name=..."
                )
            for section, entries in part.record.items():
                record[section].update(entries)
            for which, arrays in part.curves.items():
                curves.setdefault(which, {}).update(arrays)
        write_record(out, record, curves)
        return {"num_metrics": len(self.metrics), "num_scores": len(record["scores"])}

    def load(self, artifact: Artifact) -> Evaluation:
        """Open the scores."""
        return Evaluation(artifact=artifact)


def combine(measured: dict[str, Measurement]) -> dict[str, Any]:
    """The JSON record of one metric from its measurements by image set.

    Returns:
        ``scores``, ``intervals``, ``notes`` and ``recipes``, each by score name.
    """
    record: dict[str, Any] = {"scores": {}, "intervals": {}, "notes": {}, "recipes": {}}
    for name in measured["generated"].scalars:
        parts: dict[str, Measured] = {
            which: measurement.scalars[name] for which, measurement in measured.items()
        }
        own = parts["generated"]
        record["scores"][name] = dataclasses.asdict(
            Score(
                value=finite(own.value),
                floor=finite(parts["floor"].value) if "floor" in parts else None,
                ceiling=finite(parts["ceiling"].value) if "ceiling" in parts else None,
                low=finite(own.low),
                high=finite(own.high),
            )
        )
        record["intervals"][name] = {
            which: [finite(part.low), finite(part.high)] for which, part in parts.items()
        }
        missing: dict[str, list[str]] = {}
        for which, part in parts.items():
            if finite(part.value) is None:
                missing.setdefault(part.note or "not a finite number", []).append(which)
        reasons = [f"{', '.join(sets)}: {reason}" for reason, sets in missing.items()]
        size = measured["generated"].recipe.get("N")
        reasons += [
            f"{which}: N = {measurement.recipe['N']}, not {size}; fewer images read as farther"
            for which, measurement in measured.items()
            if measurement.recipe.get("N") != size
        ]
        if "floor" not in parts:
            reasons.append("floor: the corpus has no held-out images")
        if reasons:
            record["notes"][name] = "; ".join(reasons)
        record["recipes"][name] = measured["generated"].recipe
    return record


def finite(value: float | None) -> float | None:
    """The number, or None for what JSON cannot say."""
    return None if value is None or not math.isfinite(value) else float(value)


def write_record(out: Path, record: dict[str, Any], curves: Curves) -> None:
    """Write ``scores.json`` and ``curves.npz`` (keys ``<set>/<curve>``)."""
    (out / "scores.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    arrays = {
        f"{which}/{name}": np.asarray(array, dtype=np.float64)
        for which, named in curves.items()
        for name, array in named.items()
    }
    np.savez(out / "curves.npz", **arrays)  # type: ignore[arg-type]
