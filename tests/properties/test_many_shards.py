"""Many shards with side files: the reference's tokens and trace, however the corpus is cut."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.generators.ngram.engine import Files, Job
from imagegram.generators.ngram.reference import ReferenceEngine
from imagegram.generators.ngram.search.engine import SearchEngine
from imagegram.indexes.format import IndexShard
from imagegram.indexes.screen import Screen
from imagegram.layout import TokenLayout
from imagegram.records import EOS_TOKEN_ID
from imagegram.samplers.ngram import NgramSampler
from tests.generation import assert_same, make_orders, make_screens
from tests.index_folders import write_index

SEQUENCE, PYRAMID = TokenLayout.sequence(24, order="raster"), TokenLayout.pyramid((1, 2))
ALPHABETS = ([7], [0, 1], list(range(12)), [3, 256, 257, 511, 65534])
RUNS = settings(max_examples=80, deadline=None)


@dataclass(frozen=True)
class Case:
    shards: list[list[list[int]]]
    layout: TokenLayout
    ragged: bool
    sampler: NgramSampler
    runs: tuple[int, ...]
    seed: int
    rows: list[list[int]]
    until: list[int]

    def files(self, root: Path, shards: list[list[list[int]]] | None = None) -> Files:
        root.mkdir(exist_ok=True)
        folders = [
            write_index(root / f"{s}", documents)
            for s, documents in enumerate(shards or self.shards)
        ]
        opened = tuple(IndexShard.open(folder) for folder in folders)
        aligned = self.sampler.matching == "position"
        screens: tuple[Screen, ...] = ()
        if self.runs:
            screens = make_screens(opened, root, runs=self.runs, placed=aligned)
        orders = make_orders(opened, root, aligned=aligned)
        return Files(shards=opened, orders=orders, screens=screens)

    def job(self, *, given: bool = False) -> Job:
        """A job of three rows; their first tokens may be given."""
        size = self.layout.num_tokens
        rows_BT = np.full((len(self.rows), size), EOS_TOKEN_ID, dtype=np.uint16)
        for b, row in enumerate(self.rows):
            rows_BT[b, : len(row)] = row[:size]
        return Job(
            sampler=self.sampler,
            layout=self.layout,
            ragged=self.ragged,
            samples=np.arange(len(self.rows), dtype=np.uint64),
            seed=self.seed,
            forced=rows_BT if given else None,
            forced_until=np.array(self.until, dtype=np.int64) if given else None,
            workers=2,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ragged = draw(st.booleans())
    layout = SEQUENCE if ragged else draw(st.sampled_from([SEQUENCE, PYRAMID]))
    size = layout.num_tokens
    token = st.sampled_from(draw(st.sampled_from(ALPHABETS)))
    # Documents are pasted from few pieces, so that they share long runs with others.
    piece = st.lists(token, min_size=1, max_size=size)
    pieces = draw(st.lists(piece, min_size=1, max_size=4))
    pasted = st.lists(st.one_of(st.sampled_from(pieces), piece), min_size=1, max_size=5)
    long = pasted.map(lambda parts: (list(chain(*parts)) * size)[:size])
    document = pasted.map(lambda parts: list(chain(*parts))[: 2 * size]) if ragged else long
    documents = draw(st.lists(document, min_size=1, max_size=9))
    cuts = draw(st.lists(st.integers(1, len(documents)), max_size=6, unique=True))
    ends = sorted({*cuts, len(documents)})
    shards = [documents[i:j] for i, j in zip([0, *ends], ends, strict=False)]
    shards = draw(st.permutations(shards))
    contexts = st.integers(1, size + 2)
    matchings = ("free",) if ragged else ("free", "free", "channel", "level", "position")
    sampler = NgramSampler(
        name="drawn",
        temperature=draw(st.sampled_from([0.0, 0.9])),
        top_k=draw(st.sampled_from([None, 2])),
        max_context=draw(st.one_of(contexts, st.just(size)))
        if layout is SEQUENCE
        else (draw(contexts), draw(contexts)),
        min_count=draw(st.sampled_from([1, 1, 1, 2, 4])),
        count_documents=draw(st.booleans()),
        matching=draw(st.sampled_from(matchings)),
        anchor=draw(st.sampled_from([0, 0, 1, 3])),
    )
    row = st.one_of(
        st.sampled_from(documents), st.lists(st.one_of(token, st.just(9)), max_size=size)
    )
    rows = [draw(row) for _ in range(3)]
    if not ragged:
        rows = [(row * size + [9] * size)[:size] for row in rows]
    until = [draw(st.integers(0, min(len(row), size))) for row in rows]
    runs = draw(st.sampled_from([(), (1,), (2,), (1, 5), (2, 3), (3, size), (4, 8)]))
    return Case(shards, layout, ragged, sampler, runs, draw(st.integers(0, 2**32)), rows, until)


@given(cases(), st.sampled_from([1, 5, 256]), st.sampled_from([1, 2, 7, 16]))
@RUNS
def test_shards_together_are_the_reference(case: Case, frequent: int, turn: int) -> None:
    """Written, continued and replayed, however many positions a row takes at a turn."""
    with tempfile.TemporaryDirectory() as root:
        files = case.files(Path(root))
        engine = SearchEngine(files=files, frequent=frequent, turn=turn)
        reference = ReferenceEngine(files=files)
        written = engine.rows(case.job())
        assert_same(reference.rows(case.job()), written)
        assert_same(written, engine.rows(replace(case.job(), forced=written[0])))
        job = case.job(given=True)
        assert_same(reference.rows(job), engine.rows(job))


@given(cases())
@RUNS
def test_tokens_do_not_tell_how_the_corpus_is_cut(case: Case) -> None:
    """In another order of the shards, and joined to one: only sources are others."""
    with tempfile.TemporaryDirectory() as root:
        first = SearchEngine(files=case.files(Path(root, "a"))).rows(case.job())
        joined = [[document for shard in case.shards for document in shard]]
        for name, shards in (("b", case.shards[::-1]), ("c", joined)):
            other = SearchEngine(files=case.files(Path(root, name), shards)).rows(case.job())
            np.testing.assert_array_equal(first[0], other[0])
            for array in ("suffix_len", "num_contexts", "num_distinct", "probability", "entropy"):
                np.testing.assert_array_equal(first[1][array], other[1][array], err_msg=array)
