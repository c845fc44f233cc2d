from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from imagegram.encoders.pixels import PixelEncoder
from imagegram.metrics.hashes import DifferenceHash
from imagegram.metrics.perceptual import PerceptualMetric, adaptive
from imagegram.records import Measured
from tests.picture_sets import (
    PictureReference,
    PictureTokens,
    collages,
    digits,
    image_set,
    pictures,
    tokens_of,
)

METRIC = PerceptualMetric(encoder=PixelEncoder(resolution=8))
SCORES = ("near_dup_rate_fpr1pct", "near_dup_features_rate_fpr1pct", "carlini_rate_fpr1pct")
TRAINING = pictures(200, seed=0)
REFERENCE = PictureReference.of(TRAINING, pictures(300, seed=1))


def rates(images: np.ndarray, reference: PictureReference = REFERENCE) -> dict[str, Measured]:
    return METRIC.measure(generated=image_set(images), reference=reference).scalars


def test_planted_copies_are_recovered() -> None:
    images = pictures(200, seed=2)
    images[30:70] = TRAINING[100:140]
    for score, measured in rates(images).items():
        assert measured.low is not None, score
        assert measured.high is not None
        assert measured.low <= 0.2 <= measured.high
        assert measured.value == pytest.approx(0.2, abs=0.02)


def test_a_copy_with_noise_is_seen_where_exact_equality_is_not() -> None:
    noise = np.random.default_rng(0).normal(scale=6, size=TRAINING.shape)
    noisy = (TRAINING + noise).clip(0, 255).astype(np.uint8)
    assert (noisy != TRAINING).any(axis=(1, 2, 3)).all()
    for score, measured in rates(noisy).items():
        assert measured.value is not None
        assert measured.value > 0.95, score


def test_training_images_read_one_and_the_false_positives_are_one_per_cent() -> None:
    ceiling, calibration = rates(TRAINING), rates(REFERENCE.calibration.images)
    floor = rates(pictures(1000, seed=3))
    for score in SCORES:
        assert ceiling[score].value == 1.0
        assert calibration[score].value is not None
        assert calibration[score].value <= 0.01
        # Exchangeable with the calibration images: the mean rate is at most 4 / 301; above 4 %
        # it is by chance in fewer than one seed of ten thousand.
        assert floor[score].value is not None
        assert floor[score].value < 0.04


def test_a_collage_of_real_training_images_is_not_seen() -> None:
    training = digits(700, first=0)
    reference = PictureReference.of(training, digits(350, first=700))
    seen = rates(training[:350], reference)
    unseen = rates(collages(training, 350, seed=4), reference)
    for score in SCORES[1:]:
        assert seen[score].value == 1.0
        assert unseen[score].value is not None
        assert unseen[score].value < 0.02, score
    # Digits are black beside their strokes: hashes of different ones are equal, and say so.
    assert seen[SCORES[0]].value is None
    assert "distance 0" in seen[SCORES[0]].note
    hashes = rates(collages(TRAINING, 200, seed=4))[SCORES[0]]
    assert hashes.value is not None
    assert hashes.value < 0.05


def test_both_the_originals_and_their_reconstructions_are_training_images() -> None:
    originals = pictures(200, seed=5)
    tokens = PictureTokens(shards=[tokens_of(TRAINING)], originals=originals)
    reference = dataclasses.replace(REFERENCE, tokens=tokens)
    score = "near_dup_rate_fpr1pct"
    assert rates(TRAINING, reference)[score].value == 1.0
    assert rates(originals, reference)[score].value == 1.0
    assert rates(originals)[score].value != 1.0


def test_distances_are_those_of_each_image_to_all_training_images() -> None:
    images = pictures(3, seed=6)
    curves = METRIC.measure(generated=image_set(images), reference=REFERENCE).curves
    encode = METRIC.encoder.encode
    apart = np.linalg.norm(
        encode(images).astype(np.float64)[:, None] - encode(TRAINING).astype(np.float64), axis=2
    )
    np.testing.assert_allclose(curves["near_dup_distance"], apart.min(axis=1), rtol=1e-9)
    nearest = np.sort(apart, axis=1)[:, :50]
    score = nearest[:, 0] / (0.5 * nearest.mean(axis=1))
    np.testing.assert_allclose(curves["carlini_score"], score, rtol=1e-9)
    bits = DifferenceHash().encode(images)[:, None] != DifferenceHash().encode(TRAINING)
    np.testing.assert_array_equal(curves["near_dup_bits"], bits.sum(axis=2).min(axis=1))


def test_fifty_duplicates_blind_the_adaptive_distance_alone() -> None:
    training = np.concatenate([TRAINING, TRAINING[:1].repeat(49, axis=0)])
    reference = dataclasses.replace(REFERENCE, tokens=PictureTokens(shards=[tokens_of(training)]))
    copies = rates(TRAINING[:1].repeat(20, axis=0), reference)
    assert [copies[score].value for score in SCORES] == [1.0, 1.0, 0.0]
    assert adaptive(np.zeros((1, 50))).tolist() == [2.0]


def test_without_held_out_images_there_is_no_threshold() -> None:
    reference = dataclasses.replace(REFERENCE, calibration=None)
    measurement = METRIC.measure(generated=image_set(TRAINING[:5]), reference=reference)
    for score in SCORES:
        assert measurement.scalars[score].value is None
        assert "held-out" in measurement.scalars[score].note
    assert measurement.curves["near_dup_bits"].tolist() == [0.0] * 5


def test_few_training_images_have_no_fifty_nearest() -> None:
    reference = PictureReference.of(TRAINING[:49], pictures(100, seed=1))
    measured = rates(TRAINING[:20], reference)
    assert measured["near_dup_features_rate_fpr1pct"].value == 1.0
    assert measured["carlini_rate_fpr1pct"].value is None
