"""Rows that end early are measured as if they were cut there: padding is no part of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagegram.indexes.naive import NaiveIndex
from imagegram.layout import TokenLayout
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.functional import num_steps
from imagegram.metrics.novelty import NoveltyMetric
from imagegram.metrics.order import OrderMetric
from imagegram.records import EOS_TOKEN_ID, Measurement, Tokens, lengths_inside
from imagegram.stages.planted import Planted
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace
from tests.index_folders import stream_of

T = 10
TOKEN = st.integers(0, 3)
DOCUMENTS = st.lists(st.lists(TOKEN, min_size=1, max_size=14), min_size=1, max_size=4)
ROWS = st.lists(st.lists(TOKEN, max_size=T), min_size=1, max_size=4)


@dataclass(frozen=True)
class Ragged(MemoryReference):
    """A reference whose documents differ in length."""

    documents_of: tuple[tuple[int, ...], ...] = ()

    @property
    def index(self) -> NaiveIndex:
        return NaiveIndex.of_streams([stream_of(list(map(list, self.documents_of)))])

    def match_lengths(self, images: MemoryImages) -> NDArray[np.integer]:
        return lengths_inside(self.index.match_lengths(images.tokens), images.tokens)

    def clusters(self) -> NDArray[np.int64]:
        return np.arange(len(self.documents_of))


def reference(documents: list[list[int]], length: int) -> Ragged:
    return Ragged(
        tokens=MemoryTokens([]),
        layout=TokenLayout.sequence(length, order="raster"),
        documents_of=tuple(map(tuple, documents)),
    )


def images(rows: list[list[int]], length: int) -> MemoryImages:
    tokens = np.full((len(rows), length), EOS_TOKEN_ID, dtype=np.uint16)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    trace = free_trace(tokens)
    for name, values in trace.items():
        padding = np.arange(length) >= num_steps(tokens)[:, None]
        values[padding] = -1 if name.startswith("source") else 0
    return MemoryImages(tokens=tokens, trace=trace, images=None)  # type: ignore[arg-type]


def values(measurement: Measurement) -> dict[str, float | None]:
    return {name: measured.value for name, measured in measurement.scalars.items()}


@given(DOCUMENTS, ROWS)
@settings(max_examples=60, deadline=None)
def test_copying_sees_every_row_up_to_its_end(
    documents: list[list[int]], rows: list[list[int]]
) -> None:
    metric = CopyingMetric()
    found = metric.measure(generated=images(rows, T), reference=reference(documents, T))
    wanted = ("source_share", "source_document", "exact_copy")
    spans, phrases = [], []
    for b, row in enumerate(rows):
        if not row:
            assert [found.curves[name][b] for name in wanted] == [0, -1, 0]
            spans, phrases = [*spans, 0.0], [*phrases, 0.0]
            continue
        alone = metric.measure(
            generated=images([row], len(row)), reference=reference(documents, len(row))
        )
        assert [found.curves[name][b] for name in wanted] == [alone.curves[n][0] for n in wanted]
        spans.append(float(values(alone)["mean_copied_span"] or 0))
        phrases.append(float(values(alone)["num_phrases"] or 0))
        inside = any(
            row == document[at : at + len(row)]
            for document in documents
            for at in range(len(document))
        )
        assert found.curves["exact_copy"][b] == inside
    assert values(found)["mean_copied_span"] == pytest.approx(np.mean(spans))
    assert values(found)["num_phrases"] == pytest.approx(np.mean(phrases))
    assert found.curves["copied_span_level0"].sum() == pytest.approx(float(any(rows)))


@given(DOCUMENTS, ROWS)
@settings(max_examples=60, deadline=None)
def test_novelty_counts_the_n_grams_of_every_row(
    documents: list[list[int]], rows: list[list[int]]
) -> None:
    metric = NoveltyMetric(max_n=4, shown_n=(1, 2, 4))
    found = metric.measure(generated=images(rows, T), reference=reference(documents, T))
    known = reference(documents, T).index
    for n in (1, 2, 4):
        shares = []
        for row in rows:
            grams = [row[at : at + n] for at in range(len(row) - n + 1)]
            if grams:
                shares.append(np.mean([known.count(gram) == 0 for gram in grams]))
        value = values(found)[f"novelty_n{n}"]
        assert value == (pytest.approx(np.mean(shares)) if shares else None)


def test_order_looks_at_the_steps_that_were_taken() -> None:
    rows = [[1, 2, 3], list(range(T)), []]
    measured = OrderMetric().measure(generated=images(rows, T), reference=reference([[1, 2, 3]], T))
    assert values(measured) == {
        "forced_copy_rate": 0.0,
        "mean_suffix_len": 3.0,
        "single_context_rate": 0.0,
        "impossible_step_rate": 0.0,
        # One bit a step; the separator that ends a row is one.
        "choice_bits_per_image": pytest.approx((4 + T + 1) / 3),
    }
    np.testing.assert_array_equal(measured.curves["suffix_len_by_position"], np.full(T, 3.0))


class Rows:
    """A DocumentSource of padded rows."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.tokens: Tokens = np.asarray(images(rows, T).tokens)

    def identity(self) -> str:
        return "rows"

    @property
    def num_documents(self) -> int:
        return len(self.tokens)

    def gather(self, documents: NDArray[np.int64]) -> Tokens:
        return self.tokens[documents]


@pytest.mark.parametrize("recipe", ["shuffled", "collages", "copies_20"])
def test_planted_rows_have_their_padding_behind_them(recipe: str) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50, rng.integers(1, T + 1)).tolist() for _ in range(20)]
    planted = Planted(
        recipe=recipe,
        train=Rows(rows),
        holdout=Rows([[token + 100 for token in row] for row in rows]),
        layout=TokenLayout.sequence(T, order="raster"),
        num_documents=20,
        seed=3,
    )
    made = planted.gather(np.arange(20))
    ended = made == EOS_TOKEN_ID
    assert (ended[:, 1:] >= ended[:, :-1]).all()
    if recipe == "shuffled":
        copied = replace(planted, recipe="copies_1").gather(np.arange(20))
        for row, original in list(zip(made, copied, strict=True))[planted.num_copied + 1 :]:
            assert sorted(row.tolist()) == sorted(original.tolist())
