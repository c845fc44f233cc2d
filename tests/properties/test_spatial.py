"""The spatial generator: its native engine is its definition; what its knobs promise holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.errors import CapacityError, ConfigError
from imagegram.generators.spatial.build import BuildSpatialIndex, measured
from imagegram.generators.spatial.generator import SpatialGenerator
from imagegram.generators.spatial.index import SpatialIndex, blocks_of
from imagegram.generators.spatial.model import SpatialModel
from imagegram.generators.spatial.places import PLACES, SIZE, Template
from imagegram.generators.spatial.surroundings import surroundings_reference
from imagegram.generators.spatial.tree import choose_places, grow
from imagegram.samplers.spatial import SpatialSampler
from imagegram.store.manifest import Artifact
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.generation import assert_same, first_samples, manifest
from tests.pictures import context

SIZES = ((1, 2, 4), (2, 4, 8), (3, 5))
TEMPLATES = (
    Template(from_size=1, order=[{"place": "row"}, {"place": "left_luma", "bits": 2}], max_bits=6),
    Template(
        from_size=4,
        order=[{"place": "activity", "bits": 1}],
        choose=["guess0", "guess1", "slope_x_luma"],
        max_bits=9,
    ),
)
KNOBS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.0, "min_documents": 3},
    {"temperature": 0.3, "min_count": 4, "max_share": 0.3},
    {"follow": 0, "max_share": [1.0, 0.5, 0.25]},
    {"follow": [None, 2, 1], "min_documents": [4, 2, 1], "temperature": [None, 0.5, 0]},
    {"max_run": 24, "follow": 1},
)


@dataclass(frozen=True)
class Rows:
    """Rows that a stage takes for a token set."""

    rows: np.ndarray

    @property
    def num_documents(self) -> int:
        return len(self.rows)

    def gather(self, ids: Any) -> np.ndarray:
        return self.rows[ids]

    def identity(self) -> str:
        return "rows"


def documents(tokenizer: PyramidTokenizer, count: int, *, seed: int = 0) -> np.ndarray:
    """Documents with few different tokens, so that blocks and contexts recur."""
    rng = np.random.default_rng(seed)
    length = tokenizer.spec.length
    rows = rng.choice(np.array([100, 128, 128, 140, 255]), (count, length)).astype(np.uint16)
    rows[count // 2] = rows[0]  # two documents are the same
    return rows


def fit(root: Path, tokenizer: PyramidTokenizer, rows: np.ndarray) -> SpatialModel:
    root.mkdir(parents=True, exist_ok=True)
    stage = BuildSpatialIndex(tokens=Rows(rows), templates=TEMPLATES, tokenizer=tokenizer)
    facts = stage.run(root, context(root))
    return stage.load(Artifact(path=root, manifest=replace(manifest(), facts=facts)))


def sampler(**knobs: Any) -> SpatialSampler:
    return SpatialSampler(name="test", **knobs)


@pytest.fixture(scope="module", params=SIZES, ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpatialModel:
    tokenizer = PyramidTokenizer(name="toy", sizes=request.param)
    folder = tmp_path_factory.mktemp("spatial")
    return fit(folder, tokenizer, documents(tokenizer, 30))


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_the_native_engine_is_the_definition(model: SpatialModel, knobs: dict[str, Any]) -> None:
    layout = model.index.layout
    knobs = {k: v[: layout.num_levels] if isinstance(v, list) else v for k, v in knobs.items()}
    how: Any = {"sampler": sampler(**knobs), "layout": layout, "seed": 5}
    samples = np.array([0, 2**63], dtype=np.uint64)
    slow = replace(model, engine="naive")
    written = slow.generate(samples, **how)
    assert_same(model.generate(samples, workers=2, **how), written)
    # Of given rows: its own, a training document, and one of other tokens.
    rows = np.concatenate([written[0], documents(model.tokenizer, 4, seed=9)[1:2]])
    ids = np.array([*samples, 1], dtype=np.uint64)
    first = model.score(rows, samples=ids, **how)
    assert_same((rows, first), (rows, slow.score(rows, samples=ids, **how)))
    for name, values in written[1].items():
        np.testing.assert_array_equal(first[name][:2], values, err_msg=name)


def test_a_token_is_that_of_its_source(model: SpatialModel) -> None:
    rows = documents(model.tokenizer, 30)
    tokens, trace = model.generate(
        first_samples(6), sampler=sampler(), layout=model.index.layout, seed=1
    )
    np.testing.assert_array_equal(rows[trace["source_document"], trace["source_position"]], tokens)
    assert (trace["probability"] > 0).all()
    assert (trace["num_contexts"] >= trace["num_distinct"]).all()


@pytest.mark.parametrize("knobs", [{"follow": 0}, {"follow": None}])
def test_no_document_gives_more_than_it_may(model: SpatialModel, knobs: dict[str, Any]) -> None:
    layout = model.index.layout
    _, free = model.generate(first_samples(8), sampler=sampler(follow=0), layout=layout, seed=1)
    own = sampler(max_share=0.25, max_run=18, **knobs)
    _, trace = model.generate(first_samples(8), sampler=own, layout=layout, seed=1)

    def most(documents_T: np.ndarray) -> int:
        return int(np.bincount(documents_T).max())

    assert max(map(most, free["source_document"])) > 18 or layout.num_tokens <= 18
    for row in trace["source_document"]:
        assert most(row) <= 18  # so no run is longer
        for part, side in zip(layout.level_slices, model.index.sides, strict=True):
            size = 3 * side * side
            steps = (part.stop - part.start) // size
            assert most(row[part]) <= size * max(1, steps // 4)


def test_support_is_of_documents(tmp_path: Path) -> None:
    """The same document many times is one document."""
    tokenizer = PyramidTokenizer(name="toy", sizes=(1, 2, 4))
    same, others = documents(tokenizer, 1), documents(tokenizer, 3, seed=3)
    model = fit(tmp_path, tokenizer, np.concatenate([np.repeat(same, 20, axis=0), others]))
    how: Any = {"layout": tokenizer.spec.layout, "seed": 0}
    one = model.score(same, sampler=sampler(min_documents=1), **how)
    many = model.score(same, sampler=sampler(min_documents=21), **how)
    assert (many["suffix_len"] <= one["suffix_len"]).all()
    assert (many["num_contexts"] >= 21).all()


def test_one_document_is_reproduced(tmp_path: Path) -> None:
    tokenizer = PyramidTokenizer(name="toy", sizes=(2, 4, 8))
    row = np.random.default_rng(2).integers(60, 200, (1, tokenizer.spec.length)).astype(np.uint16)
    model = fit(tmp_path, tokenizer, row)
    how: Any = {"layout": tokenizer.spec.layout, "seed": 0, "sampler": sampler(follow=0)}
    tokens, _ = model.generate(first_samples(2), **how)
    assert tokens.shape == (2, row.shape[1])
    assert set(tokens[0].tolist()) <= set(row[0].tolist())


def test_documents_that_are_too_few_are_refused(tmp_path: Path) -> None:
    tokenizer = PyramidTokenizer(name="toy", sizes=(2, 4, 8))
    model = fit(tmp_path, tokenizer, documents(tokenizer, 5))
    for knobs in ({"max_run": 12}, {"max_share": 0.1}):
        with pytest.raises(ConfigError, match=r"too few for level \d.* type sampler\.max_share=1"):
            model.generate(
                first_samples(1), sampler=sampler(**knobs), layout=tokenizer.spec.layout, seed=0
            )


@pytest.mark.parametrize("side", [1, 2])
def test_surroundings_are_those_of_the_definition(side: int) -> None:
    rng = np.random.default_rng(side)
    level = rng.integers(0, 256, (2, 6, 4, 3)).astype(np.uint16)
    coarser = rng.integers(0, 256, (2, 3, 2, 3)).astype(np.uint8)
    for seen in (coarser, None):
        found = measured(level, seen, side, np.eye(SIZE, dtype=np.int64))
        wanted = [
            surroundings_reference(None if seen is None else seen[n], level[n], side, i, j)
            for n in range(2)
            for i in range(6 // side)
            for j in range(4 // side)
        ]
        np.testing.assert_array_equal(found, wanted)


def test_surroundings_do_not_see_what_is_not_drawn() -> None:
    """Values of a block depend on what precedes it in raster order alone."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 256, (1, 6, 6, 3)).astype(np.uint16)
    for at in range(9):
        i, j = divmod(at, 3)
        changed = level.copy()
        parts = changed.reshape(1, 3, 2, 3, 2, 3)
        for later in range(at, 9):
            parts[0, later // 3, :, later % 3] = 0
        before = surroundings_reference(None, level[0], 2, i, j)
        np.testing.assert_array_equal(surroundings_reference(None, changed[0], 2, i, j), before)


def test_occurrences_are_sorted_by_their_decisions() -> None:
    values = np.random.default_rng(0).integers(0, 9, (200, 2))
    tree = grow(values, [0, 1, 0, 1])
    node = np.zeros(200, dtype=np.int64)
    for d, place in enumerate(tree.places):
        node = 2 * node + (values[:, place] > tree.thresholds[2**d - 1 + node])
    np.testing.assert_array_equal(tree.order, np.argsort(node, kind="stable"))
    np.testing.assert_array_equal(np.diff(tree.starts), np.bincount(node, minlength=16))


def test_the_place_that_tells_is_chosen_first() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-100, 100, (4000, 3))
    blocks = np.stack([values[:, 2] * 3, values[:, 2] + values[:, 0]], axis=1) + 500
    chosen = choose_places(
        values, blocks, np.arange(4000) % 4 == 3, given=[1], choice=[0, 1, 2], depth=7
    )
    assert len(chosen) == 7
    assert chosen[:2] == [1, 2]
    assert chosen[2:].count(1) <= 1


