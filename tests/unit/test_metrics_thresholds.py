from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.metrics.thresholds import allowed, flagged_rate, threshold_of


@given(
    held_out=st.lists(st.integers(0, 5), min_size=1, max_size=350).map(
        lambda values: np.array(values, dtype=np.float64)
    )
)
def test_at_most_one_per_cent_are_flagged_and_no_larger_threshold_does_that(
    held_out: np.ndarray,
) -> None:
    threshold = threshold_of(held_out)
    assert (held_out < threshold).sum() <= len(held_out) / 100
    # Any larger threshold would flag those at it too.
    assert (held_out <= threshold).sum() > len(held_out) / 100


def test_fewer_than_a_hundred_flag_none_of_themselves() -> None:
    for size in (1, 99):
        held_out = np.random.default_rng(size).uniform(size=size)
        assert allowed(size) == 0
        assert threshold_of(held_out) == held_out.min()
    assert allowed(100) == 1


def test_a_rate_counts_what_is_nearer_than_the_threshold() -> None:
    held_out = np.arange(1, 301, dtype=np.float64)  # 3 of them may be flagged: 1, 2, 3
    measured = flagged_rate(np.array([0.0, 3.5, 4.0, 100.0]), held_out)
    assert measured.value == 0.5
    assert measured.low is not None
    assert measured.low < 0.5


def test_no_held_out_images_and_a_threshold_of_zero_have_no_rate() -> None:
    distances = np.zeros(3)
    assert "no held-out images" in flagged_rate(distances, np.empty(0)).note
    held_out = np.concatenate([np.zeros(2), np.ones(148)])  # 1 of 150 may be flagged, 2 are at 0
    measured = flagged_rate(distances, held_out)
    assert measured.value is None
    assert "distance 0" in measured.note


@pytest.mark.parametrize("size", [100, 199, 1000, 29_000])
def test_one_per_cent_is_not_lost_to_rounding(size: int) -> None:
    assert allowed(size) == size // 100
