"""Anchors, labels and coarse contexts: compiled and defined give the same tokens and trace."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.conditions.label import LabelCondition
from imagegram.generators.ngram.engine import Files
from imagegram.generators.ngram.model import NgramModel
from imagegram.generators.ngram.search.engine import SearchEngine
from imagegram.indexes.build.coarse_stage import write_coarse
from imagegram.indexes.format import IndexShard
from imagegram.indexes.screen import Screen
from imagegram.layout import TokenLayout
from imagegram.samplers.ngram import MATCHING, NgramSampler
from tests.generation import assert_same, fit, labelled, make_orders, make_screens, with_engine

DIGITS = (4, 8, 8, 250)
LAYOUTS = (
    TokenLayout.sequence(6, digits=DIGITS),
    replace(TokenLayout.pyramid((1, 2)), digits=DIGITS),
)
#: The last two differ in their least digits only; ids from 256 on sort by their lower byte.
ALPHABETS = ([7], [0, 1], [1, 128, 255], [0, 256, 257, 63999], [40, 41, 300, 301])
RUNS = settings(max_examples=100, deadline=None)


@dataclass(frozen=True)
class Case:
    shards: list[list[list[int]]]
    labels: list[int]
    sampler: NgramSampler
    condition: LabelCondition | None
    layout: TokenLayout
    seed: int
    samples: np.ndarray
    row: list[int]

    @property
    def given(self) -> dict[str, object]:
        return {"sampler": self.sampler, "condition": self.condition, "layout": self.layout}

    def naive(self, root: str) -> NgramModel:
        model = fit(Path(root), self.shards, engine="naive")
        return labelled(model, self.labels)

    def native(
        self,
        naive: NgramModel,
        root: str,
        *,
        ordered: bool = True,
        runs: tuple[int, ...] = (2, 4),
        **memory: int,
    ) -> NgramModel:
        """The compiled engine, with what ``prepared`` would make and a memo of a given size."""
        model = replace(naive, engine="native")
        coarse, divisor = (), 1
        if self.sampler.context_digits is not None:
            divisor = int(np.prod(DIGITS[: len(DIGITS) - self.sampler.context_digits]))
        if divisor > 1:
            coarse = tuple(_coarse(model.shards, divisor, Path(root)))
        compared, aligned = coarse or model.shards, self.sampler.matching == "position"
        orders = make_orders(compared, Path(root), aligned=aligned) if ordered else ()
        screens: tuple[Screen, ...] = ()
        if ordered and runs:
            screens = make_screens(compared, Path(root), runs=runs, placed=aligned)
        files = Files(
            shards=model.shards, coarse=coarse, divisor=divisor, orders=orders, screens=screens
        )
        return with_engine(replace(model, files=files), SearchEngine, **memory)

    def generate(self, model: NgramModel, **overrides):
        return model.generate(
            **({"samples": self.samples} | overrides), **self.given, seed=self.seed
        )


def _coarse(shards: tuple[IndexShard, ...], divisor: int, root: Path) -> list[IndexShard]:
    folders = [root / f"coarse{s}" for s in range(len(shards))]
    for folder in folders:
        folder.mkdir()
    return [write_coarse(shard, divisor, out) for shard, out in zip(shards, folders, strict=True)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    layout = draw(st.sampled_from(LAYOUTS))
    size = layout.num_tokens
    token = st.sampled_from(draw(st.sampled_from(ALPHABETS)))
    beginnings = draw(st.lists(st.lists(token, min_size=2, max_size=2), min_size=1, max_size=3))
    ends = st.lists(token, min_size=size - 2, max_size=size - 2)
    document = st.tuples(st.sampled_from(beginnings), ends).map(lambda two: two[0] + two[1])
    shards = draw(st.lists(st.lists(document, min_size=1, max_size=5), min_size=1, max_size=3))
    if draw(st.booleans()):  # duplicates, and a shard that equals another
        shards.append(shards[0] * draw(st.integers(1, 3)))
    count = sum(map(len, shards))
    labels = draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count))
    labels[draw(st.integers(0, count - 1))] = 3  # perhaps the only one of its label
    sampler = NgramSampler(
        name="drawn",
        temperature=draw(st.sampled_from([0.0, 0.9])),
        top_k=draw(st.sampled_from([None, 2])),
        max_context=draw(st.integers(1, size + 2)),
        min_count=draw(st.sampled_from([1, 1, 2, 3, 6])),
        count_documents=draw(st.booleans()),
        matching=draw(st.sampled_from(MATCHING)),
        anchor=draw(st.sampled_from([0, 1, 2, 3, size, size + 3])),
        label_tokens=draw(st.sampled_from([1, 2, size + 1])),
        context_digits=draw(st.sampled_from([None, None, 1, 2, 3, 4])),
    )
    label = draw(st.sampled_from([None, None, "*", "name3"]))
    condition = None if label is None else LabelCondition(name="drawn", label=label)
    if (sampler.anchor, label, sampler.context_digits) == (0, None, None):
        sampler = replace(sampler, anchor=1)
    samples = np.array(draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3)), "u8")
    row = draw(st.lists(st.one_of(token, st.just(9)), min_size=size, max_size=size))
    seed = draw(st.integers(0, 2**64 - 1))
    return Case(shards, labels, sampler, condition, layout, seed, samples, row)


@given(
    cases(),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "frequent": st.sampled_from([1, 5, 256]),
            "memo_entries": st.sampled_from([1, 3, 1000]),
            "many": st.sampled_from([0, 3, 1000]),
            "runs": st.sampled_from([(), (1,), (2, 3), (1, 6)]),
        }
    ),
)
@RUNS
def test_native_is_the_reference(case: Case, ordered: bool, memory: dict[str, int]) -> None:
    """With side files or without, whatever is remembered and however places are looked for."""
    with tempfile.TemporaryDirectory() as root:
        naive = case.naive(root)
        native = case.native(naive, root, ordered=ordered, **memory)
        assert_same(case.generate(naive), case.generate(native, workers=2))
        rows_BT = np.array([case.row, case.shards[0][0], case.shards[-1][-1]], dtype=np.uint16)
        forced = case.given | {"seed": case.seed}
        assert_same(
            (rows_BT, naive.score(rows_BT, **forced)), (rows_BT, native.score(rows_BT, **forced))
        )


@given(cases())
@RUNS
def test_replay_is_generation_and_a_sample_stands_alone(case: Case) -> None:
    with tempfile.TemporaryDirectory() as root:
        model = case.native(case.naive(root), root)
        tokens_BT, trace = case.generate(model, workers=2)
        forced = case.given | {"seed": case.seed}
        replayed = model.score(tokens_BT, **forced, samples=case.samples)
        assert_same((tokens_BT, trace), (tokens_BT, replayed))
        alone = [
            case.generate(model, samples=case.samples[i : i + 1])[0] for i in range(len(tokens_BT))
        ]
        np.testing.assert_array_equal(tokens_BT, np.concatenate(alone))


@given(cases())
@RUNS
def test_sources_keep_the_conditions(case: Case) -> None:
    """From plain lists: label, and the anchor wherever one document alone is enough for it."""
    case = replace(case, sampler=replace(case.sampler, min_count=1))
    with tempfile.TemporaryDirectory() as root:
        model = case.native(case.naive(root), root)
        tokens_BT, trace = case.generate(model)
    documents = [document for shard in case.shards for document in shard]
    names = sorted({f"name{label}" for label in case.labels if label >= 0})
    digits = case.sampler.context_digits or len(DIGITS)
    coarse = [case.layout.coarse(np.array(document), digits).tolist() for document in documents]
    for b, row in enumerate(tokens_BT.tolist()):
        beginning = case.layout.coarse(np.array(row), digits).tolist()
        wanted = None if case.condition is None else case.condition.label
        if wanted == "*":
            wanted = names[int(case.samples[b]) % len(names)]
        for t in range(len(row)):
            allowed = range(len(documents))
            if wanted is not None and t < case.sampler.label_tokens:
                allowed = [d for d in allowed if f"name{case.labels[d]}" == wanted]
            anchor = min(case.sampler.anchor, t)
            while not any(coarse[d][:anchor] == beginning[:anchor] for d in allowed):
                anchor -= 1
            source = int(trace["source_document"][b, t])
            assert source in allowed
            assert coarse[source][:anchor] == beginning[:anchor]
            assert documents[source][trace["source_position"][b, t]] == row[t]
