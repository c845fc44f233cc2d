from __future__ import annotations

import numpy as np
import pytest

from imagegram.encoders.pixels import PixelEncoder
from imagegram.errors import ConfigError
from imagegram.metrics import sources
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.duplication import DuplicationMetric
from imagegram.metrics.frechet import FrechetMetric
from imagegram.metrics.novelty import NoveltyMetric
from imagegram.metrics.order import OrderMetric
from imagegram.metrics.prdc import PrdcMetric
from tests.image_sets import LAYOUT, MemoryImages, MemoryReference, MemoryTokens, random_tokens


@pytest.fixture(scope="module")
def corpus() -> MemoryTokens:
    return MemoryTokens(shards=[random_tokens(12, seed=0), random_tokens(8, seed=1)])


def test_planted_copies_are_recovered(corpus: MemoryTokens) -> None:
    samples = random_tokens(20, seed=7)
    samples[[2, 5, 11, 17]] = corpus.all[[0, 13, 13, 19]]
    reference = MemoryReference(corpus)
    measurement = CopyingMetric().measure(generated=MemoryImages.of(samples), reference=reference)
    exact = measurement.scalars["exact_copy_rate"]
    assert exact.value == 0.2
    assert exact.low is not None
    assert exact.low < 0.2
    copied = measurement.curves["exact_copy"].astype(bool)
    assert np.flatnonzero(copied).tolist() == [2, 5, 11, 17]
    assert measurement.curves["source_document"][copied].tolist() == [0, 13, 13, 19]


def test_a_training_image_reads_one_and_a_novel_one_nearly_nothing(corpus: MemoryTokens) -> None:
    reference = MemoryReference(corpus)
    ceiling = CopyingMetric().measure(generated=MemoryImages.of(corpus.all), reference=reference)
    values = {name: measured.value for name, measured in ceiling.scalars.items()}
    assert values.pop("mean_copied_span") == LAYOUT.num_tokens
    assert values.pop("source_gini") == 0.0
    assert set(values.values()) == {1.0}
    unseen = np.full((3, LAYOUT.num_tokens), 300, np.uint16)
    images = MemoryImages(tokens=unseen, trace=MemoryImages.of(corpus.all[:3]).trace, images=None)
    novel = CopyingMetric().measure(generated=images, reference=reference)
    shares = ("exact_copy_rate", "largest_source_share", "max_source_share_p95", "source_coverage")
    for name in (*shares, "mean_copied_span"):
        assert novel.scalars[name].value == 0.0
    assert novel.scalars["num_phrases"].value == LAYOUT.num_tokens
    for name in ("num_effective_sources", "source_gini"):
        assert novel.scalars[name].value is None
        assert "no token" in novel.scalars[name].note
    assert novel.curves["source_document"].tolist() == [-1.0] * 3


def test_a_collage_is_copied_but_from_several_sources(corpus: MemoryTokens) -> None:
    collage = np.concatenate([corpus.all[:1, :9], corpus.all[1:2, 9:]], axis=1)
    measurement = CopyingMetric().measure(
        generated=MemoryImages.of(collage), reference=MemoryReference(corpus)
    )
    values = {name: measured.value for name, measured in measurement.scalars.items()}
    assert values["exact_copy_rate"] == 0.0
    assert values["largest_source_share"] == pytest.approx(9 / 15)
    assert values["max_source_share_p95"] == pytest.approx(9 / 15)
    assert values["num_phrases"] == 2.0
    assert values["num_effective_sources"] == pytest.approx(0.6**-0.6 * 0.4**-0.4)
    # 9 tokens lie in a phrase of 9, 6 in one of 6.
    assert values["mean_copied_span"] == pytest.approx((81 + 36) / 15)
    assert values["source_coverage"] == pytest.approx(2 / 20)
    # Level 0 has 3 tokens, all of the largest source; level 1 has 6 of its 12 from it.
    assert measurement.curves["source_share_level0"].tolist() == [1.0]
    assert measurement.curves["source_share_level1"].tolist() == [0.5]
    edges = measurement.curves["copied_span_edges"].tolist()
    level0 = measurement.curves["copied_span_level0"]
    assert level0[edges.index(8)] == 1.0  # 9 lies in the bin 8 ... 11
    assert measurement.curves["copied_span_level1"].sum() == pytest.approx(1.0)


def test_levels_share_what_the_whole_image_shares(corpus: MemoryTokens) -> None:
    mixed = corpus.all.copy()
    mixed[:, 5:11] = np.roll(corpus.all, 1, axis=0)[:, 5:11]
    curves = (
        CopyingMetric()
        .measure(generated=MemoryImages.of(mixed), reference=MemoryReference(corpus))
        .curves
    )
    of_levels = sum(
        size * curves[f"source_share_level{level}"][0]
        for level, size in enumerate(LAYOUT.level_sizes)
    )
    assert of_levels / LAYOUT.num_tokens == pytest.approx(curves["source_share"].mean())


