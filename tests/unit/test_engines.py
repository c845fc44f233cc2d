"""Which engine writes what: the choice, the side files that are made for it, the refusals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagegram.errors import UnsupportedError
from imagegram.generators.ngram import engine
from imagegram.generators.ngram.engine import Needs, Request
from imagegram.generators.ngram.engines import bytes_read, choose, make_files, needs_of
from imagegram.indexes.format import IndexShard
from imagegram.layout import TokenLayout
from imagegram.store.manifest import Artifact
from tests.generation import manifest, sampler
from tests.index_folders import write_index
from tests.pictures import context

LAYOUT = TokenLayout.sequence(5, digits=(8, 8, 8))
SUFFIX, ALIGNED, NONE = Needs(order="suffix"), Needs(order="aligned"), Needs()


def request(
    num_shards: int = 1,
    *,
    length: int | None = 5,
    made: Needs | None = None,
    labelled: bool = False,
    **knobs: Any,
) -> Request:
    return Request(
        sampler=sampler(**knobs),
        layout=LAYOUT,
        lengths=(length,) * num_shards,
        labelled=labelled,
        made=made,
    )


@pytest.mark.parametrize(
    ("num_shards", "knobs", "engine", "needs"),
    [
        (1, {}, "WalkEngine", SUFFIX),
        (1, {"matching": "level"}, "WalkEngine", SUFFIX),
        (1, {"matching": "position"}, "WalkEngine", ALIGNED),
        (1, {"context_digits": 3}, "WalkEngine", SUFFIX),  # all digits: whole tokens
        (2, {}, "SearchEngine", Needs(order="suffix", runs=(5,))),
        (2, {"max_context": 3}, "SearchEngine", Needs(order="suffix", runs=(3,))),
        (3, {"matching": "position"}, "SearchEngine", Needs(order="aligned", runs=(3, 5))),
        (1, {"anchor": 1}, "SearchEngine", SUFFIX),
        (1, {"labelled": True}, "SearchEngine", SUFFIX),
        (1, {"anchor": 1, "matching": "position"}, "SearchEngine", ALIGNED),
        (1, {"context_digits": 1}, "SearchEngine", Needs(order="suffix", divisor=64)),
        (
            1,
            {"context_digits": 2, "matching": "position"},
            "SearchEngine",
            Needs(order="aligned", divisor=8),
        ),
    ],
)
def test_native_walks_where_it_can(
    num_shards: int, knobs: dict[str, Any], engine: str, needs: Needs
) -> None:
    """And searches once the side files for a walk are known to be missing."""
    assert choose("native", request(num_shards, **knobs)).__name__ == engine
    assert needs_of("native", request(num_shards, **knobs)) == needs
    assert choose("native", request(num_shards, made=needs, **knobs)).__name__ == engine
    without = choose("native", request(num_shards, made=NONE, **knobs))
    assert without.__name__ == "SearchEngine"


def test_short_runs_are_screened_and_whole_contexts() -> None:
    layout = TokenLayout.sequence(64)
    for matching, runs in (("free", (12, 32)), ("position", (6, 32))):
        wanted = Request(sampler=sampler(matching=matching), layout=layout, lengths=(64,) * 2)
        assert needs_of("native", wanted).runs == runs


def test_a_context_too_long_for_side_files_is_searched() -> None:
    layout = TokenLayout.sequence(65_535)
    wanted = Request(sampler=sampler(max_context=65_534), layout=layout, lengths=(5,))
    assert needs_of("native", wanted) == SUFFIX
    wanted = Request(sampler=sampler(max_context=65_535), layout=layout, lengths=(5,))
    assert needs_of("native", wanted) == NONE


@pytest.mark.parametrize("engine", ["naive", "native"])
@pytest.mark.parametrize("length", [None, 4])
def test_positions_are_compared_in_documents_of_one_length(engine: str, length: int | None) -> None:
    found = "different lengths" if length is None else "4 tokens each"
    with pytest.raises(UnsupportedError, match=rf"images of 5 tokens.*shard 0 holds.*{found}"):
        choose(engine, request(length=length, matching="channel"))
    assert choose(engine, request(length=length))


@pytest.mark.parametrize("engine", ["fastgram", "torch"])
@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"anchor": 2}, "sampler.anchor=2"),
        ({"labelled": True}, "condition=label"),
        ({"context_digits": 1}, "sampler.context_digits=1"),
    ],
)
def test_a_refusal_names_the_knob_and_what_to_type(
    engine: str, knobs: dict[str, Any], named: str
) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    with pytest.raises(UnsupportedError, match=rf"{engine} cannot do {named}.*native"):
        choose(engine, request(**knobs))


@pytest.mark.parametrize(
    "needs",
    [
        NONE,
        SUFFIX,
        Needs(order="aligned", runs=(3, 5)),
        Needs(order="suffix", divisor=64),
        Needs(order="suffix", runs=(5,)),
    ],
)
def test_the_bytes_read_at_random_are_those_of_the_mapped_files(
    tmp_path: Path, needs: Needs
) -> None:
    shards = []
    for number, documents in enumerate((30, 70)):
        folder = write_index(tmp_path / f"index{number}", [list(range(200))] * documents)
        artifact = Artifact(path=folder, manifest=manifest(number))
        shards.append(replace(IndexShard.open(folder), artifact=artifact))
    files = make_files(needs, shards, context(tmp_path))
    assert bytes_read(needs, shards) == sum(array.nbytes for array in files.maps)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
@pytest.mark.parametrize(("available", "at_random"), [(10**9, False), (1, True)])
def test_an_index_beyond_the_memory_is_read_in_single_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, at_random: bool
) -> None:
    monkeypatch.setattr(engine, "available_bytes", lambda: available)
    write_index(tmp_path / "index", [list(range(200))] * 30)
    shard = IndexShard.open(tmp_path / "index")
    files = make_files(NONE, [shard], context(tmp_path))
    files.fit_to_memory()
    assert len(files.maps) == 2
    entries = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    read = [str(tmp_path / "index" / name) for name in ("tokenized.0", "table.0")]
    own = [entry for entry in entries if any(name in entry for name in read)]
    assert len(own) == 2
    for entry in own:
        flags = re.search(r"VmFlags: (.*)", entry)
        assert flags is not None
        assert ("rr" in flags[1].split()) == at_random
