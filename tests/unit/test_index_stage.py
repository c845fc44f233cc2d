"""The index stages: shards are shared, files are linked, counts are reconciled."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_folders import write_index

from imagegram.errors import ArtifactError, CapacityError, ConfigError
from imagegram.executors.context import RunContext
from imagegram.executors.serial import SerialExecutor
from imagegram.indexes import open_index
from imagegram.indexes.build.stage import TOKEN_FILES, BuildIndex, BuildIndexShard, Indexing
from imagegram.indexes.verify import verify
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.stage import Progress
from imagegram.tools.convert import export_shards
from tests.token_shards import FakeSelect, FakeTokens, FakeTokenShard


class Silent(Progress):
    def start(self, description: str, total: int, unit: str) -> int:
        return 0

    def advance(self, task: int, steps: int = 1) -> None:
        pass

    def finish(self, task: int) -> None:
        pass


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    store = ArtifactStore(root=tmp_path / "artifacts")
    return RunContext(store=store, executor=SerialExecutor(), progress=Silent())


SHARDS = (
    FakeTokenShard(rows=((1, 2, 3), (1, 2, 4))),
    FakeTokenShard(rows=((5, 6, 7),)),
    FakeTokenShard(rows=()),
)


def test_a_shard_holds_everything_and_reports_it(context: RunContext) -> None:
    tokens = context.make(SHARDS[0])
    shard = context.make(BuildIndexShard(tokens=(tokens,)))
    assert shard.artifact is not None
    assert shard.artifact.facts == {
        "num_documents": 2,
        "num_tokens": 9,
        "pointer_width": 1,
        "table_bytes": 9,
    }
    assert shard.metadata(1)["key"] == "ü1"
    assert shard.identity() == f"index_shard/{shard.artifact.digest}"
    verify(shard, deep=True)
    for name in TOKEN_FILES:
        assert (shard.path / name).samefile(tokens.artifact.path / name)


def test_files_are_copied_where_links_are_refused(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr("imagegram.store.parts.os.link", refuse)
    tokens = context.make(SHARDS[0])
    shard = context.make(BuildIndexShard(tokens=(tokens,)))
    for name in TOKEN_FILES:
        copied, original = shard.path / name, tokens.artifact.path / name
        assert not copied.samefile(original)
        assert copied.read_bytes() == original.read_bytes()


def index_shards(context: RunContext) -> set[str]:
    return {artifact.digest for artifact in context.store if artifact.kind == "index_shard"}


def test_a_larger_corpus_reuses_the_full_shards_of_a_smaller_one(context: RunContext) -> None:
    small = context.make(FakeTokens(parts=SHARDS[:1]))
    large = context.make(FakeTokens(parts=SHARDS))
    context.make(BuildIndex(tokens=small, shard_tokens=9))
    built = index_shards(context)
    index = context.make(BuildIndex(tokens=large, shard_tokens=9))
    after = index_shards(context)
    assert built < after
    assert len(after) == 2  # the last two hold 5 tokens together
    assert index.artifact.facts["num_documents"] == 3
    assert index.artifact.facts["num_tokens"] == 9 + 5
    listed = json.loads((index.artifact.path / "shards.json").read_text())
    assert listed["kind"] == "index_shard"


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(1, [9, 5, 5, 1]), (9, [9, 9]), (10, [9, 9]), (13, [13, 5]), (17, [17]), (2**30, [17])],
)
def test_token_shards_are_joined_while_they_fit(
    context: RunContext, limit: int, sizes: list[int]
) -> None:
    rows = [((1, 2, 3), (1, 2, 4)), ((5, 6, 7),), ((8, 8, 8),), ()]
    parts = tuple(FakeTokenShard(rows=each) for each in rows)
    tokens = context.make(FakeTokens(parts=parts))
    index = context.make(BuildIndex(tokens=tokens, shard_tokens=limit))
    assert [shard.num_tokens for shard in index.shards] == sizes
    library = open_index(index.artifact.path, engine="naive")
    for document, row in enumerate([row for shard in rows for row in shard]):
        assert library.document(document).tolist() == list(row)
    assert [library.metadata(i)["key"] for i in range(4)] == ["ü0", "ü1", "ü0", "ü0"]


def test_joined_shards_are_what_one_shard_of_their_documents_is(
    context: RunContext, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = [[tuple(row) for row in rng.integers(0, 4, (n, 3)).tolist()] for n in (5, 0, 1, 7)]
    parts = tuple(FakeTokenShard(rows=tuple(each)) for each in rows)
    joined = context.make(BuildIndex(tokens=context.make(FakeTokens(parts=parts)))).shards[0]
    whole = write_index(tmp_path / "whole", [row for each in rows for row in each])
    for name in ("tokenized.0", "offset.0", "table.0"):
        assert (joined.path / name).read_bytes() == (whole / name).read_bytes()
    assert joined.document_length == 3
    verify(joined, deep=True)


def test_a_shard_beyond_the_memory_is_refused_before_it_is_sorted(context: RunContext) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    tight = replace(context, memory_gb=0.25000005)  # 50 bytes beside the process
    stage = BuildIndex(tokens=tokens)
    with pytest.raises(CapacityError, match=r"of 13 tokens.*index\.shard_tokens=9, or") as said:
        tight.make(stage)
    assert "runtime.memory_gb=0.26" in str(said.value)
    smaller = BuildIndex(tokens=tokens, shard_tokens=9)
    assert len(tight.make(smaller).shards) == 2
    with pytest.raises(CapacityError, match="make the shards of the corpus smaller"):
        replace(context, memory_gb=0.2).make(stage)
    context.make(stage)
    tight.make(stage)  # nothing is to be made, so nothing is refused


@pytest.mark.parametrize(("memory_gb", "expected"), [(0.3, 1), (0.6, 2), (1, 3)])
def test_memory_bounds_how_many_shards_are_made_at_a_time(
    context: RunContext, memory_gb: float, expected: int
) -> None:
    seen: list[int] = []

    class Watching(SerialExecutor):
        def map(self, *arguments: Any, at_once: int | None = None) -> Any:
            if at_once is not None:
                seen.append(at_once)
            return super().map(*arguments)

    tokens = context.make(FakeTokens(parts=SHARDS))
    watched = replace(context, executor=Watching(workers=4), memory_gb=memory_gb)
    watched.make(BuildIndex(tokens=tokens, shard_tokens=9))
    assert seen == [expected]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_size_that_no_shard_can_have(limit: int) -> None:
    with pytest.raises(ConfigError, match=r"index\.shard_tokens must be at least 1"):
        Indexing(name="default", shard_tokens=limit)


@pytest.mark.parametrize("engine", ["native", "naive", "fastgram"])
def test_an_index_artifact_opens_as_a_library(context: RunContext, engine: str) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    artifact = context.make(BuildIndex(tokens=tokens)).artifact
    index = open_index(artifact.path, engine=engine)
    assert index.count([1, 2]) == 2
    assert index.document(2).tolist() == [5, 6, 7]
    assert index.metadata(2) == {"key": "ü0"}
    part = next(a for a in context.store if a.kind == "index_shard")
    assert open_index(part.path).shards[0].identity() == part.identity()


def test_a_shard_that_does_not_hold_what_its_manifest_says(context: RunContext) -> None:
    tokens = context.make(FakeTokenShard(rows=((1, 2, 3), (1, 2, 4)), claimed=3))
    with pytest.raises(ArtifactError, match=r"promises 3 documents .13 tokens.*tools\.gc"):
        context.make(BuildIndexShard(tokens=(tokens,)))


def test_documents_of_another_length_than_promised(context: RunContext) -> None:
    tokens = context.make(FakeTokenShard(rows=((1, 2), (1, 2, 3, 4))))
    with pytest.raises(ArtifactError, match="not all 3 tokens long"):
        context.make(BuildIndexShard(tokens=(tokens,)))


def test_offsets_of_ragged_documents_that_do_not_ascend(context: RunContext) -> None:
    tokens = context.make(FakeTokenShard(rows=((1, 2), (), (1, 2, 3)), length=None))
    offsets = tokens.artifact.path / "offset.0"
    for wrong, what in (([0, 8, 6], "do not ascend from 0"), ([0, 4, 8], "no separator 65535")):
        np.array(wrong, "<u8").tofile(offsets)
        again = context.make(FakeTokenShard(rows=((1, 2), (), (1, 2, 3)), length=None))
        with pytest.raises(ArtifactError, match=what):
            context.make(BuildIndexShard(tokens=(again,)))


def test_a_token_set_that_does_not_add_up(context: RunContext) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS, claimed=4))
    with pytest.raises(ArtifactError, match="promises 4 documents, but its index shards hold 3"):
        context.make(BuildIndex(tokens=tokens))


def test_token_and_index_artifacts_are_exported(context: RunContext, tmp_path: Path) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    index = context.make(BuildIndex(tokens=tokens))
    sources = (tokens.artifact.path, index.artifact.path, index.shards[0].path)
    configs = [export_shards(source, tmp_path / str(i)) for i, source in enumerate(sources)]
    assert [config["shards"] for config in configs] == [3, 1, 1]
    assert [config["num_failed"] for config in configs] == [2, 2, 0]  # the parts skipped nothing
    for config in configs:
        assert (config["num_images"], config["vocab_size"]) == (3, 256)
    assert [config["tokenizer"] for config in configs] == ["tiny", "tiny", None]
    for i, expected in enumerate(([8, 4, 0], [12], [12])):
        sizes = [np.fromfile(f, "<u2").size for f in sorted(tmp_path.glob(f"{i}/*/*.bin"))]
        assert sizes == expected


def test_what_is_selected_is_exported_alone(context: RunContext, tmp_path: Path) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    selected = context.make(FakeSelect(tokens=tokens, chosen=((1,), (0,), ())))
    index = context.make(BuildIndex(tokens=selected))
    for number, source in enumerate((selected, index)):
        config = export_shards(source.artifact.path, tmp_path / str(number))
        files = sorted(tmp_path.glob(f"{number}/*/*.bin"))
        stream = np.concatenate([np.fromfile(file, "<u2") for file in files])
        assert stream.tolist() == [1, 2, 4, 65535, 5, 6, 7, 65535]
        assert (config["num_images"], config["tokenizer"], config["num_failed"]) == (2, "tiny", 2)