def test_templates_say_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"the place 'left_lumma' is unknown.*left_luma"):
        Template(choose=["left_lumma"])
    with pytest.raises(ConfigError, match=r"write \{place: NAME, bits: 1\}"):
        Template(order=[{"place": "row", "bits": 0}])
    with pytest.raises(ConfigError, match="larger from_size"):
        SpatialGenerator(name="s", templates=[{"from_size": 4}, {"from_size": 2}])
    with pytest.raises(ConfigError, match=r"\['sizes'\] are no fields of a template"):
        SpatialGenerator(name="s", templates=[{"sizes": 4}])
    assert len(set(PLACES)) == len(PLACES)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"max_share": 0}, r"sampler.max_share=0: must be in \(0, 1\]"),
        ({"min_documents": [1, 0]}, "sampler.min_documents=.*must be a whole number"),
        ({"temperature": -1.0}, "sampler.temperature"),
        ({"follow": 0.5}, "sampler.follow"),
        ({"max_run": 0}, "sampler.max_run"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        sampler(**knobs)


def test_too_many_entries_and_too_short_runs_are_refused(model: SpatialModel) -> None:
    layout = model.index.layout
    how: Any = {"layout": layout, "seed": 0}
    with pytest.raises(ConfigError, match="give at most one per level"):
        model.generate(first_samples(1), sampler=sampler(min_count=[1] * 9), **how)
    with pytest.raises(ConfigError, match=r"sampler\.max_run=2 is shorter than a block"):
        model.generate(first_samples(1), sampler=sampler(max_run=2), **how)


def test_memory_is_foreseen(tmp_path: Path) -> None:
    tokenizer = PyramidTokenizer(name="toy", sizes=(2, 4))
    stage = BuildSpatialIndex(
        tokens=Rows(documents(tokenizer, 4)), templates=TEMPLATES, tokenizer=tokenizer
    )
    with pytest.raises(CapacityError, match="sorting 4 documents needs about"):
        stage.run(tmp_path, replace(context(tmp_path), memory_gb=1e-9))


def test_the_index_is_small(model: SpatialModel) -> None:
    """Two bytes a token and eight a block, and it is opened as memory maps."""
    index: SpatialIndex = model.index
    for n, level in enumerate(index.levels):
        assert level.blocks.dtype == np.uint16
        assert isinstance(level.blocks, np.memmap)
        assert level.sources.dtype == level.ranks.dtype == np.uint32
        assert len(level.blocks) * index.sides[n] ** 2 == 30 * index.layout.heights[n] ** 2
    assert blocks_of(np.zeros((1, 4, 4, 3), np.uint16), 2).shape == (4, 12)
