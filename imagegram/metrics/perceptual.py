"""``near_dup_rate_fpr1pct``: whole images that are nearer to a training image than held-out ones.

Three published tests of copying, each with a threshold of its own that at most 1 % of held-out
images fall below. They detect copies and noisy copies, but not collages of several images: read
them together with ``patch_copy_rate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from imagegram.metrics.features import all_finite, feature_recipe, undefined
from imagegram.metrics.hashes import DifferenceHash, nearest_hash
from imagegram.metrics.nearest import nearest_rows
from imagegram.metrics.thresholds import calibration_recipe, flagged_rate
from imagegram.protocols import Encoder, ImageSet, Reference
from imagegram.records import Features, Measurement, ScoreInfo
from imagegram.stages.effort import Effort

#: Neighbours and scale of the adaptive distance, as published (Carlini et al. 2023).
_NEIGHBOURS: Final = 50
_ALPHA: Final = 0.5
_SCORES: Final = {
    "near_dup_rate_fpr1pct": "near_dup_bits",
    "near_dup_features_rate_fpr1pct": "near_dup_distance",
    "carlini_rate_fpr1pct": "carlini_score",
}


@dataclass(frozen=True, kw_only=True)
class PerceptualMetric:
    """Rates of near-duplicates of training images, at 1 % false positives on held-out images.

    ``near_dup_rate_fpr1pct``: by the Hamming distance of 64-bit dHashes (``metrics/hashes.py``) to
    the nearest training image, original or as the tokenizer gives it back.
    ``near_dup_features_rate_fpr1pct``: by the Euclidean distance of features to those of the
    nearest training image. ``carlini_rate_fpr1pct``: by that distance divided by half of the mean
    distance to the 50 nearest (the adaptive distance of Carlini et al., "Extracting training data
    from diffusion models", USENIX Security 2023, in feature space); blind where a training image
    has 50 duplicates.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
    """

    VERSION: ClassVar[int] = 1
    EFFORT: ClassVar[Effort] = Effort(image=1e-4, pair=1e-7)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images", "training_features"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="near_dup_rate_fpr1pct",
            title="near-duplicates",
            words="Samples nearer to a training image than 99 % of held-out ones, by difference "
            "hashes. Blind to collages.",
            unit="% of samples",
            better="lower",
            group="copying",
            short="near_dup_rate_fpr1pct",
            per_image=("near_dup_bits",),
        ),
        ScoreInfo(
            name="near_dup_features_rate_fpr1pct",
            title="near-duplicates by features",
            words="Samples nearer to a training image than 99 % of held-out ones, by features. "
            "Blind to collages.",
            unit="% of samples",
            better="lower",
            group="copying",
            per_image=("near_dup_distance",),
        ),
        ScoreInfo(
            name="carlini_rate_fpr1pct",
            title="near-duplicates by Carlini's ratio",
            words="Samples nearer to a training image, compared with 50 neighbours, than 99 % of "
            "held-out ones. Blind to collages and to what the corpus holds 50 times.",
            unit="% of samples",
            better="lower",
            group="copying",
            per_image=("carlini_score",),
        ),
    )

    name: str = "perceptual"
    encoder: Encoder

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against all training images; takes B N D multiplications."""
        calibration = reference.calibration
        sets = [generated] if calibration is None else [generated, calibration]
        features = [reference.features(self.encoder, images) for images in sets]
        training = reference.training_features(self.encoder)
        found = {"near_dup_bits": _nearest_hashes(sets, reference)}
        found |= _nearest_features(np.concatenate(features), training, reference)
        size = generated.num_images
        recipe = feature_recipe(self.encoder, generated=features[0], reference=training)
        recipe["calibration"] = calibration_recipe(sum(images.num_images for images in sets) - size)
        return Measurement(
            scalars={
                score: flagged_rate(found[curve][:size], found[curve][size:])
                if curve in found
                else undefined("features are not finite, or too few training images")
                for score, curve in _SCORES.items()
            },
            curves={curve: distances[:size] for curve, distances in found.items()},
            recipe=recipe,
        )


def _nearest_hashes(sets: Sequence[ImageSet], reference: Reference) -> NDArray[np.float64]:
    """Return the (B,) bits that differ between each image and the nearest training image."""
    encoder = cast(Encoder, DifferenceHash())

    def training() -> Iterator[Features]:
        yield reference.training_features(encoder)
        for _, thumbnails in reference.documents.sketch_blocks():
            yield encoder.encode(thumbnails)

    hashes = np.concatenate([reference.features(encoder, images) for images in sets])
    return nearest_hash(hashes, training(), workers=reference.workers)


def _nearest_features(
    features: Features, training: Features, reference: Reference
) -> dict[str, NDArray[np.float64]]:
    """Return (B,) numbers by curve name; undefined curves are left out."""
    if not (all_finite(features) and all_finite(training)):
        return {}
    task = reference.progress.start("nearest training images", len(training), "images")
    distances = nearest_rows(
        features,
        training,
        k=_NEIGHBOURS,
        workers=reference.workers,
        advance=lambda rows: reference.progress.advance(task, rows),
    ).distances
    reference.progress.finish(task)
    found = {"near_dup_distance": distances[:, 0]}
    if distances.shape[1] == _NEIGHBOURS:
        found["carlini_score"] = adaptive(distances)
    return found


def adaptive(distances_BK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B,) adaptive distances from the sorted K nearest: small if one is much nearer.

    >>> adaptive(np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]])).tolist()
    [1.0, 2.0, 2.0]
    """
    nearest, means = distances_BK[:, 0], distances_BK.mean(axis=1)
    # All at 0: equally near, treated like equal distances elsewhere.
    ratios = np.divide(nearest, means, out=np.ones(len(means)), where=means > 0)
    return np.asarray(ratios / _ALPHA)
