"""Labels, coarse indexes and anchors: how they are made, kept, chosen and refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.stats

from imagegram.conditions.labels import Labels
from imagegram.errors import CapacityError, ConfigError, IndexFormatError
from imagegram.executors.context import RunContext
from imagegram.executors.foresight import Foresight
from imagegram.generators.ngram.model import NgramModel
from imagegram.indexes.build.coarse_stage import BuildCoarse
from imagegram.indexes.build.label_stage import ReadLabels
from imagegram.indexes.format import IndexShard
from imagegram.indexes.native import NativeIndex
from imagegram.layout import TokenLayout
from imagegram.plan.planner import StoreSurroundings
from imagegram.plan.rates import Rates
from imagegram.store.manifest import Artifact
from imagegram.tools import gc
from tests.generation import asked, assert_same, first_samples, fit, labelled, sampler
from tests.index_folders import write_index
from tests.pictures import context as make_context

LAYOUT = TokenLayout.sequence(5, digits=(8, 8, 8, 5, 5, 5))
INFO = (
    {"label": "dog", "caption": "a dog"},
    {"label": "cat"},
    {"label": 7},
    {"label": True},
    {"size": 3},
    {},
)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """An index shard of documents with metadata."""

    kind: ClassVar[str] = "index_shard"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1

    first: int
    count: int = len(INFO)

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        write_index(out, rows(self.first, self.count))
        lines = [
            json.dumps({"key": str(i), "caption": f"no {i % 2}", "info": INFO[i % len(INFO)]})
            for i in range(self.count)
        ]
        (out / "metadata.0").write_text("".join(f"{line}\n" for line in lines))
        return {"num_documents": self.count}

    def load(self, artifact: Artifact) -> IndexShard:
        return IndexShard.open(artifact.path, artifact=artifact)


def rows(seed: int, count: int) -> list[list[int]]:
    """Documents of a large vocabulary that often begin alike."""
    random = np.random.default_rng(seed)
    few, many = [3, 256, 259, 40_000, 63_999], random.integers(0, 64_000, 20).tolist()
    return [random.choice(few, 2).tolist() + random.choice(many, 3).tolist() for _ in range(count)]


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    return make_context(tmp_path)


def model_of(context: RunContext, engine: str = "native") -> NgramModel:
    shards = tuple(context.make(Shard(first=seed)) for seed in (1, 2))
    assert shards[0].artifact is not None
    return NgramModel(index=NativeIndex(shards=shards, artifact=shards[0].artifact), engine=engine)


def generate(model: NgramModel, count: int = 20, **knobs: Any):
    return model.generate(**asked(**knobs), layout=LAYOUT, samples=first_samples(count), seed=5)


def test_labels_are_words_and_whole_numbers_of_the_json(context: RunContext) -> None:
    labels = context.make(ReadLabels(shard=context.make(Shard(first=1)), key="label"))
    assert labels.names == ("7", "cat", "dog")
    assert labels.by_document.tolist() == [2, 1, 0, -1, -1, -1]
    assert labels.by_document.dtype == np.int32
    assert labels.keys == ("caption", "label", "size")
    caption = context.make(ReadLabels(shard=context.make(Shard(first=1)), key="caption"))
    assert caption.names == ("a dog", "no 0", "no 1")
    assert caption.by_document.tolist() == [0, 2, 1, 2, 1, 2]


def test_labels_of_shards_are_joined_in_one_order() -> None:
    first = Labels(names=("b", "d"), by_document=np.array([1, -1, 0], dtype=np.int32))
    second = Labels(names=("a", "d"), by_document=np.array([0, 1], dtype=np.int32))
    joined = Labels.join([first, second])
    assert joined.names == ("a", "b", "d")
    assert joined.by_document.tolist() == [2, -1, 1, 0, 2]


def test_metadata_of_other_documents_is_refused(context: RunContext) -> None:
    shard = context.make(Shard(first=1))
    with shard.file("metadata").open("a") as lines:
        lines.write("{}\n")
    with pytest.raises(IndexFormatError, match="one line for each of 6 documents"):
        context.make(ReadLabels(shard=shard, key="label"))


@pytest.mark.parametrize("engine", ["native", "naive"])
def test_documents_are_replayed_under_their_own_labels(context: RunContext, engine: str) -> None:
    knobs: Any = {"max_context": 2, "label_tokens": 2}
    in_turn = asked(label="*", **knobs)
    model = model_of(context, engine).prepared(context=context, layout=LAYOUT, **in_turn)
    documents = np.array(rows(1, len(INFO)), dtype=np.uint16)
    own = model.condition_of([{"info": info} for info in INFO], in_turn["condition"])
    how: Any = {"layout": LAYOUT, "seed": 5, "samples": first_samples(len(INFO))}
    found = model.score(documents, **{**in_turn, "condition": own}, **how)
    for row, label in enumerate(("dog", "cat", "7", None, None, None)):
        alone = model.score(documents, **asked(label=label, **knobs), **how)
        for name, array_BT in found.items():
            np.testing.assert_array_equal(array_BT[row], alone[name][row])
    cyclic = model.score(documents, **in_turn, **how)
    assert (cyclic["probability"] != found["probability"]).any()
    assert model.condition_of([{}], None) is None


@pytest.mark.parametrize("matching", ["free", "position"])
@pytest.mark.parametrize(
    "knobs",
    [
        {"anchor": 2, "max_context": 1},
        {"label": "*", "max_context": 2, "label_tokens": 2},
        {"context_digits": 2, "max_context": 2, "min_count": 2},
        {"anchor": 1, "label": "cat", "context_digits": 5, "max_context": 9},
    ],
)
def test_prepared_or_not_the_result_is_that_of_the_definition(
    context: RunContext, matching: str, knobs: dict[str, Any]
) -> None:
    """And a second preparation makes nothing new."""
    wanted = asked(matching=matching, **knobs) | {"context": context, "layout": LAYOUT}
    native = model_of(context)
    prepared = native.prepared(**wanted)
    made = {artifact.kind for artifact in context.store}
    assert ("labels" in made) == ("label" in knobs)
    assert ("coarse_index" in made) == ("context_digits" in knobs)
    assert {"order", "screen"} <= made
    count = sum(1 for _ in context.store)
    native.prepared(**wanted)
    assert sum(1 for _ in context.store) == count
    expected = generate(model_of(context, "naive"), matching=matching, **knobs)
    assert_same(expected, generate(native, matching=matching, **knobs))
    assert_same(expected, generate(prepared, matching=matching, **knobs))


def test_a_label_decides_the_first_token_alone(tmp_path: Path) -> None:
    """First tokens of the label's documents, each as often as they have it."""
    documents = [[300, 1], [300, 2], [256, 3], [9, 4], [9, 5]]
    model = labelled(fit(tmp_path, [documents[:2], documents[2:]]), [0, 0, 0, 1, -1])
    tokens_BT, trace = model.generate(
        **asked(temperature=1.0, label="name0", min_count=9),
        layout=TokenLayout.sequence(2),
        samples=first_samples(3000),
        seed=1,
    )
    drawn = [(tokens_BT[:, 0] == token).sum() for token in (300, 256)]
    assert sum(drawn) == 3000
    assert scipy.stats.chisquare(drawn, [2000, 1000]).pvalue > 1e-4
    assert (trace["num_contexts"][:, 0] == 3).all()
    assert (trace["num_contexts"][:, 1] > 3).all()  # all documents decide again


