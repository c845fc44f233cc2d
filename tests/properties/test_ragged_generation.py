"""Samples of documents that differ in length end where documents do, in every engine that can."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import TokenError, UnsupportedError
from imagegram.generators.ngram.model import NgramModel
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID, row_sizes
from imagegram.samplers.ngram import NgramSampler
from tests.generation import assert_same, first_samples, fit, sampler
from tests.index_folders import stream_of

T = 7
LAYOUT = TokenLayout.sequence(T, order="raster")
TOKEN = st.sampled_from([0, 1, 256, 65534])
DOCUMENT = st.lists(TOKEN, max_size=2 * T)
SHARDS = st.lists(st.lists(DOCUMENT, min_size=1, max_size=4), min_size=1, max_size=3)


def ragged(root: str, shards: list[list[list[int]]], *, final: bool = True) -> NgramModel:
    naive = fit(Path(root), shards, engine="naive", final_separator=final)
    return replace(naive, ragged=True)


@dataclass(frozen=True)
class Case:
    shards: list[list[list[int]]]
    sampler: NgramSampler
    seed: int
    rows: np.ndarray


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shards = draw(SHARDS.filter(lambda some: any(map(any, some))))
    if draw(st.booleans()):  # all of one length, which says nothing of where samples end
        shards = [[[1, 0, 256], [0, 0, 1], [1, 0, 0]][: len(shard)] for shard in shards]
    contexts = st.integers(1, T + 3)
    drawn = NgramSampler(
        name="drawn",
        temperature=draw(st.sampled_from([0.0, 0.7, 1.0])),
        top_k=draw(st.sampled_from([None, 2])),
        max_context=draw(contexts),
        min_count=draw(st.integers(1, 6)),
        count_documents=draw(st.booleans()),
        matching="free",
    )
    rows = np.full((3, T), EOS_TOKEN_ID, dtype=np.uint16)
    for row in rows:
        ids = draw(st.one_of(st.lists(TOKEN, max_size=T), st.sampled_from(shards[0])))[:T]
        row[: len(ids)] = ids
    return Case(shards, drawn, draw(st.integers(0, 2**64 - 1)), rows)


@given(cases(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_native_is_the_reference(case: Case, final: bool) -> None:
    wanted = {"sampler": case.sampler, "layout": LAYOUT, "seed": case.seed}
    shards = case.shards
    if not final:  # an empty last document would be the separator behind the one before it
        shards = [[*shard[:-1], shard[-1] or [1]] for shard in shards]
    with tempfile.TemporaryDirectory() as root:
        naive = ragged(root, shards, final=final)
        native = replace(naive, engine="native")
        made = naive.generate(first_samples(4), **wanted)
        assert_same(made, native.generate(first_samples(4), **wanted, workers=2))
        assert_same(
            (case.rows, naive.score(case.rows, **wanted)),
            (case.rows, native.score(case.rows, **wanted)),
        )
        # Of its own samples the trace is their own.
        assert_same(made, (made[0], native.score(made[0], **wanted)))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_what_is_written_can_be_found(case: Case) -> None:
    """Every step names a place of the corpus that follows its context and holds its token."""
    wanted = {"sampler": case.sampler, "layout": LAYOUT, "seed": case.seed}
    documents = [document for shard in case.shards for document in shard]
    with tempfile.TemporaryDirectory() as root:
        tokens, trace = ragged(root, case.shards).generate(first_samples(4), **wanted)
    for b, size in enumerate(row_sizes(tokens).tolist()):
        row, steps = tokens[b], min(size + 1, T)
        assert (row[size:] == EOS_TOKEN_ID).all()
        assert (trace["probability"][b, :steps] > 0).all()
        for values in trace.values():
            assert (values[b, steps:] == (-1 if values.dtype == np.int32 else 0)).all()
        for t in range(steps):
            document = documents[trace["source_document"][b, t]]
            position, length = int(trace["source_position"][b, t]), int(trace["suffix_len"][b, t])
            ended = position == len(document)
            assert row[t] == (EOS_TOKEN_ID if ended else document[position])
            assert not (ended and length == 0)
            around = [EOS_TOKEN_ID, *document]
            context = [EOS_TOKEN_ID, *row[:t].tolist()]
            assert around[position + 1 - length : position + 1] == context[len(context) - length :]


def test_whole_contexts_give_whole_documents_back(tmp_path: Path) -> None:
    documents = [[1, 2, 3], [4, 5], [6, 7, 8, 9, 10, 11, 12], [13] * 9]
    model = replace(ragged(str(tmp_path), [documents[:2], documents[2:]]), engine="native")
    tokens, trace = model.generate(
        first_samples(200), sampler=sampler(max_context=T), layout=LAYOUT, seed=5
    )
    padded = [(document + [EOS_TOKEN_ID] * T)[:T] for document in documents]
    assert {tuple(row) for row in tokens.tolist()} == {tuple(row) for row in padded}
    assert (
        trace["source_position"][tokens.tolist().index(padded[1])].tolist() == [0, 1, 2] + [-1] * 4
    )


def test_documents_end_as_often_as_the_corpus_says(tmp_path: Path) -> None:
    """After 1 two of three documents end."""
    model = replace(ragged(str(tmp_path), [[[1], [1], [1, 2]]]), engine="native")
    samples = first_samples(3000)
    tokens, _ = model.generate(samples, sampler=sampler(max_context=2), layout=LAYOUT, seed=0)
    sizes = Counter(row_sizes(tokens).tolist())
    assert sizes.keys() == {1, 2}
    assert sizes[1] == pytest.approx(2000, abs=4 * (3000 * 2 / 9) ** 0.5)


def test_what_no_engine_can_do_is_refused_with_what_to_type(tmp_path: Path) -> None:
    model = ragged(str(tmp_path), [[[1, 2], [3]]])
    wanted = {"layout": LAYOUT, "seed": 0}
    for engine in ("torch", "fastgram"):
        with pytest.raises(UnsupportedError, match=r"use generator\.engine=native"):
            replace(model, engine=engine).generate(first_samples(1), sampler=sampler(), **wanted)
    with pytest.raises(UnsupportedError, match=r"sampler.anchor=2 on documents of different"):
        replace(model, engine="native").generate(
            first_samples(1), sampler=sampler(anchor=2), **wanted
        )
    with pytest.raises(UnsupportedError, match=r"sampler\.matching=free"):
        model.generate(first_samples(1), sampler=sampler(matching="position"), **wanted)
    rows = np.array([stream_of([[1], [2]])], dtype=np.uint16)  # 65535 1 65535 2 65535
    with pytest.raises(TokenError, match="row 0 holds the separator 65535 before its end"):
        model.score(rows, sampler=sampler(), layout=TokenLayout.sequence(5), seed=0)
