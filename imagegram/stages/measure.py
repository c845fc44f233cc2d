"""Measure: one metric of one image set, an artifact of its own.

So one more metric or image set costs only itself. Real images under another sampler have another
trace but the same tokens: a metric that reads no trace measures them once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
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
    TextEncoder,
    TextTokenizer,
    Tokenizer,
)
from imagegram.records import Features, Images, Measured, Measurement, Tokens, Trace
from imagegram.stages.cluster import Cluster
from imagegram.stages.decoding import captions_of_documents, decoded
from imagegram.stages.effort import Effort
from imagegram.stages.embed import Embed, EmbedReference, content_sha256
from imagegram.stages.match import Match
from imagegram.stages.needs import reads_trace
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact, Handle
from imagegram.store.stage import Context, Progress, Surroundings

Curves = dict[str, NDArray[np.float64]]
MEASUREMENT: Final = "measurement.json"
_CURVES: Final = "curves.npz"
#: Seconds of one core for an image, of a metric that says nothing.
_SECONDS: Final = 1.0e-2


@dataclass(frozen=True, kw_only=True)
class TrainingReference:
    """The training corpus as the input of metrics (a ``Reference``); shared inputs are cached.

    Attributes:
        index: index of all training documents.
        documents, tokenizer: training documents, and their decoder.
        calibration: held-out images for thresholds; None: too few are held out.
        seed: seed of subsets and resampling.
        image_size: side of the measured images in pixels; 0 for texts.
        num_skipped: number of documents in the ceiling, see :class:`EmbedReference`.
        max_images: largest number of reference images.
        near_duplicate_rms: bound of near-duplicates, see :class:`Cluster`.
        context: context that makes features, matches, clusters.
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
        """Layout of the tokenizer."""
        return self.tokenizer.spec.layout

    @property
    def vocab_size(self) -> int:
        """Vocabulary size of the tokenizer."""
        return self.tokenizer.spec.vocab_size

    @property
    def workers(self) -> int:
        """Number of threads that a metric may use."""
        return self.context.workers

    @property
    def progress(self) -> Progress:
        """Progress bars."""
        return self.context.progress

    def match_lengths(self, images: ImageSet) -> NDArray[np.integer[Any]]:
        """Return the (B, T) longest matches of an image set in the index."""
        return self.context.make(Match(index=self.index, images=images)).lengths

    def features(self, encoder: Encoder | TextEncoder, images: ImageSet) -> Features:
        """Return the (B, D) features of an image set."""
        return self.context.make(Embed(encoder=encoder, images=images)).features

    def reference_features(self, encoder: Encoder | TextEncoder) -> Features:
        """Return the (R, D) features of training images that are not in the ceiling."""
        return self._training_features(encoder, self.num_skipped, self.max_images)

    def training_features(self, encoder: Encoder) -> Features:
        """Return the (N, D) features of all training images, in any order."""
        return self._training_features(encoder, 0, self.documents.num_documents)

    def _training_features(
        self, encoder: Encoder | TextEncoder, num_skipped: int, max_images: int
    ) -> Features:
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

    def decode(
        self, tokens_BT: Tokens, *, documents: NDArray[np.integer[Any]] | None = None
    ) -> Any:
        """Return the items of (B, T) tokens; images of the size of the measured ones.

        Args:
            tokens_BT: ids.
            documents: (B,) training documents that they are of; None: of none that is known.
        """
        captions = None
        if documents is not None:
            captions = captions_of_documents(self.tokenizer, self.documents, documents)
        return decoded(
            self.tokenizer, tokens_BT, captions=captions, output_size=self.image_size or None
        )

    def offsets(self, tokens_T: Tokens) -> NDArray[np.int64]:
        """Return the (T + 1,) characters of a text before each token, and of all of it."""
        assert isinstance(self.tokenizer, TextTokenizer), "only texts have characters"
        return self.tokenizer.offsets(tokens_T)

    def clusters(self) -> NDArray[np.int64]:
        """Return the (N,) cluster of near-duplicates of each training document."""
        stage = Cluster(
            documents=self.documents,
            near_duplicate_rms=self.near_duplicate_rms,
            modality=self.tokenizer.modality,
        )
        return self.context.make(stage).labels


