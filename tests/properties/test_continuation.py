"""Rows that begin with given tokens: every engine continues them as the reference does."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.generators.ngram.engine import Engine, Files, Job
from imagegram.generators.ngram.lockstep.engine import LockstepEngine
from imagegram.generators.ngram.reference import ReferenceEngine
from imagegram.generators.ngram.search.engine import SearchEngine
from imagegram.generators.ngram.walk.engine import WalkEngine
from imagegram.indexes.format import IndexShard
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from tests.generation import assert_same, make_orders
from tests.index_folders import write_index
from tests.properties import test_generation as pictures
from tests.properties import test_ragged_generation as texts

RUNS = settings(max_examples=60, deadline=None)
#: What is left of a row's length is taken from here: none, all, and some of its tokens.
SHARES = st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=4, max_size=4)


def continued(job: Job, rows: list[list[int]], shares: list[float]) -> Job:
    """The job with a share of the tokens of some rows given; what stands behind them is junk."""
    num_rows, num_tokens = job.shape
    given_BT = np.full((num_rows, num_tokens), 3, dtype=np.uint16)
    until = []
    for b in range(num_rows):
        row = rows[b % len(rows)][:num_tokens]
        given_BT[b, : len(row)] = row
        until.append(round(shares[b % len(shares)] * len(row)))
    return replace(job, forced=given_BT, forced_until=np.array(until, dtype=np.int64))


def check(engine: Engine, reference: Engine, job: Job) -> None:
    """The engine is the reference; prompts stay; what is traced is what a replay traces."""
    found = engine.rows(job)
    tokens_BT = found[0]
    assert_same(reference.rows(job), found)
    assert job.forced is not None
    for b, until in enumerate(job.until.tolist()):
        np.testing.assert_array_equal(tokens_BT[b, :until], job.forced[b, :until])
    assert_same(found, engine.rows(replace(job, forced=tokens_BT, forced_until=None)))
    alone = [engine.rows(_row(job, b)) for b in range(len(tokens_BT))]
    assert_same(found, _stacked(alone))


def _row(job: Job, b: int) -> Job:
    """The job of one row."""
    assert job.forced is not None
    labels = job.labels
    if labels is not None:
        labels = replace(labels, by_row=labels.by_row[b : b + 1])
    rows = slice(b, b + 1)
    return replace(
        job,
        samples=job.samples[rows],
        forced=job.forced[rows],
        forced_until=job.until[rows],
        labels=labels,
    )


def _stacked(parts: list[tuple[Tokens, Trace]]) -> tuple[Tokens, Trace]:
    names = list(parts[0][1])
    return (
        np.concatenate([tokens for tokens, _ in parts]),
        {name: np.concatenate([trace[name] for _, trace in parts]) for name in names},
    )


@given(texts.cases(), SHARES, st.sampled_from([1, 5, 64]), st.sampled_from([1, 3, 1000]))
@RUNS
def test_texts_are_continued(
    case: texts.Case, shares: list[float], frequent: int, entries: int
) -> None:
    job = continued(case.job(workers=2), case.rows, shares)
    with tempfile.TemporaryDirectory() as root:
        files = case.files(Path(root))
        memory = {"frequent": frequent, "memo_entries": entries}
        check(SearchEngine(files=files, **memory), ReferenceEngine(files=files), job)
        one = Files(shards=files.shards[:1])
        orders = make_orders(one.shards, Path(root), aligned=False)
        walk = WalkEngine(files=replace(one, orders=orders), **memory)
        check(walk, ReferenceEngine(files=one), job)


@given(texts.cases(conditions=True), SHARES, st.sampled_from([0, 3, 1000]))
@RUNS
def test_texts_are_continued_under_conditions(
    case: texts.Case, shares: list[float], many: int
) -> None:
    job = continued(case.job(), case.rows, shares)
    with tempfile.TemporaryDirectory() as root:
        files = case.files(Path(root))
        search = SearchEngine(files=files, frequent=3, many=many)
        check(search, ReferenceEngine(files=files), job)


@given(pictures.cases(), SHARES, st.sampled_from([1, 5, 64]))
@RUNS
def test_pictures_are_continued(case: pictures.Case, shares: list[float], frequent: int) -> None:
    """By a search, by a walk where one can, and in lock step."""
    sampler, shards = case.sampler, case.shards[:1]
    job = continued(
        Job(
            sampler=sampler,
            layout=pictures.LAYOUT,
            samples=case.samples,
            seed=case.seed,
            device="cpu",
        ),
        [case.row, *shards[0]],
        shares,
    )
    with tempfile.TemporaryDirectory() as root:
        opened = (IndexShard.open(write_index(Path(root) / "0", shards[0])),)
        aligned = sampler.matching == "position"
        orders = make_orders(opened, Path(root), aligned=aligned)
        files = Files(shards=opened, orders=orders)
        reference = ReferenceEngine(files=files)
        check(SearchEngine(files=files, frequent=frequent), reference, job)
        check(WalkEngine(files=files, frequent=frequent), reference, job)
        if aligned or (sampler.matching == "free" and not sampler.count_documents):
            check(LockstepEngine(files=files, frequent=frequent), reference, job)


def test_a_prompt_that_nothing_follows_is_left_behind(tmp_path: Path) -> None:
    """Token 9 is nowhere: the empty context decides, then contexts grow again."""
    files = Files(shards=(IndexShard.open(write_index(tmp_path / "0", [[1, 2, 3, 4]] * 3)),))
    job = Job(
        sampler=texts.sampler(max_context=5),
        layout=texts.LAYOUT,
        ragged=True,
        samples=np.arange(20, dtype=np.uint64),
        seed=1,
    )
    job = continued(job, [[1, 2, 9, 9, 9, 9, 9]], [0.5])
    tokens_BT, trace = SearchEngine(files=files).rows(job)
    until = int(job.until[0])
    assert tokens_BT[:, :until].tolist() == [[1, 2, 9, 9][:until]] * 20
    assert (trace["suffix_len"][:, until] == 0).all()
    assert EOS_TOKEN_ID not in tokens_BT[:, until]
