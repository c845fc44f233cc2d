"""``kd_<encoder>``: kernel distance of features of images or texts; unbiased, usable at small N."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.intervals import MIN_IMAGES
from imagegram.metrics.features import compared_features, score_suffix, undefined
from imagegram.metrics.functional import kernel_distance
from imagegram.protocols import Encoder, ImageSet, Reference, TextEncoder
from imagegram.records import Measured, Measurement, ScoreInfo


@dataclass(frozen=True, kw_only=True)
class KernelMetric:
    """Unbiased squared MMD, polynomial kernel of degree 3, all pairs; jackknife interval.

    It can be negative, and it can miss collages: read it together with density and coverage.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
    """

    VERSION: ClassVar[int] = 1
    SECONDS: ClassVar[float] = 4.0e-4
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="kd_{encoder}",
            title="kernel distance",
            headline=4,
            words="Kernel distance of {encoder} features to training images. Lower is closer; "
            "unbiased.",
            better="lower",
            group="quality",
            rank=1,
            short="kid",
        ),
    )

    name: str = "kernel"
    encoder: Encoder

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the reference features."""
        return measured_kernel(self.encoder, "images", generated=generated, reference=reference)


@dataclass(frozen=True, kw_only=True)
class TextKernelMetric:
    """The same of texts: how far vectors of generated texts are from those of training texts.

    A text is embedded as a sentence is, mean over its tokens, from its beginning to the most tokens
    that are read. The training texts are windows as long as the samples.

    Attributes:
        name: name of this metric in the configuration.
        embedder: makes vectors of texts; its name is part of the score's.
    """

    VERSION: ClassVar[int] = 3
    SECONDS: ClassVar[float] = 5.0e-2
    NEEDS: ClassVar[frozenset[str]] = frozenset({"text"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="kd_text_{encoder}",
            title="kernel distance of texts",
            words="Kernel distance of {encoder} vectors to training texts. Lower is closer; "
            "unbiased.",
            better="lower",
            group="quality",
            rank=2,
            short="kd_text",
        ),
    )

    name: str = "kd_minilm"
    embedder: SentenceEmbedder = field(default_factory=SentenceEmbedder)

    @property
    def encoder(self) -> SentenceEmbedder:
        """The embedder, whose features are made once and shared."""
        return self.embedder

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one set of texts against training texts."""
        return measured_kernel(
            self.embedder, "texts", generated=generated, reference=reference, of_texts=True
        )


def measured_kernel(
    encoder: Encoder | TextEncoder,
    nouns: str,
    *,
    generated: ImageSet,
    reference: Reference,
    of_texts: bool = False,
) -> Measurement:
    """Return the kernel distance of the features of one set to the reference features.

    Args:
        encoder: computes the features.
        nouns: what is counted while it takes its time.
        generated: the set.
        reference: training corpus.
        of_texts: whether features are vectors of texts, which have length 1.
    """
    features = compared_features(encoder, generated=generated, reference=reference)
    score = f"kd_{'text_' * of_texts}{score_suffix(encoder)}"
    if (reason := features.too_few(2)) is not None:
        return Measurement(scalars={score: undefined(reason)}, curves={}, recipe=features.recipe)
    total = len(features.generated) + len(features.reference)
    task = reference.progress.start("kernel distance", total, nouns)
    length = features.generated.shape[1] ** 0.5 if of_texts else 1.0
    distance = kernel_distance(
        generated=np.asarray(features.generated) * np.float32(length),
        reference=np.asarray(features.reference) * np.float32(length),
        documents=generated.row_documents,
        workers=reference.workers,
        advance=lambda images: reference.progress.advance(task, images),
    )
    reference.progress.finish(task)
    measured = Measured(value=distance.value)
    if distance.num_left_out >= MIN_IMAGES and np.isfinite(distance.standard_error):
        from scipy.stats import t

        half = float(t.ppf(0.975, distance.num_left_out - 1)) * distance.standard_error
        measured = Measured(
            value=distance.value, low=distance.value - half, high=distance.value + half
        )
    return Measurement(scalars={score: measured}, curves={}, recipe=features.recipe)
