"""Measure: one metric asked of one image set, an artifact of its own.

So one more metric, or one more image set, costs only itself. Real images under another sampler
have another trace but the same tokens: a metric that reads no trace measures them once.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.layout import TokenLayout
from imagegram.protocols import (
    Encoder,
    ImageSet,
    Index,
    Metric,
    Tokenizer,
)
from imagegram.records import Features, Images, Measured, Measurement, Tokens, Trace
from imagegram.stages.cluster import Cluster
from imagegram.stages.embed import Embed, EmbedReference, content_sha256
from imagegram.stages.match import Match
from imagegram.stages.needs import reads_trace
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Progress, Surroundings

Curves = dict[str, NDArray[np.float64]]
MEASUREMENT: Final = "measurement.json"
_CURVES: Final = "curves.npz"


@dataclass(frozen=True, kw_only=True)
class TrainingReference:
    """The training corpus, as metrics see it; what several metrics need is made once and cached.

    Attributes:
        index: over all training documents.
        documents, tokenizer: the training documents, and what decodes them.
        calibration: held-out images that thresholds are set on; None: too few are held out.
        seed: of subsets and resampling.
        image_size: side of the measured images in pixels; 0: they are no pictures.
        num_skipped: documents that the ceiling took, see :class:`EmbedReference`.
        max_images: reference images.
        near_duplicate_rms: of one cluster's thumbnails, see :class:`Cluster`.
        context: makes features, matches, clusters.
    """

    index: Index
    documents: TokenSet
    tokenizer: Tokenizer
    calibration: ImageSet | None
    seed: int
    image_size: int
    num_skipped: int
    max_images: int
    near_duplicate_rms: float
    context: Context

    @property
    def layout(self) -> TokenLayout:
        """Of the tokenizer."""
        return self.tokenizer.spec.layout

    @property
    def vocab_size(self) -> int:
        """Of the tokenizer."""
        return self.tokenizer.spec.vocab_size

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
        return self.context.make(Match(index=self.index, images=images)).lengths

    def features(self, encoder: Encoder, images: ImageSet) -> Features:
        """(B, D) features of an image set."""
        return self.context.make(Embed(encoder=encoder, images=images)).features

    def reference_features(self, encoder: Encoder) -> Features:
        """(R, D) features of training images, the ceiling's left out."""
        return self._training_features(encoder, self.num_skipped, self.max_images)

    def training_features(self, encoder: Encoder) -> Features:
        """(N, D) features of all training images, in no particular order."""
        return self._training_features(encoder, 0, self.documents.num_documents)

    def _training_features(self, encoder: Encoder, num_skipped: int, max_images: int) -> Features:
        stage = EmbedReference(
            encoder=encoder,
            tokens=self.documents,
            tokenizer=self.tokenizer,
            image_size=self.image_size,
            num_skipped=num_skipped,
            max_images=max_images,
            seed=self.seed,
        )
        return self.context.make(stage).features

    def decode(self, tokens_BT: Tokens) -> Images:
        """(B, T) tokens to pictures of the size of the measured ones."""
        images: Images = self.tokenizer.decode(tokens_BT, output_size=self.image_size)
        return images

    def clusters(self) -> NDArray[np.int64]:
        """(N,) cluster of near-duplicates of each training document."""
        stage = Cluster(
            documents=self.documents,
            near_duplicate_rms=self.near_duplicate_rms,
            modality=self.tokenizer.modality,
        )
        return self.context.make(stage).labels


@dataclass(frozen=True, kw_only=True)
class Untraced:
    """An image set for metrics that promised not to read its trace.

    Attributes:
        inner: the whole set.
    """

    inner: ImageSet

    def identity(self) -> Any:
        """That of the whole set."""
        return identity(self.inner)

    @property
    def num_images(self) -> int:
        """B."""
        return self.inner.num_images

    @property
    def tokens(self) -> Tokens:
        """(B, T) uint16."""
        return self.inner.tokens

    @property
    def images(self) -> Any:
        """(B, S, S, 3) uint8, or None."""
        return self.inner.images

    @property
    def texts(self) -> Any:
        """B texts, or None."""
        return self.inner.texts

    @property
    def originals(self) -> Images | None:
        """(B, S, S, 3) uint8, or None."""
        return self.inner.originals

    @property
    def trace(self) -> Trace:
        """Refused: the measurement would be believed for another trace too."""
        raise ConfigError(
            "a metric asked for a trace that it does not need; name the array in its NEEDS, for "
            "example trace.entropy"
        )


