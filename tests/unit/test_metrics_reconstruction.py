"""The tokenizer's ceiling: losses against originals, and the use of its vocabulary."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.encoders.pixels import PixelEncoder
from imagegram.metrics.functional import frechet_distance
from imagegram.metrics.reconstruction import (
    ReconstructionMetric,
    entropy_bits,
    id_counts,
    peak_signal_to_noise,
    usage,
)
from imagegram.records import Features, Images, Measured, Measurement
from tests.image_sets import LAYOUT, MemoryImages, MemoryReference, MemoryTokens, random_tokens

REFERENCE = MemoryReference(MemoryTokens(shards=[random_tokens(3, seed=0)]))
ENCODER = PixelEncoder(resolution=2)
IMAGES = MemoryImages.of(random_tokens(40, seed=1))


def measure(originals: Images | None, images: MemoryImages = IMAGES) -> Measurement:
    with_originals = dataclasses.replace(images, originals=originals)
    metric = ReconstructionMetric(encoder=ENCODER)
    return metric.measure(generated=with_originals, reference=REFERENCE)


def changed(images: Images, rows: list[int], by: int) -> Images:
    """Images with one colour value of some rows moved by ``by``."""
    originals = images.copy()
    for row in rows:
        pixel = originals[row, 0, 0, 0]
        originals[row, 0, 0, 0] = pixel + by if pixel < 128 else pixel - by
    return originals


def test_losses_are_those_of_the_changed_values() -> None:
    originals = changed(IMAGES.images, list(range(10, 40)), by=9)
    scalars = measure(originals).scalars
    error = 81 / 12 * 30 / 40  # one of twelve values, in 30 of 40 images
    psnr = scalars["psnr"]
    assert psnr.value == pytest.approx(10 * math.log10(255**2 / error))
    assert psnr.low is not None
    assert psnr.high is not None
    assert psnr.low < psnr.value < psnr.high
    assert scalars["exact_reconstruction_rate"].value == 0.25
    theirs = ENCODER.encode(originals)
    distance = frechet_distance(generated=ENCODER.encode(IMAGES.images), reference=theirs)
    assert distance > 0
    assert scalars["rfd_pixels"].value == pytest.approx(distance, rel=1e-9)


def test_an_exact_tokenizer_has_no_finite_ratio_and_no_distance() -> None:
    scalars = measure(IMAGES.images.copy()).scalars
    assert scalars["psnr"].value is None
    assert "exactly" in scalars["psnr"].note
    assert scalars["exact_reconstruction_rate"].value == 1.0
    assert scalars["rfd_pixels"].value == 0.0


def test_generated_images_have_no_original_but_use_ids() -> None:
    scalars = measure(None).scalars
    for name in ("psnr", "exact_reconstruction_rate", "rfd_pixels"):
        assert scalars[name].value is None
        assert "have no original" in scalars[name].note
    assert scalars["codebook_usage"].value is not None
    assert scalars.keys() == measure(IMAGES.images.copy()).scalars.keys()


def test_one_image_has_no_distance() -> None:
    one = MemoryImages.of(random_tokens(1, seed=2))
    scalars = measure(changed(one.images, [0], by=3), one).scalars
    assert scalars["rfd_pixels"].value is None
    assert "at least 2" in scalars["rfd_pixels"].note
    assert scalars["psnr"].value is not None


def test_only_originals_that_differ_are_embedded() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Counting:
        seen: list[int] = field(default_factory=list)
        name: str = "counting"

        def encode(self, images_BHWC: Images) -> Features:
            self.seen.append(len(images_BHWC))
            return ENCODER.encode(images_BHWC)

    encoder = Counting()
    originals = changed(IMAGES.images, [3, 30], by=50)
    images = dataclasses.replace(IMAGES, originals=originals)
    ReconstructionMetric(encoder=encoder).measure(generated=images, reference=REFERENCE)
    assert encoder.seen == [40, 2]


def test_few_errors_have_no_interval() -> None:
    # Resamples without the one wrong image have no error at all, and no upper end.
    psnr = peak_signal_to_noise(Measured(value=0.5, low=0.0, high=2.0))
    assert psnr.value == pytest.approx(10 * math.log10(255**2 / 0.5))
    assert (psnr.low, psnr.high) == (None, None)


@given(rows=st.lists(st.lists(st.integers(0, 9), min_size=15, max_size=15), min_size=1, max_size=6))
def test_usage_and_entropy_count_ids(rows: list[list[int]]) -> None:
    counts = id_counts(np.array(rows, np.uint16), LAYOUT, 10)
    for level, positions in enumerate(LAYOUT.level_slices):
        ids = Counter(token for row in rows for token in row[positions])
        assert usage(counts[level]) == len(ids) / 10
        shares = [number / ids.total() for number in ids.values()]
        slow = -sum(share * math.log2(share) for share in shares)
        assert entropy_bits(counts[level]) == pytest.approx(slow, abs=1e-12)


def test_curves_tell_levels_apart() -> None:
    tokens = np.zeros((20, LAYOUT.num_tokens), np.uint16)
    tokens[:, 3:] = np.arange(20 * 12).reshape(20, 12) % 64
    measurement = measure(None, MemoryImages.of(tokens))
    assert measurement.curves["codebook_usage"].tolist() == [1 / 256, 64 / 256]
    assert measurement.curves["codebook_entropy"][0] == 0.0
    assert 5.9 < measurement.curves["codebook_entropy"][1] <= 6.0
    assert measurement.scalars["codebook_usage"].value == 64 / 256
