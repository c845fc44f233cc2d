from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.encoders.pixels import PixelEncoder
from imagegram.errors import ConfigError
from imagegram.indexes.naive import NaiveIndex
from imagegram.indexes.native import NativeIndex
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.frechet import FrechetMetric
from imagegram.metrics.novelty import NoveltyMetric, OrderMetric
from imagegram.metrics.prdc import PrdcMetric
from imagegram.metrics.sources import parse_sources
from tests.image_sets import LAYOUT, MemoryImages, MemoryReference, MemoryTokens, random_tokens
from tests.index_folders import BruteForce, stream_of, write_index

DOCUMENT = st.lists(st.integers(0, 3), min_size=5, max_size=5)
SHARD = st.lists(DOCUMENT, min_size=1, max_size=4)


def brute_parse(shards: list[list[list[int]]], row: list[int]) -> tuple[list[int], int, float]:
    """The definition by scanning: span lengths, best document, its share (no candidate limit)."""
    brute = BruteForce([stream_of(shard) for shard in shards])
    firsts = np.cumsum([0, *map(len, shards)])
    credit: dict[int, int] = {}
    spans: list[int] = []
    while len(spans) < len(row):
        start = len(spans)
        length = max(n for n in range(len(row) - start + 1) if brute.count(row[start : start + n]))
        if length == 0:
            spans.append(0)
            continue
        places = brute.places(row[start : start + length])
        documents = {int(firsts[s]) + i // (len(row) + 1) for s, i in places}
        source = min(documents, key=lambda d: (-credit.get(d, 0), d))
        credit[source] = credit.get(source, 0) + length
        spans += [length] * length
    best = min(credit, key=lambda d: (-credit[d], d), default=-1)
    return spans, best, credit.get(best, 0) / len(row)


@settings(deadline=None)
@given(
    shards=st.lists(SHARD, min_size=1, max_size=3),
    row=st.lists(st.integers(0, 4), min_size=5, max_size=5),
)
def test_the_parse_credits_sources_by_definition(
    shards: list[list[list[int]]], row: list[int]
) -> None:
    index = NaiveIndex.of_streams([stream_of(shard) for shard in shards])
    rows = np.array([row], np.uint16)
    sources = parse_sources(index, rows, index.match_lengths(rows))
    spans, document, share = brute_parse(shards, row)
    assert sources.span_lengths[0].tolist() == spans
    assert sources.documents[0] == document
    assert sources.shares[0] == pytest.approx(share)


def test_native_and_naive_index_give_the_same_sources(tmp_path: Path) -> None:
    shards = [random_tokens(6, seed=seed, vocabulary=3).tolist() for seed in (0, 1)]
    folders = [write_index(tmp_path / str(i), shard) for i, shard in enumerate(shards)]
    native = NativeIndex.open(folders)
    naive = NaiveIndex.of_streams([stream_of(shard) for shard in shards])
    rows = random_tokens(8, seed=2, vocabulary=4)
    lengths = native.match_lengths(rows)
    for limit in (64, 2):
        ours = parse_sources(native, rows, lengths, max_candidates=limit)
        theirs = parse_sources(naive, rows, lengths, max_candidates=limit)
        np.testing.assert_array_equal(ours.span_lengths, theirs.span_lengths)
        np.testing.assert_array_equal(ours.documents, theirs.documents)
        np.testing.assert_array_equal(ours.shares, theirs.shares)


def test_a_phrase_goes_to_the_source_that_explains_most_so_far() -> None:
    # "1 2" is in both documents; after "7 8 9" of document 1 it is credited to document 1, before
    # it to document 0, the smaller id.
    shards = [[[1, 2, 5, 5, 5], [7, 8, 9, 1, 2]]]
    index = NaiveIndex.of_streams([stream_of(shard) for shard in shards])
    rows = np.array([[7, 8, 9, 7, 8], [1, 2, 7, 8, 9], [9, 7, 1, 2, 3]], np.uint16)
    sources = parse_sources(index, rows, index.match_lengths(rows))
    assert sources.documents.tolist() == [1, 1, 1]
    assert sources.shares.tolist() == [1.0, 0.6, 0.8]
    assert sources.span_lengths.tolist() == [[3, 3, 3, 2, 2], [2, 2, 3, 3, 3], [1, 1, 2, 2, 0]]


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
    assert ceiling.scalars["exact_copy_rate"].value == 1.0
    assert ceiling.scalars["largest_source_share"].value == 1.0
    assert ceiling.scalars["mean_copied_span"].value == LAYOUT.num_tokens
    unseen = np.full((3, LAYOUT.num_tokens), 300, np.uint16)
    images = MemoryImages(tokens=unseen, trace=MemoryImages.of(corpus.all[:3]).trace, images=None)
    novel = CopyingMetric().measure(generated=images, reference=reference)
    for name in ("exact_copy_rate", "largest_source_share", "mean_copied_span"):
        assert novel.scalars[name].value == 0.0
    assert novel.curves["source_document"].tolist() == [-1.0] * 3


def test_a_collage_is_copied_but_from_several_sources(corpus: MemoryTokens) -> None:
    collage = np.concatenate([corpus.all[:1, :9], corpus.all[1:2, 9:]], axis=1)
    measurement = CopyingMetric().measure(
        generated=MemoryImages.of(collage), reference=MemoryReference(corpus)
    )
    assert measurement.scalars["exact_copy_rate"].value == 0.0
    assert measurement.scalars["largest_source_share"].value == pytest.approx(9 / 15)
    # 9 tokens lie in a phrase of 9, 6 in one of 6.
    assert measurement.scalars["mean_copied_span"].value == pytest.approx((81 + 36) / 15)
    edges = measurement.curves["copied_span_edges"].tolist()
    level0 = measurement.curves["copied_span_level0"]
    assert level0[edges.index(8)] == 1.0  # 9 lies in the bin 8 ... 11
    assert measurement.curves["copied_span_level1"].sum() == pytest.approx(1.0)


def test_forced_steps_need_a_source(corpus: MemoryTokens) -> None:
    tokens = corpus.all[:2]
    distinct = np.full(tokens.shape, 2, np.uint16)
    distinct[0, :6] = 1
    source = np.zeros(tokens.shape, np.int32)
    source[0, :3] = -1  # the one possible token was not the one that was written
    images = MemoryImages.of(tokens, num_distinct=distinct, source_document=source)
    measurement = CopyingMetric().measure(generated=images, reference=MemoryReference(corpus))
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
    with pytest.raises(ConfigError, match="max_candidates is 0; use 1 or more"):
        CopyingMetric(max_candidates=0)
    for metric in (FrechetMetric, PrdcMetric):
        with pytest.raises(ConfigError, match="jackknife_blocks is 1; use 2 or more"):
            metric(encoder=PixelEncoder(), jackknife_blocks=1)
    with pytest.raises(ConfigError, match=r"shown_n=\[65\] must lie in 1 ... max_n=64"):
        NoveltyMetric(shown_n=[65])