def test_every_label_in_turn(tmp_path: Path) -> None:
    model = labelled(fit(tmp_path, [[[10], [11], [12]]]), [2, 1, 0])
    tokens_BT, _ = model.generate(
        **asked(label="*"),
        layout=TokenLayout.sequence(1),
        samples=np.array([0, 1, 2, 3, 2**64 - 1], dtype=np.uint64),
        seed=1,
    )
    assert tokens_BT[:, 0].tolist() == [12, 11, 10, 12, 12]  # 2**64 - 1 is a multiple of 3


def test_an_anchor_keeps_what_a_short_context_forgets(tmp_path: Path) -> None:
    """Both images go through 5, 5; only their first token tells them apart."""
    layout = TokenLayout.sequence(4)
    model = fit(tmp_path, [[[1, 5, 5, 100], [2, 5, 5, 200]]])
    row_BT = np.array([[1, 5, 5, 200]], dtype=np.uint16)
    for anchor, probability, contexts in ((0, 0.5, 2), (1, 0.0, 1)):
        knobs = sampler(anchor=anchor, max_context=2, matching="position", temperature=1.0)
        trace = model.score(row_BT, sampler=knobs, layout=layout, seed=0)
        assert trace["probability"][0, 3] == probability
        assert trace["num_contexts"][0, 3] == contexts
        assert trace["suffix_len"][0, 3] == 2


def test_coarse_contexts_lead_to_whole_tokens(tmp_path: Path) -> None:
    layout = TokenLayout.sequence(2, digits=(8, 8))
    model = fit(tmp_path, [[[8, 1], [9, 2], [16, 3]]])
    row_BT = np.array([[8, 2]], dtype=np.uint16)
    for digits, contexts in ((None, 1), (2, 1), (1, 2)):
        knobs = sampler(context_digits=digits, max_context=1)
        trace = model.score(row_BT, sampler=knobs, layout=layout, seed=0)
        assert trace["num_contexts"][0, 1] == contexts