def test_a_corpus_with_every_document_twice_gives_the_same_scores() -> None:
    # Vocabulary 3: phrases are short, and each occurs in many documents.
    corpus = MemoryTokens(shards=[random_tokens(10, seed=0, vocabulary=3)])
    twice = MemoryTokens(shards=[corpus.all, corpus.all])
    images = MemoryImages.of(random_tokens(15, seed=1, vocabulary=3))
    metric = CopyingMetric(max_candidates=1000)
    once = metric.measure(generated=images, reference=MemoryReference(corpus))
    again = metric.measure(generated=images, reference=MemoryReference(twice))
    assert once.scalars == again.scalars
    for name, curve in once.curves.items():
        np.testing.assert_array_equal(curve, again.curves[name])


def test_rows_are_parsed_in_tiles_of_any_size(
    corpus: MemoryTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, reference = MemoryImages.of(corpus.all[:7, ::-1]), MemoryReference(corpus)
    whole = CopyingMetric().measure(generated=images, reference=reference)
    monkeypatch.setattr(sources, "_TOKENS", 2 * LAYOUT.num_tokens)
    tiled = CopyingMetric().measure(generated=images, reference=reference)
    assert whole.scalars == tiled.scalars
    for name, curve in whole.curves.items():
        np.testing.assert_array_equal(curve, tiled.curves[name])


def test_forced_steps_need_a_source(corpus: MemoryTokens) -> None:
    tokens = corpus.all[:2]
    distinct = np.full(tokens.shape, 2, np.uint16)
    distinct[0, :6] = 1
    source = np.zeros(tokens.shape, np.int32)
    source[0, :3] = -1  # the one possible token was not the one that was written
    images = MemoryImages.of(tokens, num_distinct=distinct, source_document=source)
    measurement = OrderMetric().measure(generated=images, reference=MemoryReference(corpus))
    assert measurement.scalars["forced_copy_rate"].value == pytest.approx(3 / 30)


def test_novelty_of_copies_is_zero_and_of_unseen_tokens_one(corpus: MemoryTokens) -> None:
    reference, metric = MemoryReference(corpus), NoveltyMetric(max_n=10, shown_n=(1, 4))
    copies = metric.measure(generated=MemoryImages.of(corpus.all[:5]), reference=reference)
    assert {measured.value for measured in copies.scalars.values()} == {0.0}
    unseen = np.full((3, LAYOUT.num_tokens), 300, np.uint16)
    images = MemoryImages(tokens=unseen, trace=MemoryImages.of(corpus.all[:3]).trace, images=None)
    novel = metric.measure(generated=images, reference=reference)
    assert {measured.value for measured in novel.scalars.values()} == {1.0}
    # Level 0 has 3 tokens, so no 4-gram ends there; level 1 has no such gap.
    assert np.isnan(novel.curves["novelty_level0"][3:]).all()
    assert (novel.curves["novelty_level1"] == 1.0).all()


def test_novelty_longer_than_an_image_has_no_value(corpus: MemoryTokens) -> None:
    metric = NoveltyMetric(max_n=20, shown_n=(16,))
    measured = metric.measure(
        generated=MemoryImages.of(corpus.all), reference=MemoryReference(corpus)
    ).scalars["novelty_n16"]
    assert measured.value is None
    assert "shorter than 16" in measured.note


def test_orders_and_bits_of_a_trace(corpus: MemoryTokens) -> None:
    tokens = corpus.all[:2]
    contexts = np.full(tokens.shape, 2, np.uint32)
    contexts[1] = 1
    images = MemoryImages.of(tokens, num_contexts=contexts)
    measurement = OrderMetric().measure(generated=images, reference=MemoryReference(corpus))
    values = {name: measured.value for name, measured in measurement.scalars.items()}
    assert values == {
        "forced_copy_rate": 0.0,
        "mean_suffix_len": 3.0,
        "single_context_rate": 0.5,
        "impossible_step_rate": 0.0,
        "choice_bits_per_image": 15.0,
    }
    edges = measurement.curves["order_edges"].tolist()
    assert measurement.curves["order_level1"][edges.index(3)] == 1.0
    assert measurement.curves["entropy_level0"].tolist() == [1.0, 1.0, 1.0]


def test_bits_of_impossible_tokens_have_no_value(corpus: MemoryTokens) -> None:
    tokens = corpus.all[:2]
    probability = np.full(tokens.shape, 0.5, np.float32)
    probability[0, :3] = 0
    images = MemoryImages.of(tokens, probability=probability)
    scalars = OrderMetric().measure(generated=images, reference=MemoryReference(corpus)).scalars
    assert scalars["impossible_step_rate"].value == pytest.approx(0.1)
    assert scalars["choice_bits_per_image"].value is None
    assert "10.00%" in scalars["choice_bits_per_image"].note


def test_knobs_out_of_range_say_what_is_allowed() -> None:
    for copies in (CopyingMetric, DuplicationMetric):
        with pytest.raises(ConfigError, match="max_candidates is 0; use 1 or more"):
            copies(max_candidates=0)
    with pytest.raises(ConfigError, match=r"copied_share is 1\.5; use more than 0"):
        DuplicationMetric(copied_share=1.5)
    for metric in (FrechetMetric, PrdcMetric):
        with pytest.raises(ConfigError, match="jackknife_blocks is 1; use 2 or more"):
            metric(encoder=PixelEncoder(), jackknife_blocks=1)
    with pytest.raises(ConfigError, match=r"shown_n=\[65\] must lie in 1 ... max_n=64"):
        NoveltyMetric(shown_n=[65])
