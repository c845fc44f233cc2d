"""Rows that end early: all engines end them as the reference does, and it as plain lists say."""

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
from imagegram.generators.ngram.engine import Files, Job, RowLabels
from imagegram.generators.ngram.model import NgramModel
from imagegram.generators.ngram.reference import ReferenceEngine
from imagegram.generators.ngram.search.engine import SearchEngine
from imagegram.generators.ngram.walk.engine import WalkEngine
from imagegram.indexes.build.coarse_stage import write_coarse
from imagegram.indexes.format import IndexShard
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID, row_sizes
from imagegram.samplers.ngram import NgramSampler
from tests.generation import assert_same, first_samples, fit, make_orders, sampler
from tests.index_folders import stream_of, write_index

LAYOUT = TokenLayout.sequence(7, order="raster", digits=(4, 8, 8, 250))
T = LAYOUT.num_tokens
#: The last three differ in their least digit only.
ALPHABETS = ([7], [0, 1], [1, 128, 255], [0, 256, 257, 63999], [40, 41, 42, 300])
RUNS = settings(max_examples=60, deadline=None)


@dataclass(frozen=True)
class Case:
    shards: list[list[list[int]]]
    final_separator: bool
    sampler: NgramSampler
    labels: RowLabels | None
    seed: int
    samples: np.ndarray
    rows: list[list[int]]

    def files(self, root: Path) -> Files:
        folders = [
            write_index(root / f"{s}", documents, final_separator=self.final_separator)
            for s, documents in enumerate(self.shards)
        ]
        return Files(shards=tuple(IndexShard.open(folder) for folder in folders))

    def job(self, *, forced: bool = False, workers: int = 1) -> Job:
        tokens_BT = np.full((len(self.rows), T), EOS_TOKEN_ID, dtype=np.uint16)
        for b, row in enumerate(self.rows):
            tokens_BT[b, : len(row)] = row[:T]
        return Job(
            sampler=self.sampler,
            layout=LAYOUT,
            ragged=True,
            samples=self.samples,
            seed=self.seed,
            labels=self.labels,
            forced=tokens_BT if forced else None,
            workers=workers,
        )


@st.composite
def cases(draw: st.DrawFn, *, conditions: bool = False) -> Case:
    token = st.sampled_from(draw(st.sampled_from(ALPHABETS)))
    # Sometimes all documents are equally long: then kernels compute where they begin.
    length = draw(st.one_of(st.none(), st.integers(1, T + 2)))
    sizes = {"max_size": 2 * T} if length is None else {"min_size": length, "max_size": length}
    documents = st.lists(st.lists(token, **sizes), min_size=1, max_size=5)
    shards = draw(st.lists(documents, min_size=1, max_size=3))
    shards[0].append([draw(token)])  # a candidate of the empty context
    final_separator = draw(st.booleans())
    if not final_separator:  # else an empty last document would be one
        shards = [[*documents, [draw(token)]] for documents in shards]
    count = sum(map(len, shards))
    samples = np.array(draw(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=4)), "u8")
    labels = None
    if conditions and draw(st.booleans()):
        by_document = draw(st.lists(st.integers(-1, 1), min_size=count, max_size=count))
        by_document[shards[0].index(max(shards[0], key=len))] = 0
        labels = RowLabels(
            by_document=np.array(by_document, dtype=np.int32),
            by_row=np.array([0, *[-1] * (len(samples) - 1)], dtype=np.int32),
            num_tokens=draw(st.integers(1, T)),
        )
    contexts = st.integers(1, T + 2)
    knobs = NgramSampler(
        name="drawn",
        temperature=draw(st.sampled_from([0.0, 0.9, 1.0])),
        top_k=draw(st.sampled_from([None, 1, 2])),
        max_context=draw(contexts),
        min_count=draw(st.sampled_from([1, 1, 2, 3, 7])),
        count_documents=draw(st.booleans()),
        anchor=draw(st.sampled_from([0, 1, 2, T])) if conditions else 0,
        context_digits=draw(st.sampled_from([None, 2, 3])) if conditions else None,
    )
    row = st.lists(st.one_of(token, st.just(9)), max_size=T)
    rows = [draw(row) for _ in samples]
    rows[0] = draw(st.sampled_from(shards[0]))
    return Case(
        shards,
        final_separator,
        knobs,
        labels,
        draw(st.integers(0, 2**64 - 1)),
        samples,
        rows,
    )


