"""Excerpts of documents that samples continue, and what is measured behind them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.conditions.drawn import with_documents
from imagegram.conditions.excerpts import DrawnExcerpts, ExcerptCondition
from imagegram.conditions.prompt import GivenTokens, encoded, without_prompt
from imagegram.errors import ConfigError
from imagegram.metrics.continuation import (
    LONGEST,
    ContinuationMetric,
    brier_of_excerpts,
    brier_scores,
    same_tokens,
)
from imagegram.records import EOS_TOKEN_ID
from imagegram.seeding import document_order
from imagegram.stages.needs import lacking, reads_trace
from imagegram.stages.sample_set import Continued
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard


class Rows:
    """Rows of tokens in memory, a document each."""

    def __init__(self, rows_NT: Any) -> None:
        self.rows = np.asarray(rows_NT, np.uint16)
        self.reads: list[int] = []

    def identity(self) -> Any:
        return self.rows.tolist()

    @property
    def num_documents(self) -> int:
        return len(self.rows)

    def gather(self, document_ids: Any) -> Any:
        self.reads.append(len(document_ids))
        return self.rows[np.asarray(document_ids, np.int64)]


class Sets:
    """What a metric reads of samples, and of a corpus."""

    seed = 0

    def __init__(self, tokens: Any, continued: Continued | None) -> None:
        self.tokens, self.continued = tokens, continued


def asked(**fields: Any) -> ExcerptCondition:
    return ExcerptCondition(name="excerpt", **fields)


def drawn(rows_NT: Any, *, seed: int = 0, **fields: Any) -> DrawnExcerpts:
    return DrawnExcerpts(condition=asked(**fields), rows=Rows(rows_NT), seed=seed)


def numbers(count: int) -> Any:
    return np.arange(count, dtype=np.uint64)


# ------------------------------------------------------------------------------------- excerpts


def test_samples_continue_documents_in_the_order_of_the_seed() -> None:
    rows = np.arange(40).reshape(10, 4)
    excerpts = drawn(rows, seed=3, length=2, num_excerpts=4)
    expected = document_order(10, 3)[:4]
    assert excerpts.rows_of(numbers(6)).tolist() == [*expected, *expected[:2]]
    assert excerpts.documents_of(excerpts.rows_of(numbers(2))).tolist() == expected[:2].tolist()


def test_the_ids_are_the_first_of_the_documents() -> None:
    excerpts = drawn(np.arange(40).reshape(10, 4), length=3, num_excerpts=10)
    tokenizer: Any = SimpleNamespace(spec=SimpleNamespace(length=4))
    given_ids: Any = encoded(excerpts, tokenizer)
    assert isinstance(given_ids, GivenTokens)
    expected = [tuple(excerpts.rows.gather([row])[0, :3].tolist()) for row in excerpts.chosen]
    assert list(given_ids.rows) == expected
    assert without_prompt(excerpts) is None
    assert without_prompt(asked()) is None


@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    length=st.integers(1, 5),
    count=st.integers(1, 8),
)
def test_rows_are_drawn_that_go_on_for_long_enough(
    sizes: list[int], length: int, count: int
) -> None:
    rows = np.full((len(sizes), 6), EOS_TOKEN_ID)
    for row, size in zip(rows, sizes, strict=True):
        row[:size] = 7
    order = document_order(len(sizes), 0).tolist()
    expected = [row for row in order if sizes[row] >= min(2 * length, 6)][:count]
    excerpts = drawn(rows, length=length, num_excerpts=count)
    if not expected:
        with pytest.raises(ConfigError, match=f"length={length}"):
            _ = excerpts.chosen
    else:
        assert excerpts.chosen.tolist() == expected


def test_no_more_documents_are_read_than_needed() -> None:
    excerpts = drawn(np.full((5000, 4), 7), length=2, num_excerpts=3)
    assert len(excerpts.chosen) == 3
    assert sum(excerpts.rows.reads) == 256  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"documents": "heldout"}, "held_out"),
        ({"length": 0}, "condition.length=32"),
        ({"num_excerpts": 0}, "condition.num_excerpts=128"),
    ],
)
def test_what_no_excerpt_can_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        asked(**fields)


def test_excerpts_that_leave_nothing_to_write_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"condition\.length=2, or .*window=16"):
        drawn(np.full((2, 8), 7), length=8).check(most=7)


def test_the_condition_finds_its_documents(tmp_path: Path) -> None:
    sets = [
        context(tmp_path).make(FakeTokens(parts=(FakeTokenShard(rows=rows, labels=(None,) * 2),)))
        for rows in (((1, 2, 3), (4, 5, 6)), ((7, 8, 9), (10, 11, 12)))
    ]
    for part, known in (("training", sets[0]), ("held_out", sets[1])):
        found: Any = with_documents(
            asked(documents=part, length=1),
            captions=None,
            tokens=sets[0],
            holdout=sets[1],
            seed=0,
        )
        assert found.rows.identity() == known.windows().identity()


# -------------------------------------------------------------------------------------- scores


def test_the_estimate_is_unbiased() -> None:
    """Its mean over all pairs of samples, by their probability, is the Brier score itself."""
    probability = {(1, 1): 0.5, (1, 2): 0.3, (2, 1): 0.2}
    for truth in [*probability, (2, 2)]:
        for n in (1, 2):
            mean = 0.0
            for first, p in probability.items():
                for second, q in probability.items():
                    written = np.array([first, second])
                    values = brier_of_excerpts(
                        written, np.array([truth, truth]), np.zeros(2, np.int64), n=n
                    )
                    mean += p * q * float(values[0])
            heads: dict[Any, float] = {}
            for tokens, p in probability.items():
                heads[tokens[:n]] = heads.get(tokens[:n], 0.0) + p
            exact = 2 * heads.get(truth[:n], 0.0) - sum(p * p for p in heads.values())
            assert mean == pytest.approx(exact)


def test_more_samples_are_all_their_pairs() -> None:
    rng = np.random.default_rng(0)
    written, truth = rng.integers(0, 3, (5, 4)), np.tile(rng.integers(0, 3, 4), (5, 1))
    for n in range(1, LONGEST + 1):
        pairs = [
            float(
                brier_of_excerpts(written[[a, b]], truth[:2], np.zeros(2, np.int64), n=n)[0],
            )
            for a in range(5)
            for b in range(a)
        ]
        (value,) = brier_of_excerpts(written, truth, np.zeros(5, np.int64), n=n)
        assert float(value) == pytest.approx(np.mean(pairs))


def continued(truth_BT: Any, rows: Any, length: int = 2) -> Continued:
    rows_B = np.asarray(rows, np.int64)
    return Continued(tokens=truth_BT, rows=rows_B, documents=rows_B, length=length)


def test_a_copier_reads_100_and_recites_everything() -> None:
    rng = np.random.default_rng(1)
    truth = np.tile(rng.integers(0, 50, (60, 10)), (2, 1))
    rows = np.tile(np.arange(60), 2)
    images: Any = Sets(truth, continued(truth, rows))
    found = ContinuationMetric().measure(generated=images, reference=images).scalars
    assert found["brier_lm"].value == pytest.approx(100)
    assert found["recited_rate"].value == 1
    assert found["recited_tokens"].value == 8
    assert found["recited_other_tokens"].value < 1  # type: ignore[operator]


def test_the_truth_of_another_excerpt_is_chance() -> None:
    rng = np.random.default_rng(1)
    truth = np.tile(rng.integers(0, 50, (60, 10)), (2, 1))
    rows = np.tile(np.arange(60), 2)
    images: Any = Sets(np.roll(truth, 1, axis=0), continued(truth, rows))
    found = ContinuationMetric().measure(generated=images, reference=images).scalars
    assert found["brier_lm"].value == 0
    assert found["brier_4"].value == -1
    assert found["recited_rate"].value == 0
    assert found["recited_other_tokens"].value == 8


def test_one_sample_of_an_excerpt_gives_no_brier_score() -> None:
    truth = np.arange(30).reshape(3, 10)
    images: Any = Sets(truth, continued(truth, [0, 1, 1]))
    found = ContinuationMetric().measure(generated=images, reference=images).scalars
    assert found["brier_lm"].value is None
    assert "num_samples=4" in (found["brier_lm"].note or "")
    assert found["recited_tokens"].value == 8


def test_documents_are_resampled_whole() -> None:
    truth = np.tile(np.arange(10), (80, 1))
    documents = np.repeat(np.arange(4), 20)
    scores = brier_scores(truth, truth, np.repeat(np.arange(40), 2), documents)
    assert scores["brier_lm"].low is None  # four documents are too few for blocks


def test_equal_tokens_end_with_the_document() -> None:
    end = EOS_TOKEN_ID
    truth = np.array([[5, end, end], [5, 6, end], [5, 6, 7]])
    assert same_tokens(truth, truth).tolist() == [1, 2, 3]
    assert same_tokens(np.full((3, 3), 5), truth).tolist() == [1, 1, 1]


def test_sets_that_continue_nothing_are_left_out() -> None:
    images: Any = Sets(np.zeros((2, 8), np.uint16), None)
    assert "condition=excerpt_held_out" in lacking(ContinuationMetric(), images)
    assert reads_trace(ContinuationMetric())
