"""Use of the corpus and response to duplicates, against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.intervals import clopper_pearson
from imagegram.metrics.coverage import gini, usage_scores
from imagegram.metrics.duplication import (
    BUCKETS,
    DuplicationMetric,
    bucket_counts,
    relative_rates,
)
from imagegram.records import Measurement
from tests.image_sets import LAYOUT, MemoryImages, MemoryReference, MemoryTokens, random_tokens

#: Documents with the same number show the same picture.
PICTURES = st.lists(st.integers(0, 6), min_size=1, max_size=40)


def labels_of(pictures: list[int]) -> np.ndarray:
    return np.array([pictures.index(picture) for picture in pictures], np.int64)


# ---------------------------------------------------------------------------------------- coverage


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any))
def test_gini_is_the_mean_difference_over_twice_the_mean(amounts: list[int]) -> None:
    values = np.array(amounts)
    differences = np.abs(values[:, None] - values[None]).mean()
    assert gini(values) == pytest.approx(differences / (2 * values.mean()), abs=1e-12)


@given(PICTURES, st.integers(0, 2**32 - 1))
def test_coverage_counts_each_picture_once(pictures: list[int], seed: int) -> None:
    clusters = labels_of(pictures)
    used = np.random.default_rng(seed).integers(0, 3, len(pictures))
    credited = np.where(clusters == np.arange(len(pictures)), used, 0)
    scores = usage_scores(credited, clusters)
    of_pictures = [credited[label] for label in sorted(set(clusters.tolist()))]
    assert scores["source_coverage"].value == np.mean([amount > 0 for amount in of_pictures])
    if any(of_pictures):
        assert scores["source_gini"].value == gini(np.array(of_pictures))
    else:
        assert scores["source_gini"].value is None
        assert scores["source_gini"].note


# ------------------------------------------------------------------------------------- duplication


def bucket(size: int) -> int:
    return 0 if size == 1 else 1 if size <= 3 else 2 if size <= 9 else 3


@given(PICTURES, st.lists(st.integers(0, 39), max_size=20))
def test_buckets_are_counted_by_definition(pictures: list[int], chosen: list[int]) -> None:
    clusters = labels_of(pictures)
    copied = clusters[[document % len(pictures) for document in chosen]]
    times = Counter(pictures)
    counts = bucket_counts(copied, clusters)
    for number in range(len(BUCKETS)):
        of = [bucket(times[picture]) == number for picture in pictures]
        assert counts["images"][number] == sum(of)
        assert counts["clusters"][number] == len(
            {picture for picture, inside in zip(pictures, of, strict=True) if inside}
        )
        assert counts["copies"][number] == sum(of[cluster] for cluster in copied)


def test_rates_are_shares_of_copies_over_shares_of_members() -> None:
    copies, members = np.array([2, 3, 0, 5]), np.array([60, 30, 0, 10])
    rates = relative_rates("copies_per_image", copies, members, "nobody")
    assert [rate.value for rate in rates.values()] == pytest.approx([2 / 6, 1.0, None, 5.0])
    share = clopper_pearson(successes=5, trials=10)
    often = rates["copies_per_image_multiplicity_10"]
    assert (often.low, often.high) == pytest.approx((10 * share.low, 10 * share.high))  # type: ignore[operator]
    empty = rates["copies_per_image_multiplicity_4_9"]
    assert empty.note == "the corpus holds no picture four to nine times"


def test_nothing_to_compare_has_no_value() -> None:
    nobody = relative_rates("x", np.zeros(4, int), np.array([1, 2, 0, 0]), "nobody copies")
    assert {rate.value for rate in nobody.values()} == {None}
    assert nobody["x_multiplicity_1"].note == "nobody copies"
    alike = relative_rates("x", np.array([9, 0, 0, 0]), np.array([50, 0, 0, 0]), "nobody copies")
    assert {rate.value for rate in alike.values()} == {None}
    assert "every picture once only" in alike["x_multiplicity_1"].note


@pytest.fixture(scope="module")
def repeated() -> MemoryTokens:
    """Ten pictures once, five twice, two four times, one ten times: 38 images of 18 pictures."""
    pictures = random_tokens(18, seed=0)
    return MemoryTokens(shards=[np.repeat(pictures, [1] * 10 + [2] * 5 + [4] * 2 + [10], axis=0)])


def measured(corpus: MemoryTokens, tokens: np.ndarray, **fields: float) -> Measurement:
    metric = DuplicationMetric(**fields)  # type: ignore[arg-type]
    return metric.measure(generated=MemoryImages.of(tokens), reference=MemoryReference(corpus))


def rates(measurement: Measurement, name: str) -> list[float | None]:
    labels = [label for _, label, _ in BUCKETS]
    return [measurement.scalars[f"{name}_multiplicity_{label}"].value for label in labels]


def test_copying_every_image_alike_reads_one(repeated: MemoryTokens) -> None:
    measurement = measured(repeated, repeated.all)
    assert rates(measurement, "copies_per_image") == pytest.approx([1, 1, 1, 1])
    # A picture that is there k times is copied k times as often: mean multiplicity is 38 / 18.
    of_pictures = [times * 18 / 38 for times in (1, 2, 4, 10)]
    assert rates(measurement, "copies_per_cluster") == pytest.approx(of_pictures)
    assert measurement.curves["multiplicity_images"].tolist() == [10, 10, 8, 10]
    assert measurement.curves["multiplicity_clusters"].tolist() == [10, 5, 2, 1]


def test_copying_every_picture_alike_reads_one_by_cluster(repeated: MemoryTokens) -> None:
    measurement = measured(repeated, np.unique(repeated.all, axis=0))
    assert rates(measurement, "copies_per_cluster") == pytest.approx([1, 1, 1, 1])
    assert measurement.curves["multiplicity_copies"].tolist() == [10, 5, 2, 1]


def test_only_images_with_a_large_source_copy(repeated: MemoryTokens) -> None:
    # Eight of 15 tokens of a picture that is there ten times; seven of one that is there once.
    collage = np.concatenate([repeated.all[-1:, :8], repeated.all[:1, 8:]], axis=1)
    assert collage.shape == (1, LAYOUT.num_tokens)
    copies = measured(repeated, collage)
    assert copies.curves["multiplicity_copies"].tolist() == [0, 0, 0, 1]
    strict = measured(repeated, collage, copied_share=0.6)
    assert strict.curves["multiplicity_copies"].sum() == 0
    note = strict.scalars["copies_per_image_multiplicity_10"].note
    assert note == "no image has 60% of its tokens from one source"