@given(cases(), st.sampled_from([1, 5, 64]), st.sampled_from([1, 3, 1000]))
@RUNS
def test_walk_and_search_are_the_reference(case: Case, frequent: int, entries: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        files = case.files(Path(root))
        memory = {"frequent": frequent, "memo_entries": entries}
        search, one = SearchEngine(files=files, **memory), files.shards[:1]
        walk = WalkEngine(
            files=Files(shards=one, orders=make_orders(one, Path(root), aligned=False)), **memory
        )
        for forced in (False, True):
            job = case.job(forced=forced, workers=2)
            found = search.rows(job)
            assert_same(ReferenceEngine(files=files).rows(job), found)
            # Of its own tokens the trace is their own.
            assert_same(found, search.rows(replace(job, forced=found[0])))
            assert_same(ReferenceEngine(files=Files(shards=one)).rows(job), walk.rows(job))


@given(cases(conditions=True), st.sampled_from([0, 3, 1000]))
@RUNS
def test_search_under_conditions_is_the_reference(case: Case, many: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        files = case.files(Path(root))
        search = SearchEngine(files=files, frequent=3, many=many)
        for forced in (False, True):
            job = case.job(forced=forced)
            assert_same(ReferenceEngine(files=files).rows(job), search.rows(job))


@given(cases())
@RUNS
def test_ends_are_those_of_the_documents(case: Case) -> None:
    """From plain lists: candidates, where a separator was taken from, and what is behind it."""
    with tempfile.TemporaryDirectory() as root:
        tokens_BT, trace = SearchEngine(files=case.files(Path(root))).rows(case.job())
    documents = [document for shard in case.shards for document in shard]
    last = {sum(map(len, case.shards[: s + 1])) - 1 for s in range(len(case.shards))}
    ended = [
        [EOS_TOKEN_ID, *document] + [EOS_TOKEN_ID] * (case.final_separator or d not in last)
        for d, document in enumerate(documents)
    ]
    for b, row in enumerate(tokens_BT.tolist()):
        size = row.index(EOS_TOKEN_ID) + 1 if EOS_TOKEN_ID in row else T
        assert row[size:] == [EOS_TOKEN_ID] * (T - size)
        for values in trace.values():
            assert (values[b, size:] == values.dtype.type(-1 if values.dtype == "i4" else 0)).all()
        for t in range(size):
            length = int(trace["suffix_len"][b, t])
            wanted = [EOS_TOKEN_ID, *row[:t]][t + 1 - length :]
            followed = [
                document[i]
                for document in ended
                for i in range(max(length, 1), len(document))
                if document[i - length : i] == wanted
            ]
            if length == 0:
                followed = [token for token in followed if token != EOS_TOKEN_ID]
            assert trace["num_contexts"][b, t] == len(followed)
            assert trace["num_distinct"][b, t] == len(set(followed))
            source, at = trace["source_document"][b, t], trace["source_position"][b, t]
            assert ended[source][at + 1 - length : at + 2] == [*wanted, row[t]]


def ragged(root: str, shards: list[list[list[int]]], *, final: bool = True) -> NgramModel:
    naive = fit(Path(root), shards, engine="naive", final_separator=final)
    return replace(naive, ragged=True)


def test_a_coarse_shard_keeps_the_ends(tmp_path: Path) -> None:
    folder = write_index(tmp_path / "a", [[300, 301], [5]])
    (tmp_path / "b").mkdir()
    coarse = write_coarse(IndexShard.open(folder), 8, tmp_path / "b")
    assert np.asarray(coarse.tokens).tolist() == [65535, 37, 37, 65535, 0, 65535]


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
    with pytest.raises(UnsupportedError, match=r"sampler\.matching=free"):
        model.generate(first_samples(1), sampler=sampler(matching="position"), **wanted)
    rows = np.array([stream_of([[1], [2]])], dtype=np.uint16)  # 65535 1 65535 2 65535
    with pytest.raises(TokenError, match="row 0 holds the separator 65535 before its end"):
        model.score(rows, sampler=sampler(), layout=TokenLayout.sequence(5), seed=0)
