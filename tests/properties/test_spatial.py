"""The spatial generator: its native engine is its definition; what its knobs promise holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import CapacityError, ConfigError
from imagegram.generators.spatial.build import BuildSpatialIndex
from imagegram.generators.spatial.generator import SpatialGenerator
from imagegram.generators.spatial.grids import grid_surroundings_reference
from imagegram.generators.spatial.index import CLUSTERS, SpatialIndex
from imagegram.generators.spatial.model import SpatialModel
from imagegram.generators.spatial.occurrences import GridSource, PyramidSource, numbers_of
from imagegram.generators.spatial.passes import (
    ORDERS,
    Pass,
    blocks_of,
    grid_passes,
    is_grid,
    ranks_of,
)
from imagegram.generators.spatial.places import AXES, GRID_PLACES, GRID_SIZE, PLACES, Template
from imagegram.generators.spatial.surroundings import surroundings_reference
from imagegram.generators.spatial.tree import choose_places, grow
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.samplers.spatial import SpatialSampler
from imagegram.store.manifest import Artifact
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.generation import assert_same, first_samples, manifest
from tests.pictures import context

#: Documents of a model, of which every sixth is a near-duplicate of the one before it.
COUNT = 36
NEAR = np.arange(COUNT) - (np.arange(COUNT) % 6 == 5)
SIZES = ((1, 2, 4), (2, 4, 8), (3, 5))
GRIDS = ((4, 4), (1, 7), (5, 3))
TEMPLATES = (
    Template(from_size=1, order=[{"place": "row"}, {"place": "left_luma", "bits": 2}], max_bits=6),
    Template(
        from_size=4,
        order=[{"place": "activity", "bits": 1}],
        choose=["guess0", "guess1", "slope_x_luma"],
        max_bits=9,
    ),
)
GRID_TEMPLATES = (
    Template(from_size=1, order=[{"place": "row"}], choose=["guess0", "guess1"], max_bits=5),
    Template(
        from_size=4,
        order=[{"place": "left_0", "bits": 2}, {"place": "above_1"}],
        choose=["activity", "column", "guess0", "two_above_0", "right_0"],
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
GRID_KNOBS: tuple[dict[str, Any], ...] = (
    {"nearest": 1, "min_documents": 6},
    {"nearest": [None, 3, 2], "min_documents": 5, "follow": 0, "temperature": 0.5},
    {"nearest": 2, "follow": 2, "max_run": 3, "max_share": 0.5},
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

    @property
    def near_duplicate_limit(self) -> None:
        return None

    def identity(self) -> str:
        return "rows"


@dataclass(frozen=True)
class Grid:
    """What the generator asks of a tokenizer that writes grids of codes."""

    height: int
    width: int
    name: str = "toy"

    @property
    def spec(self) -> TokenSpec:
        return TokenSpec(vocab_size=6, layout=TokenLayout((self.height,), (self.width,), 1))

    @property
    def codebooks(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32)


def documents(tokenizer: Any, count: int, *, seed: int = 0) -> np.ndarray:
    """Documents with few different tokens, so that blocks and contexts recur."""
    rng = np.random.default_rng(seed)
    length = tokenizer.spec.length
    ids = np.arange(6) if is_grid(tokenizer.spec.layout) else np.array([100, 128, 128, 140, 255])
    rows = rng.choice(ids, (count, length)).astype(np.uint16)
    rows[count // 2] = rows[0]  # two documents are the same
    return rows


def fit(
    root: Path,
    tokenizer: Any,
    rows: np.ndarray,
    *,
    order: str = "halving",
    clusters: np.ndarray | None = None,
) -> SpatialModel:
    root.mkdir(parents=True, exist_ok=True)
    how: Any = {"templates": TEMPLATES}
    if is_grid(tokenizer.spec.layout):
        how = {"templates": GRID_TEMPLATES, "grid_order": order}
    stage = BuildSpatialIndex(tokens=Rows(rows), tokenizer=tokenizer, **how)
    facts = stage.run(root, context(root))
    if clusters is not None:
        np.save(root / CLUSTERS, clusters)
    return stage.load(Artifact(path=root, manifest=replace(manifest(), facts=facts)))


def sampler(**knobs: Any) -> SpatialSampler:
    return SpatialSampler(name="test", **knobs)


ALL = [
    *((PyramidTokenizer(name="toy", sizes=sizes), "") for sizes in SIZES),
    *((Grid(*shape), order) for shape in GRIDS for order in ORDERS),
]


def _name(param: tuple[Any, str]) -> str:
    tokenizer, order = param
    return f"{tokenizer.spec.layout.heights}x{tokenizer.spec.layout.widths}{order}"


@pytest.fixture(scope="module", params=ALL, ids=_name)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SpatialModel:
    tokenizer, order = request.param
    folder = tmp_path_factory.mktemp("spatial")
    return fit(folder, tokenizer, documents(tokenizer, COUNT), order=order, clusters=NEAR)


@pytest.mark.parametrize("knobs", [*KNOBS, *GRID_KNOBS], ids=str)
def test_the_native_engine_is_the_definition(model: SpatialModel, knobs: dict[str, Any]) -> None:
    layout, count = model.index.layout, len(model.index.passes)
    if "nearest" in knobs and not is_grid(layout):
        with pytest.raises(ConfigError, match=r"type sampler\.nearest=null, or tokenizer=conv_vq"):
            model.generate(first_samples(1), sampler=sampler(nearest=1), layout=layout, seed=0)
        return
    knobs = {k: v[:count] if isinstance(v, list) else v for k, v in knobs.items()}
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
    rows = documents(model.tokenizer, COUNT)
    tokens, trace = model.generate(
        first_samples(6), sampler=sampler(), layout=model.index.layout, seed=1
    )
    np.testing.assert_array_equal(rows[trace["source_document"], trace["source_position"]], tokens)
    assert (trace["probability"] > 0).all()
    assert (trace["num_contexts"] >= trace["num_distinct"]).all()


@pytest.mark.parametrize("knobs", [{"follow": 0}, {"follow": None}, {"follow": 0, "nearest": 1}])
def test_no_document_gives_more_than_it_may(model: SpatialModel, knobs: dict[str, Any]) -> None:
    layout = model.index.layout
    _, free = model.generate(first_samples(8), sampler=sampler(follow=0), layout=layout, seed=1)
    most_tokens = 3 if is_grid(layout) else 18
    own = sampler(max_share=0.25, max_run=most_tokens, **knobs)
    if "nearest" in knobs and not is_grid(layout):
        return
    _, trace = model.generate(first_samples(8), sampler=own, layout=layout, seed=1)

    def most(documents_T: np.ndarray) -> int:
        return int(np.bincount(NEAR[documents_T]).max())

    assert max(map(most, free["source_document"])) > most_tokens
    for row in trace["source_document"]:
        assert most(row) <= most_tokens  # so no run is longer
        for part in model.index.passes:
            assert most(row[part.positions].ravel()) <= part.size * max(1, part.num_steps // 4)


def test_support_is_of_documents(tmp_path: Path) -> None:
    """The same document many times is one document, and so are near-duplicates."""
    tokenizer = PyramidTokenizer(name="toy", sizes=(1, 2, 4))
    same, others = documents(tokenizer, 1), documents(tokenizer, 3, seed=3)
    model = fit(tmp_path, tokenizer, np.concatenate([np.repeat(same, 20, axis=0), others]))
    how: Any = {"layout": tokenizer.spec.layout, "seed": 0}
    one = model.score(same, sampler=sampler(min_documents=1), **how)
    many = model.score(same, sampler=sampler(min_documents=21), **how)
    assert (many["suffix_len"] <= one["suffix_len"]).all()
    assert (many["num_contexts"] >= 21).all()
    rows = documents(tokenizer, 24, seed=4)
    near = fit(tmp_path / "near", tokenizer, rows, clusters=np.repeat([0, 20], [20, 4]))
    apart = fit(tmp_path / "apart", tokenizer, rows)
    # Of two clusters three can never agree, so that no decision is left.
    three = sampler(min_documents=3)
    assert (near.score(rows[:1], sampler=three, **how)["suffix_len"] == 0).all()
    assert (apart.score(rows[:1], sampler=three, **how)["suffix_len"] > 0).any()


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
        part = Pass(0, 6, 4, side, 1, np.arange(24 // side**2), np.zeros((24 // side**2, 1), int))
        found = PyramidSource(part, level, seen).surroundings()
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
        generator(templates=[{"from_size": 4}, {"from_size": 2}])
    with pytest.raises(ConfigError, match=r"\['sizes'\] are no fields of a template"):
        generator(templates=[{"sizes": 4}])
    with pytest.raises(ConfigError, match=r"generator.grid_order='rastr': did you mean 'raster'"):
        generator(grid_order="rastr")
    for places in (PLACES, GRID_PLACES):
        assert len(set(places)) == len(places)


def generator(**fields: Any) -> SpatialGenerator:
    known: dict[str, Any] = {"templates": [{}], "grid_order": "raster", "grid_templates": [{}]}
    return SpatialGenerator(name="s", **(known | fields))


def test_places_of_grids_and_of_pyramids_are_told_apart(tmp_path: Path) -> None:
    for tokenizer, order, place in (
        (Grid(4, 4), "raster", "slope_x_luma"),
        (PyramidTokenizer(name="toy", sizes=(2, 4)), None, "left_0"),
    ):
        stage = BuildSpatialIndex(
            tokens=Rows(documents(tokenizer, 4)),
            templates=(Template(choose=[place]),),
            grid_order=order,
            tokenizer=tokenizer,
        )
        with pytest.raises(ConfigError, match=rf"the place '{place}' is none of "):
            stage.run(tmp_path, context(tmp_path))


def test_tokenizers_without_places_are_refused() -> None:
    words = r"tokenizer=toy has neither; type tokenizer=pyramid3 or tokenizer=conv_vq"
    sequence = TokenSpec(vocab_size=6, layout=TokenLayout.sequence(4, order="raster"))
    plain = SimpleNamespace(name="toy", spec=sequence, codebooks=np.zeros((1, 6, 2)))
    with pytest.raises(ConfigError, match=words):
        generator().check_tokenizer(plain)
    without = SimpleNamespace(name="toy", spec=Grid(2, 2).spec)
    with pytest.raises(ConfigError, match=words):
        generator().check_tokenizer(without)
    generator().check_tokenizer(Grid(2, 2))


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    order=st.sampled_from(ORDERS),
    seed=st.integers(0, 99),
)
def test_surroundings_of_a_grid_are_those_of_the_definition(
    shape: tuple[int, int], order: str, seed: int
) -> None:
    """All places come, each once; what is drawn later is not seen."""
    rng = np.random.default_rng(seed)
    passes = grid_passes(TokenLayout((shape[0],), (shape[1],), 1), order)
    ranks = ranks_of(passes)
    assert sorted(ranks.ravel()) == list(range(ranks.size))
    grids = rng.integers(0, 6, (2, *shape)).astype(np.uint16)
    vectors = rng.normal(size=(6, 3)).astype(np.float32)
    codes = numbers_of(vectors, np.bincount(grids.ravel(), minlength=6))
    for part in passes:
        found = GridSource(part, grids, codes, vectors, ranks).surroundings()
        wanted = []
        for grid in grids:
            for place in part.places:
                y, x = divmod(int(place), shape[1])
                later = np.where(ranks >= ranks[y, x], 5 - grid, grid)
                wanted.append(grid_surroundings_reference(codes, later, ranks, part.unit, y, x))
        np.testing.assert_array_equal(found, np.reshape(wanted, (-1, GRID_SIZE)))


@given(
    shape=st.sampled_from([(1, 1), (1, 4), (3, 1), (2, 5)]),
    order=st.sampled_from(ORDERS),
    count=st.integers(1, 5),
    min_documents=st.integers(1, 6),
    follow=st.sampled_from([None, 0, 2]),
    nearest=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 9),
)
@settings(max_examples=25)
def test_awkward_grids_give_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int],
    order: str,
    count: int,
    min_documents: int,
    follow: int | None,
    nearest: int | None,
    seed: int,
) -> None:
    """Rows, columns, one image, fewer documents than have to agree."""
    tokenizer = Grid(*shape)
    rows = documents(tokenizer, count, seed=seed)
    model = fit(tmp_path_factory.mktemp("awkward"), tokenizer, rows, order=order)
    knobs: Any = {"min_documents": min_documents, "follow": follow, "nearest": nearest}
    how: Any = {"sampler": sampler(**knobs), "layout": tokenizer.spec.layout, "seed": seed}
    written = model.generate(first_samples(2), **how)
    assert_same(written, replace(model, engine="naive").generate(first_samples(2), **how))
    sources = written[1]["source_document"], written[1]["source_position"]
    np.testing.assert_array_equal(rows[sources], written[0])
    if min_documents > count:
        assert (written[1]["suffix_len"] == 0).all() or follow is not None


def test_neighbouring_codes_decide(tmp_path: Path) -> None:
    """Stripes: a code is that of its left neighbour, which the context finds."""
    rng = np.random.default_rng(0)
    stripes = np.repeat(rng.integers(0, 6, (60, 6, 1)), 6, axis=2).reshape(60, 36)
    tokenizer = Grid(6, 6)
    templates = (Template(choose=["guess0", "guess1", "guess2", "left_0", "left_1", "left_2"]),)
    stage = BuildSpatialIndex(
        tokens=Rows(stripes.astype(np.uint16)),
        templates=templates,
        grid_order="raster",
        tokenizer=tokenizer,
    )
    facts = stage.run(tmp_path, context(tmp_path))
    model = stage.load(Artifact(path=tmp_path, manifest=replace(manifest(), facts=facts)))
    tokens, _ = model.generate(
        first_samples(20),
        sampler=sampler(min_documents=2),
        layout=tokenizer.spec.layout,
        seed=0,
    )
    grids = tokens.reshape(-1, 6, 6)
    assert (grids[:, :, 1:] == grids[:, :, :-1]).mean() > 0.9


def test_the_nearest_is_the_most_alike(tmp_path: Path) -> None:
    """With one context of all documents, the candidate is that of the same surroundings."""
    tokenizer = Grid(4, 4)
    rows = np.random.default_rng(1).integers(0, 6, (12, 16)).astype(np.uint16)
    model = fit(tmp_path, tokenizer, rows, order="raster")
    how: Any = {"layout": tokenizer.spec.layout, "seed": 0}
    trace = model.score(rows, sampler=sampler(min_count=rows.size, nearest=1), **how)
    assert (trace["num_contexts"] == rows.size).all()
    # Its own surroundings are at no distance: a document finds itself once they are long enough.
    found = trace["source_document"] == np.arange(12)[:, None]
    assert found[:, 8:].all()
    drawn = model.score(rows, sampler=sampler(min_count=rows.size), **how)
    assert (drawn["probability"] < trace["probability"])[:, 8:].all()


def test_codes_are_numbers_along_their_axes() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 12)) * np.array([9.0, 3.0] + [0.1] * 10)
    numbers = numbers_of(vectors, np.full(40, 7))
    assert numbers.shape == (40, AXES)
    assert np.abs(numbers).max() == 1024
    assert abs(np.corrcoef(numbers[:, 0], vectors[:, 0])[0, 1]) > 0.99
    assert (np.diff(numbers.var(axis=0)) <= 1).all()


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"max_share": 0}, r"sampler.max_share=0: must be in \(0, 1\]"),
        ({"min_documents": [1, 0]}, "sampler.min_documents=.*must be a whole number"),
        ({"temperature": -1.0}, "sampler.temperature"),
        ({"follow": 0.5}, "sampler.follow"),
        ({"max_run": 0}, "sampler.max_run"),
        ({"nearest": 0}, r"sampler.nearest=0: must be a whole number of at least 1, or null"),
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
    if not is_grid(layout):
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
        assert len(level.blocks) == COUNT * index.passes[n].num_steps
    assert blocks_of(np.zeros((1, 4, 4, 3), np.uint16), 2).shape == (4, 12)
