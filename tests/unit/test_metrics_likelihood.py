"""Code lengths: proper distributions, and the counts that they say they are made of."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.generators.ngram.trace import empty_trace
from imagegram.layout import TokenLayout
from imagegram.metrics.likelihood import LikelihoodMetric
from imagegram.metrics.replayed_counts import absent_token, counts_of, pack_pairs
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.ngram import MATCHING, matching_classes
from imagegram.store.manifest import Artifact
from tests.generation import fit, manifest
from tests.image_sets import LAYOUT, MemoryImages, MemoryReference, MemoryTokens, random_tokens
from tests.pictures import context as make_context

#: Two levels of two channels: every matching admits other places.
SMALL = TokenLayout(heights=(1, 1), widths=(1, 2), num_channels=2)
VOCABULARY = 3
IMAGE = st.lists(st.integers(0, VOCABULARY - 1), min_size=6, max_size=6)
SHARD = st.lists(IMAGE, min_size=1, max_size=4)
CORPUS = st.lists(SHARD, min_size=1, max_size=2)


@dataclass(frozen=True)
class SmallReference(MemoryReference):
    vocab_size: ClassVar[int] = VOCABULARY

    @classmethod
    def of(cls, shards: list[list[list[int]]]) -> SmallReference:
        tokens = MemoryTokens(shards=[np.array(shard, np.uint16) for shard in shards])
        return cls(tokens, layout=SMALL)


def slow_probability(
    documents: list[list[int]], row: list[int], t: int, metric: LikelihoodMetric
) -> float:
    """p(row[t] | row[:t]) by the definition, counting contexts with nothing but lists."""
    classes = matching_classes(metric.matching, SMALL)
    history = [EOS_TOKEN_ID, *row[:t]]
    p = 1 / VOCABULARY
    for order in range(0 if t else 1, min(metric.max_context, len(history)) + 1):
        context = history[len(history) - order :]
        after: Counter[int] = Counter()
        for document in documents:
            stream = [EOS_TOKEN_ID, *document]
            for i in range(max(order, 1), len(stream)):
                if stream[i - order : i] == context and classes[i - 1] == classes[t]:
                    after[stream[i]] += 1
        if after:
            own = max(after[row[t]] - metric.discount, 0)
            p = (own + metric.discount * len(after) * p) / after.total()
    return p


@pytest.mark.parametrize("matching", MATCHING)
@settings(deadline=None, max_examples=25)
@given(
    shards=CORPUS,
    rows=SHARD,
    max_context=st.integers(1, 4),
    discount=st.sampled_from([0.3, 0.9, 1.0]),
)
def test_counts_are_those_of_the_definition(
    matching: str,
    shards: list[list[list[int]]],
    rows: list[list[int]],
    max_context: int,
    discount: float,
) -> None:
    metric = LikelihoodMetric(max_context=max_context, discount=discount, matching=matching)
    bits = metric.code_lengths(np.array(rows, np.uint16), SmallReference.of(shards))
    documents = [document for shard in shards for document in shard]
    slow = [[slow_probability(documents, row, t, metric) for t in range(6)] for row in rows]
    np.testing.assert_allclose(2.0**-bits, slow, rtol=1e-12)


@given(
    rows=st.lists(st.lists(st.integers(0, 9), min_size=5, max_size=5), min_size=1, max_size=8),
    matching=st.sampled_from(MATCHING),
)
def test_every_pair_is_asked_once_after_a_token_that_occurs_nowhere(
    rows: list[list[int]], matching: str
) -> None:
    tokens, classes = np.array(rows, np.uint16), matching_classes(matching, SMALL)
    asked = pack_pairs(tokens, classes, absent=500)
    assert (asked.rows != 500).sum() == len(asked.row)
    assert (asked.column > 0).all()
    assert (asked.rows[asked.row, asked.column - 1] == 500).all()
    np.testing.assert_array_equal(asked.rows[asked.row, asked.column][asked.inverse], tokens)
    asked_classes = classes[asked.column][asked.inverse]
    np.testing.assert_array_equal(asked_classes, np.tile(classes[1:], (len(rows), 1)))
    pairs = {(c, t) for row in rows for c, t in zip(classes[1:].tolist(), row, strict=True)}
    assert len(asked.row) == len(pairs)
    assert len(asked.rows) <= 2 * len(rows)


@pytest.mark.parametrize("matching", MATCHING)
@settings(deadline=None, max_examples=15)
@given(shards=CORPUS, row=IMAGE, max_context=st.integers(1, 4))
def test_the_probabilities_of_all_tokens_sum_to_one_at_every_position(
    matching: str, shards: list[list[list[int]]], row: list[int], max_context: int
) -> None:
    metric = LikelihoodMetric(max_context=max_context, discount=0.75, matching=matching)
    positions = np.repeat(np.arange(len(row)), VOCABULARY)
    rows = np.tile(np.array(row, np.uint16), (len(positions), 1))
    rows[np.arange(len(rows)), positions] = np.tile(np.arange(VOCABULARY), len(row))
    bits = metric.code_lengths(rows, SmallReference.of(shards))
    own = 2.0 ** -bits[np.arange(len(rows)), positions]
    np.testing.assert_allclose(own.reshape(len(row), VOCABULARY).sum(axis=1), 1.0, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(shards=CORPUS, row=IMAGE)
def test_an_image_that_was_added_takes_no_more_bits_anywhere(
    shards: list[list[list[int]]], row: list[int]
) -> None:
    # By position an image adds one place to every context. Elsewhere it may add several with other
    # tokens, and one of its own tokens can become less likely.
    metric = LikelihoodMetric(max_context=3, matching="position")
    image = np.array([row], np.uint16)
    without = metric.code_lengths(image, SmallReference.of(shards))
    counted = metric.code_lengths(image, SmallReference.of([*shards, [row]]))
    assert (counted <= without + 1e-9).all()


@pytest.mark.parametrize("matching", MATCHING)
def test_the_native_engine_gives_the_same_bits(tmp_path: Path, matching: str) -> None:
    shards = [random_tokens(9, seed=seed, vocabulary=3) for seed in (0, 1)]
    whole = fit(tmp_path, [shard.tolist() for shard in shards]).index
    parts = [  # artifacts, so that side files can be made of them
        dataclasses.replace(shard, artifact=Artifact(path=shard.path, manifest=manifest(number)))
        for number, shard in enumerate(whole.shards)
    ]

    @dataclass(frozen=True)
    class NativeReference(MemoryReference):
        context: ClassVar[Any] = make_context(tmp_path)
        index: ClassVar[Any] = dataclasses.replace(whole, shards=tuple(parts))

    metric = LikelihoodMetric(max_context=3, matching=matching)
    rows = random_tokens(8, seed=2, vocabulary=4)
    tokens = MemoryTokens(shards=shards)
    np.testing.assert_array_equal(
        metric.code_lengths(rows, NativeReference(tokens)),
        metric.code_lengths(rows, MemoryReference(tokens)),
    )


@pytest.fixture(scope="module")
def reference() -> MemoryReference:
    return MemoryReference(MemoryTokens(shards=[random_tokens(30, seed=0, vocabulary=40)]))


def test_unseen_tokens_are_possible(reference: MemoryReference) -> None:
    unseen = np.full((1, LAYOUT.num_tokens), 200, np.uint16)
    bits = LikelihoodMetric().code_lengths(unseen, reference)
    assert np.isfinite(bits).all()
    assert (bits > 8).all()  # less likely than if nothing were known


def test_scores_are_sums_of_the_code_lengths(reference: MemoryReference) -> None:
    metric, rows = LikelihoodMetric(), random_tokens(12, seed=1, vocabulary=50)
    measurement = metric.measure(generated=MemoryImages.of(rows), reference=reference)
    bits = metric.code_lengths(rows, reference)
    values = {name: measured.value for name, measured in measurement.scalars.items()}
    assert (
        values
        == pytest.approx(
            {
                "bits_per_token": bits.mean(),
                "bits_per_dim": bits.sum(axis=1).mean() / 12,  # 2 x 2 pixels of three colours
                "bits_per_token_level0": bits[:, :3].mean(),
                "bits_per_token_level1": bits[:, 3:].mean(),
            }
        )
    )
    np.testing.assert_allclose(measurement.curves["code_length"], bits.mean(axis=0))
    low, high = measurement.scalars["bits_per_dim"].low, measurement.scalars["bits_per_dim"].high
    assert low is not None
    assert high is not None
    assert low < bits.sum(axis=1).mean() / 12 < high


def test_training_images_take_fewer_bits(reference: MemoryReference) -> None:
    metric = LikelihoodMetric(max_context=4)
    seen = metric.code_lengths(reference.documents.all, reference).mean()
    new = metric.code_lengths(random_tokens(30, seed=3, vocabulary=40), reference).mean()
    assert seen < new - 1


def test_a_layout_without_a_picture_counts_the_measured_images_dimensions() -> None:
    layout = TokenLayout.sequence(5)
    tokens = MemoryTokens(shards=[random_tokens(4, seed=0)[:, :5]])
    rows = random_tokens(3, seed=1)[:, :5]
    images = MemoryImages(
        tokens=rows, trace=empty_trace(3, 5), images=np.zeros((3, 7, 7, 3), np.uint8)
    )
    reference = MemoryReference(tokens, layout=layout)
    scalars = LikelihoodMetric().measure(generated=images, reference=reference).scalars
    token, dim = scalars["bits_per_token"].value, scalars["bits_per_dim"].value
    assert token is not None
    assert dim == pytest.approx(token * 5 / (3 * 7 * 7))


@settings(deadline=None)
@given(total=st.integers(1, 2**32 - 1), share=st.floats(0, 1))
def test_counts_below_two_to_the_23_are_exact_and_larger_ones_nearly(
    total: int, share: float
) -> None:
    held = min(int(total * share), total)
    trace = {
        "suffix_len": np.ones((1, 1), np.uint16),
        "num_contexts": np.full((1, 1), total, np.uint32),
        "num_distinct": np.full((1, 1), 7, np.uint16),
        "probability": np.full((1, 1), held / total, np.float32),
    }
    counts = counts_of(trace, 1)
    assert (counts.seen[0, 0], counts.total[0, 0], counts.distinct[0, 0]) == (True, total, 7)
    assert counts.held[0, 0] == pytest.approx(held, rel=1e-14 if held < 2**23 else 2**-23)


def test_an_index_that_cannot_be_matched_gives_no_number_and_says_why() -> None:
    tokens = MemoryTokens(shards=[random_tokens(2, seed=0)[:, :9]])
    images = MemoryImages.of(random_tokens(2, seed=1))
    measurement = LikelihoodMetric().measure(generated=images, reference=MemoryReference(tokens))
    assert len(measurement.scalars) == 2 + LAYOUT.num_levels
    for measured in measurement.scalars.values():
        assert measured.value is None
        assert measured.note.startswith("metric.likelihood.matching=channel: ")
        assert "shard 0 holds 9 tokens each" in measured.note


def test_the_absent_token_occurs_nowhere() -> None:
    highest = EOS_TOKEN_ID - 1
    documents = [[highest] * 5, [highest - 1] * 4 + [highest - 3]]
    tokens = MemoryTokens(shards=[np.array(documents, np.uint16)])
    assert absent_token(tokens.index()) == highest - 2


@pytest.mark.parametrize(
    "knobs",
    [
        {"matching": "position", "smoothing": "kneser_ney"},
        {"matching": "position", "discount": None},
    ],
)
def test_places_that_are_too_few_to_smooth_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"type metric\.likelihood\.matching=channel"):
        LikelihoodMetric(**knobs)


@pytest.mark.parametrize(
    "knobs",
    [
        {"max_context": 0},
        {"discount": 0.0},
        {"discount": 1.1},
        {"matching": "places"},
        {"smoothing": "no"},
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(knobs))):
        LikelihoodMetric(**knobs)