def test_large_vocabularies_begin_as_the_documents_do(tmp_path: Path) -> None:
    """Ids from 256 on, sorted by their lower byte first."""
    documents = [row[:3] for row in rows(3, 60)]
    firsts = np.array([document[0] for document in documents])
    tokens, counts = np.unique(firsts, return_counts=True)
    model = fit(tmp_path, [documents[:25], documents[25:]])
    tokens_BT, _ = model.generate(
        sampler=sampler(temperature=1.0, matching="position", anchor=1),
        layout=TokenLayout.sequence(3),
        samples=first_samples(4000),
        seed=2,
    )
    drawn = [(tokens_BT[:, 0] == token).sum() for token in tokens]
    assert scipy.stats.chisquare(drawn, counts / 60 * 4000).pvalue > 1e-4


def test_refusals(tmp_path: Path, context: RunContext) -> None:
    model = model_of(context)
    with pytest.raises(ConfigError, match=r"condition\.label=cart: .*did you mean 'cat'"):
        generate(model, label="cart")
    with pytest.raises(ConfigError, match=r"condition\.key=breed.*caption, label, size"):
        generate(model, label="cat", key="breed")
    with pytest.raises(ConfigError, match="the keys there: none"):
        generate(fit(tmp_path / "a", [rows(0, 2)]), label="cat")
    with pytest.raises(ConfigError, match=r"context_digits=7.*1 \.\.\. 6"):
        generate(model, context_digits=7)
    with pytest.raises(ConfigError, match="tokens have no digits"):
        sampler(context_digits=1).max_context_per_position(TokenLayout.sequence(3))


def test_a_coarse_index_beyond_the_memory_is_refused(context: RunContext) -> None:
    tight = RunContext(
        store=context.store, executor=context.executor, progress=context.progress, memory_gb=2e-8
    )
    shard = context.make(Shard(first=1))
    with pytest.raises(CapacityError, match=r"index\.shard_tokens=.*memory_gb="):
        tight.make(BuildCoarse(shard=shard, divisor=8))


def test_what_a_sampler_asks_for_is_kept_with_its_shard(
    context: RunContext, tmp_path: Path
) -> None:
    wanted = asked(label="*", context_digits=2, matching="position")
    model = model_of(context)
    model.prepared(**wanted, context=context, layout=LAYOUT)
    kept = model.shards[0].artifact
    assert kept is not None
    summary = tmp_path / "runs" / "one" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"stages": {"index": {"digest": kept.digest}}}))
    assert gc.main(["--unused", f"paths.outputs={tmp_path}"]) == 0
    kinds = sorted(artifact.kind for artifact in context.store)
    assert kinds == ["coarse_index", "index_shard", "labels", "order", "screen"]


@pytest.mark.parametrize(
    ("knobs", "sides"),
    [
        ({}, {"suffix orders"}),
        ({"matching": "position"}, {"aligned orders"}),
        ({"anchor": 1, "matching": "position"}, {"aligned orders"}),
        ({"anchor": 1, "label": "*"}, {"labels", "suffix orders"}),
        ({"context_digits": 2}, {"coarse index", "suffix orders"}),
        ({"context_digits": 2, "matching": "position"}, {"coarse index", "aligned orders"}),
    ],
)
def test_side_files_are_foreseen_as_they_are_made(
    context: RunContext, knobs: dict[str, Any], sides: set[str]
) -> None:
    model, wanted = model_of(context), asked(**knobs) | {"layout": LAYOUT}
    at = StoreSurroundings(store=context.store, rates=Rates(None), workers=1, memory_bytes=10**10)
    before = Foresight(at)
    model.prepared(**wanted, context=before)
    assert set(before.costs) == sides | {"screens"}  # there are two shards
    model.prepared(**wanted, context=context)
    made = [artifact for artifact in context.store if artifact.kind != "index_shard"]
    assert sum(cost.parts for cost in before.costs.values()) == len(made)
    assert all(cost.known and not cost.cached for cost in before.costs.values())
    beside = ("offset.0", "names.json")  # a hard link, and words that nobody counts
    sizes = [
        entry.size_bytes
        for artifact in made
        for name, entry in artifact.manifest.files.items()
        if name not in beside
    ]
    assert sum(cost.disk_bytes for cost in before.costs.values()) == sum(sizes)
    after = Foresight(at)
    model.prepared(**wanted, context=after)
    assert all(cost.cached == cost.parts for cost in after.costs.values())
