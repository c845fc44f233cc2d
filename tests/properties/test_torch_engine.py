"""The torch engine writes the reference's tokens and trace, whatever the corpus and the knobs."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imagegram.generators.ngram.engine import Files, Job
from imagegram.generators.ngram.lockstep.engine import LockstepEngine
from imagegram.generators.ngram.reference import ReferenceEngine
from imagegram.indexes.build.orders import build_order
from imagegram.indexes.format import IndexShard
from imagegram.indexes.order import Order
from tests.generation import assert_same
from tests.index_folders import write_index
from tests.properties.test_generation import LAYOUT, Case, T, cases

ENGINE_RUNS = settings(max_examples=40, deadline=None)


def joined(case: Case, **knobs: object) -> Case:
    """The same corpus in one shard."""
    sampler = dataclasses.replace(case.sampler, **knobs)
    documents = [document for shard in case.shards for document in shard]
    return dataclasses.replace(case, shards=[documents], sampler=sampler)


def compare(case: Case, *, final_separator: bool = True, **fields: object) -> None:
    """Generated and given rows, with and without side files."""
    with tempfile.TemporaryDirectory() as root:
        folder = write_index(Path(root) / "0", case.shards[0], final_separator=final_separator)
        shard, aligned = IndexShard.open(folder), case.sampler.matching == "position"
        orders = ()
        if case.seed % 2:
            build_order(shard, folder, aligned=aligned)
            orders = (Order.open(folder, shard=shard, aligned=aligned),)
        files = Files(shards=(shard,), orders=orders)
        engine, reference = LockstepEngine(files=files, **fields), ReferenceEngine(files=files)
        documents = [document for document in case.shards[0] if len(document) == T]
        rows_BT = np.array([case.row, *documents[:2]], dtype=np.uint16)
        for samples, forced_BT in (
            (case.samples, None),
            (np.arange(len(rows_BT), dtype=np.uint64), rows_BT),
        ):
            done: list[int] = []
            job = Job(
                sampler=case.sampler,
                layout=LAYOUT,
                samples=samples,
                seed=case.seed,
                forced=forced_BT,
                advance=done.append,
                device="cpu",
            )
            found = engine.rows(job)
            assert sum(done) == len(samples) * T
            assert_same(reference.rows(job), found)


@given(cases(), st.booleans(), st.sampled_from([1, 5, 128]), st.sampled_from([1, 2, 100]))
@ENGINE_RUNS
def test_torch_is_the_reference(case: Case, aligned: bool, frequent: int, batch: int) -> None:
    """A memory of everything, or of almost nothing, and any batch change nothing."""
    matching = "position" if aligned else "free"
    counts = case.sampler.count_documents and aligned
    compare(joined(case, matching=matching, count_documents=counts), frequent=frequent, batch=batch)


@given(cases(matchings=("free",), even=False), st.booleans())
@ENGINE_RUNS
def test_torch_on_documents_of_any_length(case: Case, final_separator: bool) -> None:
    compare(joined(case), final_separator=final_separator)


@given(cases(matchings=("free",)), st.integers(20, 60), st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_torch_on_wide_intervals(case: Case, documents: int, seed: int) -> None:
    """Intervals that climb the minima, of two tokens in skewed proportion."""
    assume(case.sampler.min_count < 7)
    random = np.random.Generator(np.random.Philox(seed))
    corpus = (random.random((documents, T)) < 0.1).astype(int).tolist()
    compare(joined(dataclasses.replace(case, shards=[corpus]), max_context=3))
