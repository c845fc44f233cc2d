"""planner: cross entropy and accuracy of steps of codes, beside what needs no generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagegram.indexes.naive import NaiveIndex
from imagegram.layout import TokenLayout
from imagegram.metrics.planner import Frequencies, PlannerMetric
from imagegram.records import EOS_TOKEN_ID, Measured
from tests.image_sets import MemoryImages
from tests.index_folders import stream_of

K, V, END = 2, 3, EOS_TOKEN_ID
TRAINING = [[0, 3, 0, 3, 1, 4], [0, 5], [2, 3]]


class CodesReference:
    """Training documents of two codes a step, of three values each."""

    seed, vocab_size = 0, K * V
    layout = TokenLayout.sequence(6, order="raster", num_channels=K)
    index = NaiveIndex.of_streams([stream_of(TRAINING)])


REFERENCE: Any = CodesReference()


def measured(rows: Any, log_prob: NDArray[Any], **trace: Any) -> dict[str, Measured]:
    """The scores of rows of three steps."""
    tokens = np.array(rows, np.uint16)
    images: Any = MemoryImages(tokens, {"log_prob": log_prob, **trace}, None)  # type: ignore[arg-type]
    return PlannerMetric().measure(generated=images, reference=REFERENCE).scalars


ROWS = [[0, 3, 0, 4, 1, 4], [2, 3, END, END, END, END], [1, 5, 1, 5, END, END]]
THERE = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]], bool)


def test_the_cross_entropy_of_a_tuple_is_that_of_its_codes_together() -> None:
    log_prob = np.random.default_rng(0).uniform(-3, 0, (3, 6))
    found = measured(ROWS, log_prob)
    nats = -log_prob.reshape(3, 3, 2)[THERE]
    assert found["tuple_nats"].value == pytest.approx(nats.sum(axis=1).mean())
    assert found["tuple_bits"].value == pytest.approx(nats.sum(axis=1).mean() / math.log(2))
    assert found["tuple_perplexity"].value == pytest.approx(math.exp(nats.sum(axis=1).mean()))
    for stage in range(K):
        assert found[f"code{stage + 1}_nats"].value == pytest.approx(nats[:, stage].mean())
    assert found["tuple_accuracy"].value is None
    assert "likeliest" in found["code1_accuracy"].note


def test_the_unigram_is_a_distribution_of_all_choices() -> None:
    """The codes of a stage, and beside the first one the end of a document."""
    known = Frequencies.of(REFERENCE, K)
    assert known.num_ends == len(TRAINING)
    everything = np.array([[[code, V + code]] for code in range(V)])
    sums = np.exp(-known.nats(everything)).sum(axis=(0, 1))
    num_tuples, ends = 5, 3
    assert sums[0] == pytest.approx((num_tuples + V) / (num_tuples + V + ends))
    assert sums[1] == pytest.approx(1)
    found = measured(ROWS, np.zeros((3, 6)))
    first = {0: 4, 1: 2, 2: 2}  # one more than was seen
    second = {3: 4, 4: 2, 5: 2}
    steps = np.array(ROWS).reshape(3, 3, 2)[THERE]
    expected = [-math.log(first[a] / 11) - math.log(second[b] / 8) for a, b in steps.tolist()]
    assert found["tuple_unigram_nats"].value == pytest.approx(np.mean(expected))
    assert found["tuple_saved_nats"].value == pytest.approx(np.mean(expected))


def test_accuracies_stand_beside_the_most_frequent_and_the_step_before() -> None:
    likeliest = np.array([[1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]], np.uint8)
    found = measured(ROWS, np.zeros((3, 6)), is_likeliest=likeliest)
    value = {name: each.value for name, each in found.items()}
    assert value["tuple_accuracy"] == pytest.approx(3 / 6)
    assert (value["code1_accuracy"], value["code2_accuracy"]) == (4 / 6, 4 / 6)
    # Training documents have 0 and 3 most often, and most often together.
    assert (value["code1_frequent_accuracy"], value["code2_frequent_accuracy"]) == (2 / 6, 2 / 6)
    assert value["tuple_frequent_accuracy"] == pytest.approx(1 / 6)
    # Three steps have one before them: (0, 4), (1, 4), (1, 5).
    assert value["code1_copy_accuracy"] == pytest.approx(2 / 3)
    assert value["code2_copy_accuracy"] == pytest.approx(2 / 3)
    assert value["tuple_copy_accuracy"] == pytest.approx(1 / 3)


def test_no_whole_step_and_no_step_behind_another_have_no_score() -> None:
    nothing = measured([[END] * 6], np.zeros((1, 6)))
    assert nothing["tuple_nats"].note == "no sample has a whole step"
    single = measured([[0, 3, END, END, END, END]], np.zeros((1, 6)))
    assert single["tuple_copy_accuracy"].value is None
    assert single["tuple_nats"].value == 0


def test_an_impossible_code_is_said() -> None:
    log_prob = np.zeros((3, 6))
    log_prob[0, 0] = -np.inf
    found = measured(ROWS, log_prob)
    assert found["tuple_nats"].note == "a code is impossible under the generator"
    assert found["code2_nats"].value == 0


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, V - 1), st.integers(0, V - 1)), max_size=3),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=50, deadline=None)
def test_stages_add_up_to_tuples(documents: list[list[tuple[int, int]]]) -> None:
    rows = np.full((len(documents), 6), END, np.uint16)
    for row, steps in zip(rows, documents, strict=True):
        for step, (first, second) in enumerate(steps):
            row[2 * step : 2 * step + 2] = first, V + second
    log_prob = np.random.default_rng(1).uniform(-5, 0, rows.shape)
    value = {name: each.value for name, each in measured(rows, log_prob).items()}
    if not any(documents):
        assert value == {"tuple_nats": None}
        return
    for name in ("nats", "unigram_nats"):
        parts = [value[f"code{stage + 1}_{name}"] for stage in range(K)]
        assert value[f"tuple_{name}"] == pytest.approx(sum(part or 0.0 for part in parts))
    assert value["tuple_saved_nats"] == pytest.approx(
        (value["tuple_unigram_nats"] or 0) - (value["tuple_nats"] or 0)
    )
