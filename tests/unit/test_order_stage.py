"""Orders as artifacts: made once, opened with their shard, kept while their shard is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from index_folders import write_index

from imagegram.errors import CapacityError
from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.indexes.build.order_stage import BuildOrder
from imagegram.indexes.format import IndexShard
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Artifact
from imagegram.tools import gc


@dataclass(frozen=True, kw_only=True)
class SmallShard:
    """An index shard of a few documents."""

    kind: ClassVar[str] = "index_shard"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1

    rows: tuple[tuple[int, ...], ...]

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        write_index(out, self.rows)
        return {}

    def load(self, artifact: Artifact) -> IndexShard:
        return IndexShard.open(artifact.path, artifact=artifact)


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    store = ArtifactStore(root=tmp_path / "artifacts")
    return RunContext(store=store, executor=SerialExecutor(workers=2), progress=SilentProgress())


ROWS = ((1, 2, 3), (1, 2, 4), (1, 2, 3))


@pytest.mark.parametrize("aligned", [False, True])
def test_an_order_is_made_once_a_shard_and_kind(context: RunContext, aligned: bool) -> None:
    shard = context.make(SmallShard(rows=ROWS))
    order = context.make(BuildOrder(shard=shard, aligned=aligned))
    assert order.artifact is not None
    assert order.artifact.facts["num_tokens"] == order.lcp.size == 13
    sizes = [file.stat().st_size for file in order.path.glob("*.0")]
    assert order.artifact.facts["size_bytes"] == sum(sizes)
    assert context.store.find(BuildOrder(shard=shard, aligned=aligned)) is not None
    assert context.store.find(BuildOrder(shard=shard, aligned=not aligned)) is None
    other = context.make(SmallShard(rows=ROWS[:1]))
    assert context.store.find(BuildOrder(shard=other, aligned=aligned)) is None


def test_an_order_beyond_the_memory_is_refused(context: RunContext) -> None:
    shard = context.make(SmallShard(rows=ROWS))
    tight = replace(context, memory_gb=20e-9)
    with pytest.raises(CapacityError, match=r"13 suffixes.*index\.shard_tokens=6.*memory_gb="):
        tight.make(BuildOrder(shard=shard, aligned=False))


def test_orders_are_kept_with_their_shards(context: RunContext, tmp_path: Path) -> None:
    kept, dropped = (context.make(SmallShard(rows=ROWS[:n])) for n in (3, 2))
    for shard in (kept, dropped):
        context.make(BuildOrder(shard=shard, aligned=False))
    assert kept.artifact is not None
    summary = tmp_path / "runs" / "one" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text(json.dumps({"stages": {"index": {"digest": kept.artifact.digest}}}))
    assert gc.main(["--unused", f"paths.outputs={tmp_path}"]) == 0
    left = {artifact.kind: artifact for artifact in context.store}
    assert sorted(artifact.kind for artifact in context.store) == ["index_shard", "order"]
    assert left["order"].manifest.payload["shard"] == kept.identity()
