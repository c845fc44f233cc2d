from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.intervals import (
    clopper_pearson,
    delete_block_jackknife,
    effective_rows,
    mean_over_images,
    quantile_over_images,
    rate_over_images,
    ratio_over_images,
)
from imagegram.records import Measured


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 1000, 0.0, 0.0037), (10, 1000, 0.0048, 0.0183), (50, 5000, 0.0074, 0.0132)],
)
def test_clopper_pearson_matches_published_values(
    successes: int, trials: int, low: float, high: float
) -> None:
    measured = clopper_pearson(successes=successes, trials=trials)
    assert measured.low == pytest.approx(low, abs=5e-5)
    assert measured.high == pytest.approx(high, abs=5e-5)


def test_clopper_pearson_of_all_and_of_one() -> None:
    assert clopper_pearson(successes=5, trials=5).high == 1.0
    assert clopper_pearson(successes=1, trials=1).low == pytest.approx(0.025)


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    # For a normal sample the percentile interval is mean +- 1.96 sd / sqrt n; 2000 resamples place
    # its ends within about 5 % of the standard error.
    values = np.random.default_rng(0).normal(size=400)
    measured = mean_over_images(values, seed=3)
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert measured.value == pytest.approx(values.mean())
    assert measured.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert measured.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert measured == mean_over_images(values, seed=3)


@pytest.mark.parametrize("values", [np.arange(5.0), np.full(50, 0.25)])
def test_no_interval_where_the_bootstrap_knows_nothing(values: np.ndarray) -> None:
    measured = mean_over_images(values, seed=0)
    assert measured.low is measured.high is None


@pytest.mark.parametrize("count", [1, 10, 40, 64, 72, 500])
def test_the_ends_of_a_quantile_miss_it_as_rarely_as_they_say(count: int) -> None:
    # Value i of the sorted ones is above the quantile when at most i images lie below it.
    values = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    measured = quantile_over_images(values, 0.95, lowest=0.0, highest=count + 1.0)
    assert measured.low is not None
    assert measured.high is not None

    def at_most(number: float) -> float:
        chances = [
            math.comb(count, n) * 0.95**n * 0.05 ** (count - n) for n in range(int(number) + 1)
        ]
        return math.fsum(chances)

    low, high = measured.low, measured.high
    assert low == 0.0 or at_most(low - 1) <= 0.025
    assert at_most(low) > 0.025 or low == count  # one value higher would miss it too often
    assert high == count + 1 or 1 - at_most(high - 1) <= 0.025
    assert 1 - at_most(high - 2) > 0.025


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.sampled_from([0.05, 0.5, 0.95]))
def test_a_quantile_lies_inside_its_interval(values: list[float], quantile: float) -> None:
    measured = quantile_over_images(np.array(values), quantile, lowest=0.0, highest=1.0)
    assert measured.value is not None
    assert measured.value == np.quantile(values, quantile)
    assert measured.low is not None
    assert measured.high is not None
    assert 0.0 <= measured.low <= measured.value <= measured.high <= 1.0


def test_the_jackknife_of_a_mean_is_the_error_of_block_means() -> None:
    # For a mean over K equal blocks the jackknife is exactly sd(block means) / sqrt K.
    values = np.random.default_rng(0).normal(size=100)
    (measured,) = delete_block_jackknife(
        lambda without: np.array([values[np.arange(100) % 20 != without].mean()]),
        num_images=100,
        blocks=20,
        workers=3,
    )
    means = np.array([values[k::20].mean() for k in range(20)])
    half = 2.0930240544 * means.std(ddof=1) / np.sqrt(20)  # Student's t, 19 degrees, 97.5 %
    assert measured.value == pytest.approx(values.mean())
    assert measured.high is not None
    assert measured.high - values.mean() == pytest.approx(half, rel=1e-6)


def test_the_jackknife_refuses_small_sets_and_undefined_estimates() -> None:
    (small,) = delete_block_jackknife(lambda without: np.array([1.0]), num_images=39)
    assert (small.value, small.low) == (1.0, None)
    first, second = delete_block_jackknife(
        lambda without: np.array([without or 0, 0.0 if without is None else np.nan]),
        num_images=40,
    )
    assert first.low is not None
    assert (second.value, second.low) == (0.0, None)