@dataclass(frozen=True, kw_only=True)
class Untraced:
    """An image set without its trace, for metrics that do not list it in ``NEEDS``.

    Attributes:
        inner: whole image set.
    """

    inner: ImageSet

    def identity(self) -> Any:
        """Return the identity of the whole set."""
        return identity(self.inner)

    @property
    def num_images(self) -> int:
        """Number of images, B."""
        return self.inner.num_images

    @property
    def tokens(self) -> Tokens:
        """(B, T) uint16 tokens."""
        return self.inner.tokens

    @property
    def images(self) -> Any:
        """(B, S, S, 3) uint8 images, or None."""
        return self.inner.images

    @property
    def texts(self) -> Any:
        """B texts, or None."""
        return self.inner.texts

    @property
    def sentences(self) -> Any:
        """Sentences of each of B rows, or None."""
        return getattr(self.inner, "sentences", None)

    @property
    def originals(self) -> Images | None:
        """(B, S, S, 3) uint8 original files, or None."""
        return self.inner.originals

    @property
    def row_documents(self) -> NDArray[np.int64] | None:
        """(B,) document that each row is a window of, or None."""
        return self.inner.row_documents

    @property
    def continued(self) -> Any:
        """Refused, as the trace is: what was continued is no part of the identity."""
        raise ConfigError("a metric asked for what samples continue; name continued in its NEEDS")

    @property
    def trace(self) -> Trace:
        """Refused: the measurement is cached without the trace in its identity."""
        raise ConfigError(
            "a metric asked for a trace that it does not need; name the array in its NEEDS, for "
            "example trace.entropy"
        )


@dataclass(frozen=True, kw_only=True)
class FinishedMeasurement(Handle):
    """A finished measurement."""

    @cached_property
    def measurement(self) -> Measurement:
        """Scores and curves of the metric."""
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
    """The stage that measures one metric of one image set.

    Attributes:
        metric: metric.
        images: image set.
        calibration, documents, tokenizer, index, seed, num_skipped, max_images,
            near_duplicate_rms: see :class:`TrainingReference`.
    """

    kind: ClassVar[str] = "measurement"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (Cluster, Embed, EmbedReference, Match)
    RATE: ClassVar[PerUnit] = PerUnit("num_images", like="metric", seconds=1.0)
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
        """Return the identity: all fields; image sets by content if the metric reads no trace."""
        fields = {f.name: identity(getattr(self, f.name)) for f in dataclasses.fields(self)}
        if not reads_trace(self.metric):
            fields["images"] = _content(self.images)
        if self.calibration is not None:
            fields["calibration"] = _content(self.calibration)
        return {"class": type(self).__name__, "version": self.VERSION, **fields}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Measure, then write scores and curves."""
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
            **self._counts,
            "num_scores": len(measurement.scalars),
        }

    @property
    def _counts(self) -> dict[str, int]:
        """Return what its duration grows with; held-out images set thresholds."""
        held_out = self.calibration.num_images if self.calibration else 0
        return {
            "num_images": self.images.num_images,
            "num_searched": self.images.num_images + held_out,
            "num_documents": self.documents.num_documents,
            "num_tokens": self.tokenizer.spec.length,
        }

    def units(self, facts: Mapping[str, Any]) -> float:
        """Return the seconds that one core is expected to take, by the facts of a measurement."""
        effort: Effort | None = getattr(self.metric, "EFFORT", None)
        if effort is None or "num_documents" not in facts:
            seconds: float = getattr(self.metric, "SECONDS", _SECONDS)
            return seconds * int(facts["num_images"])
        return effort.seconds(
            images=facts["num_searched"],
            documents=facts["num_documents"],
            tokens=facts["num_tokens"],
        )

    def load(self, artifact: Artifact) -> FinishedMeasurement:
        """Return the measurement."""
        return FinishedMeasurement(artifact=artifact)

    def shared(self) -> dict[str, Match | Embed | EmbedReference]:
        """Return the stages whose results the metric shares with others, by a unique name."""
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
        """Foresee the seconds, without those of features and matches."""
        if found := at.find(self):
            return Cost.found(found)
        rate = at.rate(self)
        seconds = rate.shared(self.units(self._counts), at.workers)
        return Cost(images=self.images.num_images, seconds=seconds, source=rate.source)


def image_size(images: ImageSet) -> int:
    """Return the side of the images of a set in pixels; 0 for texts."""
    pictures = getattr(images, "images", None)
    return 0 if pictures is None else int(pictures.shape[1])


def _content(images: ImageSet) -> dict[str, Any]:
    """Return the identity of a set without its trace: tokens, image size, its documents."""
    return {
        "tokens": content_sha256(images.tokens),
        "image_size": image_size(images),
        "originals": getattr(images, "documents_identity", None),
    }


def _plain(measured: Measured) -> dict[str, Any]:
    """Return the JSON of one score; a value that is not finite is null, with a note."""
    value = finite(measured.value)
    note = measured.note if value is not None else measured.note or "not a finite number"
    return {
        "value": value,
        "low": finite(measured.low),
        "high": finite(measured.high),
        "note": note,
    }


def finite(value: float | None) -> float | None:
    """Return a finite number, or None for any other value."""
    return None if value is None or not np.isfinite(value) else float(value)
