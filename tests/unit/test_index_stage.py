"""The index stages: shards are shared, files are linked, counts are reconciled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from index_folders import write_index

from imagegram.errors import ArtifactError
from imagegram.executors.serial import SerialExecutor
from imagegram.indexes import Index
from imagegram.indexes.verify import verify
from imagegram.protocols import Progress
from imagegram.stages.context import RunContext
from imagegram.stages.index import TOKEN_FILES, BuildIndex, BuildIndexShard
from imagegram.stages.parts import write_parts
from imagegram.stages.tokens import TokenSet, TokenShard
from imagegram.store.artifacts import Artifact, ArtifactStore
from imagegram.tools.convert import export_shards


class Silent(Progress):
    def start(self, description: str, total: int, unit: str) -> int:
        return 0

    def advance(self, task: int, steps: int = 1) -> None:
        pass

    def finish(self, task: int) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class FakeTokenShard:
    """Writes the files of a token shard; ``claimed`` is what its manifest says it holds."""

    kind: ClassVar[str] = "token_shard"
    VERSION: ClassVar[int] = 1

    rows: tuple[tuple[int, ...], ...]
    claimed: int | None = None

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        write_index(out, self.rows, metadata=True)
        (out / "table.0").unlink()
        number = len(self.rows) if self.claimed is None else self.claimed
        return {"num_documents": number, "num_tokens": 3}

    def load(self, artifact: Artifact) -> TokenShard:
        return TokenShard(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class FakeTokens:
    kind: ClassVar[str] = "tokens"
    VERSION: ClassVar[int] = 1

    parts: tuple[FakeTokenShard, ...]
    claimed: int | None = None

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        made = [context.make(part).artifact for part in self.parts]
        write_parts(out, kind="token_shard", parts=made)
        total = sum(artifact.facts["num_documents"] for artifact in made)
        return {
            "num_documents": total if self.claimed is None else self.claimed,
            "num_tokens": 3,
            "vocab_size": 256,
            "tokenizer": "tiny",
            "skipped": {"corrupt": 2, "held_out": 5},
        }

    def load(self, artifact: Artifact) -> TokenSet:
        return TokenSet(artifact=artifact, images=())


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
    shard = context.make(BuildIndexShard(tokens=tokens))
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

    monkeypatch.setattr("imagegram.stages.parts.os.link", refuse)
    tokens = context.make(SHARDS[0])
    shard = context.make(BuildIndexShard(tokens=tokens))
    for name in TOKEN_FILES:
        copied, original = shard.path / name, tokens.artifact.path / name
        assert not copied.samefile(original)
        assert copied.read_bytes() == original.read_bytes()


def test_a_larger_corpus_reuses_the_shards_of_a_smaller_one(context: RunContext) -> None:
    small = context.make(FakeTokens(parts=SHARDS[:1]))
    large = context.make(FakeTokens(parts=SHARDS))
    context.make(BuildIndex(tokens=small))
    built = {artifact.digest for artifact in context.store if artifact.kind == "index_shard"}
    index = context.make(BuildIndex(tokens=large))
    after = {artifact.digest for artifact in context.store if artifact.kind == "index_shard"}
    assert built < after
    assert len(after) == 3
    assert index.artifact.facts["num_documents"] == 3
    assert index.artifact.facts["num_tokens"] == 9 + 5 + 1
    listed = json.loads((index.artifact.path / "shards.json").read_text())
    assert listed["kind"] == "index_shard"


def test_the_engine_is_no_part_of_the_identity(context: RunContext) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    context.make(BuildIndex(tokens=tokens, engine="native"))
    assert context.store.find(BuildIndex(tokens=tokens, engine="naive")) is not None


@pytest.mark.parametrize("engine", ["native", "naive", "fastgram"])
def test_an_index_artifact_opens_as_a_library(context: RunContext, engine: str) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    artifact = context.make(BuildIndex(tokens=tokens)).artifact
    index = Index.open(artifact.path, engine=engine)
    assert index.count([1, 2]) == 2
    assert index.document(2).tolist() == [5, 6, 7]
    assert index.metadata(2) == {"key": "ü0"}
    part = next(a for a in context.store if a.kind == "index_shard")
    assert Index.open(part.path).shards[0].identity() == part.identity()


def test_a_shard_that_does_not_hold_what_its_manifest_says(context: RunContext) -> None:
    tokens = context.make(FakeTokenShard(rows=((1, 2, 3), (1, 2, 4)), claimed=3))
    with pytest.raises(ArtifactError, match=r"promises 3 documents of 3 tokens.*tools\.gc"):
        context.make(BuildIndexShard(tokens=tokens))


def test_documents_of_another_length_than_promised(context: RunContext) -> None:
    tokens = context.make(FakeTokenShard(rows=((1, 2), (1, 2, 3, 4))))
    with pytest.raises(ArtifactError, match="not all 3 tokens long"):
        context.make(BuildIndexShard(tokens=tokens))


def test_a_token_set_that_does_not_add_up(context: RunContext) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS, claimed=4))
    with pytest.raises(ArtifactError, match="promises 4 documents, but its index shards hold 3"):
        context.make(BuildIndex(tokens=tokens))


def test_token_and_index_artifacts_are_exported(context: RunContext, tmp_path: Path) -> None:
    tokens = context.make(FakeTokens(parts=SHARDS))
    index = context.make(BuildIndex(tokens=tokens)).artifact
    configs = [
        export_shards(source, tmp_path / str(i))
        for i, source in enumerate((tokens.artifact.path, index.path))
    ]
    for config in configs:
        assert (config["num_images"], config["shards"], config["num_failed"]) == (3, 3, 2)
        assert (config["vocab_size"], config["tokenizer"]) == (256, "tiny")
    for i in range(2):
        sizes = [np.fromfile(f, "<u2").size for f in sorted(tmp_path.glob(f"{i}/*/*.bin"))]
        assert sizes == [8, 4, 0]