def test_a_ratio_over_images_weighs_images_by_what_they_hold() -> None:
    # Equal wholes: the ratio is the mean of the shares, and so is its bootstrap.
    rng = np.random.default_rng(0)
    shares = rng.random(200)
    ratio = ratio_over_images(4 * shares, np.full(200, 4.0), seed=3)
    mean = mean_over_images(shares, seed=3)
    assert ratio.value == pytest.approx(mean.value)
    assert (ratio.low, ratio.high) == pytest.approx((mean.low, mean.high))
    # Images without anything to count are not there; the others weigh what they hold.
    parts, wholes = np.array([1.0, 0.0, 0.0]), np.array([1.0, 9.0, 0.0])
    assert ratio_over_images(parts, wholes, seed=0).value == 0.1
    empty = np.zeros(50)
    padded = ratio_over_images(
        np.concatenate([4 * shares, empty]), np.concatenate([np.full(200, 4.0), empty]), seed=3
    )
    assert padded == ratio


@pytest.mark.parametrize("parts", [np.arange(5.0), np.full(50, 2.0)])
def test_a_ratio_has_no_interval_where_the_bootstrap_knows_nothing(parts: np.ndarray) -> None:
    measured = ratio_over_images(parts, np.full(len(parts), 8.0), seed=0)
    assert measured.low is measured.high is None


# ------------------------------------------------------------------------------ rows of documents

SPREAD = np.random.default_rng(5).permutation(np.repeat(np.arange(40), 6))


def test_documents_of_one_row_each_change_nothing() -> None:
    values = np.random.default_rng(0).random(40)
    own = np.arange(40)
    over: list[Any] = [None, own]
    for plain, grouped in (
        [mean_over_images(values, seed=1, documents=each) for each in over],
        [ratio_over_images(values, values + 1, seed=1, documents=each) for each in over],
        [rate_over_images(values > 0.4, documents=each) for each in over],
        [
            quantile_over_images(values, 0.9, lowest=0.0, highest=1.0, documents=each)
            for each in over
        ],
    ):
        ends = [(each.value, each.low, each.high) for each in (plain, grouped)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_rows_that_repeat_their_document_tell_as_much_as_one_each() -> None:
    of_documents = np.random.default_rng(1).random(40)
    values = of_documents[SPREAD]
    alone = mean_over_images(of_documents, seed=0)
    together = mean_over_images(values, seed=0, documents=SPREAD)
    apart = mean_over_images(values, seed=0)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert together.value == apart.value == pytest.approx(alone.value)
    assert width(together) > 2 * width(apart)  # six rows each, so sqrt 6 times as wide
    hits = values > 0.5
    assert 36 < effective_rows(hits, SPREAD) < 40
    rate = rate_over_images(hits, documents=SPREAD)
    exact = clopper_pearson(successes=float(hits.mean()) * 39, trials=39)
    assert (rate.low, rate.high) == pytest.approx((exact.low, exact.high), abs=0.01)
    assert rate.value == hits.mean()


def width(measured: Measured) -> float:
    assert measured.low is not None
    assert measured.high is not None
    return measured.high - measured.low


def test_rows_that_do_not_care_for_their_document_count_as_rows() -> None:
    hits = np.random.default_rng(2).random(240) < 0.4
    assert effective_rows(hits, SPREAD) > 160
    assert effective_rows(hits, None) == 240


@pytest.mark.parametrize("hit", [True, False])
def test_where_all_rows_agree_documents_are_counted(hit: bool) -> None:
    rate = rate_over_images(np.full(240, hit), documents=SPREAD)
    exact = clopper_pearson(successes=40 * hit, trials=40)
    assert (rate.low, rate.high) == (exact.low, exact.high)


def test_few_documents_have_no_interval_however_many_rows() -> None:
    values = np.random.default_rng(3).random(500)
    for found in (
        mean_over_images(values, seed=0, documents=np.arange(500) % 9),
        ratio_over_images(values, values + 1, seed=0, documents=np.arange(500) % 9),
    ):
        assert found.low is found.high is None


def test_a_documents_interval_covers_what_a_rows_interval_misses() -> None:
    # Documents differ more than their rows: 30 documents of 20 rows, the true mean is 0.
    rng, covered = np.random.default_rng(4), np.zeros(2)
    documents = np.repeat(np.arange(30), 20)
    for _ in range(40):
        values = rng.normal(size=30)[documents] + rng.normal(size=600)
        quantile = rng.normal(size=30)[documents]
        for number, known in enumerate((documents, None)):
            mean = mean_over_images(values, seed=0, documents=known)
            median = quantile_over_images(quantile, 0.5, lowest=-9.0, highest=9.0, documents=known)
            for found in (mean, median):
                assert found.low is not None
                assert found.high is not None
                covered[number] += (found.low <= 0 <= found.high) / 80
    assert covered[0] > 0.85
    assert covered[1] < 0.6
