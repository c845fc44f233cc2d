"""``kd_<encoder>``: kernel distance of features (KID); unbiased, so usable at small N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from imagegram.metrics.features import compared_features, score_suffix, undefined
from imagegram.metrics.functional import kernel_distance
from imagegram.metrics.intervals import MIN_IMAGES
from imagegram.protocols import Encoder, ImageSet, Reference
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
    SECONDS: ClassVar[float] = 1.0e-3
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
        features = compared_features(self.encoder, generated=generated, reference=reference)
        score = f"kd_{score_suffix(self.encoder)}"
        if (reason := features.too_few(2)) is not None:
            return Measurement(
                scalars={score: undefined(reason)}, curves={}, recipe=features.recipe
            )
        total = len(features.generated) + len(features.reference)
        task = reference.progress.start("kernel distance", total, "images")
        distance = kernel_distance(
            generated=features.generated,
            reference=features.reference,
            workers=reference.workers,
            advance=lambda images: reference.progress.advance(task, images),
        )
        reference.progress.finish(task)
        measured = Measured(value=distance.value)
        if len(features.generated) >= MIN_IMAGES and np.isfinite(distance.standard_error):
            from scipy.stats import t

            half = float(t.ppf(0.975, len(features.generated) - 1)) * distance.standard_error
            measured = Measured(
                value=distance.value, low=distance.value - half, high=distance.value + half
            )
        return Measurement(scalars={score: measured}, curves={}, recipe=features.recipe)