@dataclass(frozen=True, kw_only=True)
class FinishedMeasurement:
    """A finished measurement."""

    artifact: Artifact

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def measurement(self) -> Measurement:
        """What the metric said."""
        record = json.loads((self.artifact.path / MEASUREMENT).read_text())
        with np.load(self.artifact.path / _CURVES) as arrays:
            curves = {name: arrays[name] for name in arrays.files}
        return Measurement(
            scalars={name: Measured(**parts) for name, parts in record["scalars"].items()},
            curves=curves,
            recipe=record["recipe"],
        )


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The stage that asks.

    Attributes:
        metric: the question.
        images: of whom.
        calibration, documents, tokenizer, index, seed, num_skipped, max_images,
            near_duplicate_rms: see :class:`TrainingReference`.
    """

    kind: ClassVar[str] = "measurement"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (Cluster, Embed, EmbedReference, Match)
    RATE: ClassVar[PerUnit] = PerUnit("num_images", like="metric", seconds=1.0e-2)
    metric: Metric
    images: ImageSet
    calibration: ImageSet | None
    documents: TokenSet
    tokenizer: Tokenizer
    index: Index
    seed: int
    num_skipped: int
    max_images: int
    near_duplicate_rms: float

    def identity(self) -> dict[str, Any]:
        """All fields; image sets by their content where the metric reads no trace."""
        fields = {f.name: identity(getattr(self, f.name)) for f in dataclasses.fields(self)}
        if not reads_trace(self.metric):
            fields["images"] = _content(self.images)
        if self.calibration is not None:
            fields["calibration"] = _content(self.calibration)
        return {"class": type(self).__name__, "version": self.VERSION, **fields}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Ask, write scores and curves."""
        reference = TrainingReference(
            index=self.index,
            documents=self.documents,
            tokenizer=self.tokenizer,
            calibration=self.calibration,
            seed=self.seed,
            image_size=image_size(self.images),
            num_skipped=self.num_skipped,
            max_images=self.max_images,
            near_duplicate_rms=self.near_duplicate_rms,
            context=context,
        )
        images = self.images if reads_trace(self.metric) else Untraced(inner=self.images)
        measurement = self.metric.measure(generated=images, reference=reference)
        record = {
            "scalars": {name: _plain(measured) for name, measured in measurement.scalars.items()},
            "recipe": measurement.recipe,
        }
        (out / MEASUREMENT).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
        arrays = {
            name: np.asarray(array, dtype=np.float64) for name, array in measurement.curves.items()
        }
        np.savez(out / _CURVES, **arrays)  # type: ignore[arg-type]
        return {
            "metric": self.metric.name,
            "num_images": self.images.num_images,
            "num_scores": len(measurement.scalars),
        }

    def load(self, artifact: Artifact) -> FinishedMeasurement:
        """Open what was said."""
        return FinishedMeasurement(artifact=artifact)

    def shared(self) -> dict[str, Match | Embed | EmbedReference]:
        """Return what the metric asks for and others find again, each under a name of its own."""
        images, metric = self.images.identity(), self.metric
        shared: dict[str, Match | Embed | EmbedReference] = {}
        if "matches" in metric.NEEDS:
            shared[f"matches {images}"] = Match(index=self.index, images=self.images)
        if not hasattr(metric, "encoder"):
            return shared
        encoder, side = metric.encoder, self.images.artifact.facts.get("image_size", 0)  # type: ignore[attr-defined]
        name = repr(identity(encoder))
        shared[f"{name} {images}"] = Embed(encoder=encoder, images=self.images)
        taken = [(self.num_skipped, self.max_images)]
        if "training_features" in metric.NEEDS:
            taken.append((0, self.documents.num_documents))
        for num_skipped, max_images in taken:
            shared[f"{name} {num_skipped} {max_images}"] = EmbedReference(
                encoder=encoder,
                tokens=self.documents,
                tokenizer=self.tokenizer,
                image_size=side,
                num_skipped=num_skipped,
                max_images=max_images,
                seed=self.seed,
            )
        return shared

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee the seconds, those of features and matches included."""
        if found := at.find(self):
            return Cost.found(found)
        rate = at.rate(self, builtin=getattr(self.metric, "SECONDS", None))
        seconds = rate.seconds * self.images.num_images
        return Cost(images=self.images.num_images, seconds=seconds, source=rate.source)


def image_size(images: ImageSet) -> int:
    """Side of a set's pictures in pixels; 0: its items are no pictures."""
    pictures = getattr(images, "images", None)
    return 0 if pictures is None else int(pictures.shape[1])


def _content(images: ImageSet) -> dict[str, Any]:
    """What a set is to a metric that reads no trace: tokens, size, and whether it has originals."""
    return {
        "tokens": content_sha256(images.tokens),
        "image_size": image_size(images),
        "originals": getattr(images, "originals_identity", None),
    }


def _plain(measured: Measured) -> dict[str, Any]:
    """JSON of one number; what is not finite is missing, and says so."""
    value = finite(measured.value)
    note = measured.note if value is not None else measured.note or "not a finite number"
    return {
        "value": value,
        "low": finite(measured.low),
        "high": finite(measured.high),
        "note": note,
    }


def finite(value: float | None) -> float | None:
    """The number, or None for what JSON cannot say."""
    return None if value is None or not np.isfinite(value) else float(value)
