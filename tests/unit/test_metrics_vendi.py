from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.encoders.pixels import PixelEncoder
from imagegram.errors import ConfigError
from imagegram.metrics.vendi import VendiMetric, vendi_score
from tests.picture_sets import PictureReference, image_set, pictures

METRIC = VendiMetric(encoder=PixelEncoder(resolution=4))
REFERENCE = PictureReference.of(pictures(4, seed=0))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_definition(directions: np.ndarray) -> float:
    """The kernel pair by pair, all its eigenvalues, their entropy."""
    size = len(directions)
    kernel = np.array([[float(a @ b) / size for b in directions] for a in directions])
    eigenvalues = np.linalg.eigvals(kernel).real
    return float(np.exp(-sum(value * np.log(value) for value in eigenvalues if value > 1e-15)))


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6), dimensions=st.integers(6, 40))
def test_groups_that_are_orthogonal_count_as_the_entropy_of_their_shares(
    sizes: list[int], dimensions: int
) -> None:
    directions = np.repeat(np.eye(dimensions)[: len(sizes)], sizes, axis=0)
    shares = np.array(sizes) / sum(sizes)
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert vendi_score(directions) == pytest.approx(expected, rel=1e-9)


# Fewer images than features, as many, more: both forms of the kernel.
@pytest.mark.parametrize(("n", "d"), [(5, 12), (9, 9), (30, 6)])
def test_the_score_is_the_definition_in_both_forms(n: int, d: int) -> None:
    directions = unit(np.random.default_rng(n).normal(size=(n, d)))
    assert vendi_score(directions) == pytest.approx(by_definition(directions), rel=1e-9)
    wider = np.concatenate([directions, np.zeros((n, 50))], axis=1)  # the other form
    assert vendi_score(wider) == pytest.approx(vendi_score(directions), rel=1e-9)


def measured(images: np.ndarray) -> tuple[float, float | None, float | None]:
    measurement = METRIC.measure(generated=image_set(images), reference=REFERENCE)
    score = measurement.scalars["vendi_pixels"]
    assert score.value is not None
    return score.value, score.low, score.high


def test_a_collapse_reads_one_and_copies_of_all_read_like_all() -> None:
    images = pictures(60, seed=1)
    value, low, high = measured(images)
    assert low is not None
    assert high is not None
    assert 1 <= low < value < high
    assert measured(images[:1].repeat(60, axis=0))[0] == pytest.approx(1.0, abs=1e-6)
    assert measured(images.repeat(2, axis=0))[0] == pytest.approx(value, rel=1e-9)


def test_a_feature_without_direction_has_no_score() -> None:
    images = pictures(4, seed=1)
    images[2] = 0
    measurement = METRIC.measure(generated=image_set(images), reference=REFERENCE)
    assert measurement.scalars["vendi_pixels"].value is None
    assert "no direction" in measurement.scalars["vendi_pixels"].note


def test_one_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="jackknife_blocks is 1; use 2 or more"):
        VendiMetric(encoder=PixelEncoder(), jackknife_blocks=1)
