from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from imagegram.errors import ConfigError
from imagegram.metrics import aligned
from imagegram.metrics.aligned import AlignedMetric
from imagegram.records import Measurement, Tokens
from tests.image_sets import LAYOUT, MemoryImages, MemoryReference, MemoryTokens, random_tokens
from tests.unit.test_metrics_positional import brute_agreement, brute_lengths

T = LAYOUT.num_tokens  # 15, of which 3 are of level 0


@pytest.fixture(scope="module")
def corpus() -> MemoryTokens:
    return MemoryTokens(shards=[random_tokens(12, seed=0), random_tokens(8, seed=1)])


def measure(tokens: Tokens, corpus: MemoryTokens, **knobs: float) -> Measurement:
    return AlignedMetric(**knobs).measure(
        generated=MemoryImages.of(tokens), reference=MemoryReference(corpus)
    )


def values(measurement: Measurement) -> dict[str, float | None]:
    return {name: measured.value for name, measured in measurement.scalars.items()}


def unlike(corpus: MemoryTokens, tokens: Tokens) -> Tokens:
    """The rows with tokens that no document has at that position."""
    unseen = [np.setdiff1d(np.arange(256), column)[0] for column in corpus.all.T]
    return np.broadcast_to(np.array(unseen, np.uint16), tokens.shape).copy()


def test_training_images_read_the_ceiling(corpus: MemoryTokens) -> None:
    measurement = measure(corpus.all, corpus)
    assert values(measurement) == {
        "near_exact_rate": 1.0,
        "aligned_agreement": 1.0,
        "mean_aligned_match": (T + 1) / 2,
        "mean_free_match": (T + 1) / 2,
        "copied_prefix_share": 1.0,
        "copied_through_level0_rate": 1.0,
        "copied_through_level1_rate": 1.0,
    }
    assert measurement.curves["aligned_document"].tolist() == list(range(20))
    assert measurement.curves["copied_prefix"].tolist() == [T] * 20
    assert measurement.curves["agreement_level0"].tolist() == [1.0]
    assert measurement.curves["agreement_level1"].tolist() == [1.0]


def test_images_that_share_nothing_read_zero(corpus: MemoryTokens) -> None:
    measurement = measure(unlike(corpus, corpus.all[:4]), corpus)
    read = values(measurement)
    assert read.pop("mean_free_match") is not None
    assert set(read.values()) == {0.0}
    assert measurement.curves["aligned_match_level1"][0] == 1.0


def test_the_same_tokens_one_step_on_are_copied_but_not_in_place() -> None:
    corpus = MemoryTokens(shards=[np.arange(T, dtype=np.uint16)[None]])
    read = values(measure(np.roll(corpus.all, -1, axis=1), corpus))
    assert read["aligned_agreement"] == 0.0
    assert read["mean_aligned_match"] == 0.0
    # Tokens 1 ... 14, then token 0.
    assert read["mean_free_match"] == pytest.approx((sum(range(1, T)) + 1) / T)


def test_a_near_copy_is_one_from_the_very_share_on(corpus: MemoryTokens) -> None:
    tokens = corpus.all[[3, 3, 17]]
    other = unlike(corpus, tokens)
    tokens[0, 12:] = other[0, 12:]  # 12 of 15 are equal: exactly 0.8
    tokens[1, 11:] = other[1, 11:]  # 11 of 15
    tokens[2, :3] = other[2, :3]
    measurement = measure(tokens, corpus, near_exact_share=0.8)
    read = values(measurement)
    assert read["near_exact_rate"] == pytest.approx(2 / 3)
    assert measurement.scalars["near_exact_rate"].high == pytest.approx(0.9915962)
    assert read["aligned_agreement"] == pytest.approx((12 + 11 + 12) / (3 * T))
    assert measurement.curves["aligned_document"].tolist() == [3.0, 3.0, 17.0]
    assert measurement.curves["copied_prefix"].tolist() == [12.0, 11.0, 0.0]
    assert read["copied_through_level0_rate"] == pytest.approx(2 / 3)
    assert read["copied_through_level1_rate"] == 0.0
    assert measurement.curves["agreement_level0"].tolist() == [pytest.approx(2 / 3)]
    assert measurement.curves["agreement_level1"].tolist() == [pytest.approx((9 + 8 + 12) / 36)]


def test_histograms_by_level_hold_the_matches_that_end_there(corpus: MemoryTokens) -> None:
    tokens = corpus.all[:1].copy()
    tokens[0, 9:] = unlike(corpus, tokens)[0, 9:]
    curves = measure(tokens, corpus).curves
    edges = curves["aligned_match_edges"].tolist()
    assert edges == [0, 1, 2, 3, 4, 6, 8, 12]
    # Level 0: matches of 1, 2, 3 tokens; level 1: of 4 ... 9, then six of none.
    assert curves["aligned_match_level0"].tolist() == pytest.approx(
        [0, 1 / 3, 1 / 3, 1 / 3, *4 * [0]]
    )
    assert (12 * curves["aligned_match_level1"]).tolist() == [6, 0, 0, 0, 2, 2, 2, 0]


def test_chunks_and_workers_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = random_tokens(37, seed=3, vocabulary=3)
    corpus = MemoryTokens(shards=[random_tokens(9, seed=4, vocabulary=3), tokens[:4]])
    expected = measure(tokens, corpus)
    lengths = np.array(brute_lengths(tokens, corpus.all))
    assert expected.scalars["mean_aligned_match"].value == pytest.approx(lengths.mean())
    prefixes = [max([0, *np.flatnonzero(row == np.arange(1, T + 1)) + 1]) for row in lengths]
    assert expected.curves["copied_prefix"].tolist() == prefixes
    counts, documents = brute_agreement(tokens, corpus.all)
    assert expected.scalars["aligned_agreement"].value == pytest.approx(np.mean(counts) / T)
    assert expected.curves["aligned_document"].tolist() == documents
    monkeypatch.setattr(aligned, "_TOKENS", 5 * T)
    monkeypatch.setattr(aligned, "_FEW_TOKENS", 2 * T)
    monkeypatch.setattr(MemoryReference, "workers", 1)
    again = measure(tokens, corpus)
    assert again.scalars == expected.scalars
    assert again.curves.keys() == expected.curves.keys()
    for name, curve in expected.curves.items():
        np.testing.assert_array_equal(again.curves[name], curve)


def test_traces_are_not_looked_at(corpus: MemoryTokens) -> None:
    images = dataclasses.replace(MemoryImages.of(corpus.all[:2]), trace=None, images=None)
    assert {"ids", "matches", "places"} == AlignedMetric.NEEDS
    measurement = AlignedMetric().measure(generated=images, reference=MemoryReference(corpus))
    assert measurement.scalars["near_exact_rate"].value == 1.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_says_what_is_allowed(share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and up to 1"):
        AlignedMetric(near_exact_share=share)
