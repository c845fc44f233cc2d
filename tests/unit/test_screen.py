"""Screens: what a shard holds they never deny, and they deny most of what it lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imagegram.errors import CapacityError, IndexFormatError, UnsupportedError
from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.indexes.build.screen_stage import BuildScreen
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels.screen import hash_run, line_of, may_hold
from imagegram.indexes.screen import Screen, write_screen
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Artifact
from tests.index_folders import write_index


def asked(screen: Screen, run: list[int], start: int = 0) -> bool:
    """Whether the shard may hold a run that begins at an index behind a separator, or at it."""
    ids = np.array([0] * start + run, dtype=np.uint16)
    mixed = hash_run(ids, start, len(ids), screen.placed)
    word = line_of(np.uint64(mixed), start, screen.words.size, screen.pitch)
    assert 0 <= word <= screen.words.size - 8
    line = screen.words[word:].ctypes.data
    return bool(may_hold(np.uint64(line), np.uint64(mixed)))


def random_documents(count: int, size: int) -> list[list[int]]:
    ids: list[list[int]] = np.random.default_rng(3).integers(0, 300, (count, size)).tolist()
    return ids


def test_what_a_shard_holds_is_never_denied(tmp_path: Path) -> None:
    documents = [*random_documents(40, 9), [5], [7, 7]]
    shard = IndexShard.open(write_index(tmp_path / "index", documents))
    screen = write_screen(shard, tmp_path, runs=(3, 6), placed=False)
    for document in documents:
        row = [EOS_TOKEN_ID, *document]
        for length in (3, 6):
            runs = [row[i : i + length] for i in range(len(row) - length + 1)]
            assert all(asked(screen, run, start=at) for run in runs for at in (0, 2))


def test_most_of_what_it_lacks_is_denied(tmp_path: Path) -> None:
    shard = IndexShard.open(write_index(tmp_path / "index", random_documents(200, 30)))
    screen = write_screen(shard, tmp_path, runs=(4, 8), placed=False)
    unknown = np.random.default_rng(4).integers(300, 600, (2000, 8)).tolist()
    for length in (4, 8):
        wrong = np.mean([asked(screen, run[:length]) for run in unknown])
        # 43 runs set up to 171 of the 512 bits of a line; a run needs four of them: 1.2 %.
        assert wrong < 0.05


def test_a_placed_screen_tells_places_apart(tmp_path: Path) -> None:
    documents = random_documents(100, 12)
    shard = IndexShard.open(write_index(tmp_path / "index", documents))
    screen = write_screen(shard, tmp_path, runs=(3,), placed=True)
    rows = [[EOS_TOKEN_ID, *document] for document in documents]
    assert all(asked(screen, row[i : i + 3], start=i) for row in rows for i in range(11))
    assert np.mean([asked(screen, row[4:7], start=5) for row in rows]) < 0.2


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    shard = IndexShard.open(write_index(tmp_path / "index", [[1, 2], [3]]))
    with pytest.raises(UnsupportedError, match=r"differ in length.*sampler\.matching=free"):
        write_screen(shard, tmp_path, runs=(2,), placed=True)
    write_screen(shard, tmp_path, runs=(2,), placed=False)
    (tmp_path / "screen.0").write_bytes(bytes(32))
    with pytest.raises(IndexFormatError, match=r"32 bytes.*6 tokens.*need 64.*repeat"):
        Screen.open(tmp_path, shard=shard, runs=(2,), placed=False)


@dataclass(frozen=True, kw_only=True)
class SmallShard:
    """An index shard of two documents."""

    kind: ClassVar[str] = "index_shard"
    group: ClassVar[str] = "index"
    VERSION: ClassVar[int] = 1

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        write_index(out, [[1, 2, 3], [4, 5, 6]])
        return {}

    def load(self, artifact: Artifact) -> IndexShard:
        return IndexShard.open(artifact.path, artifact=artifact)


def test_a_screen_is_made_once_a_shard_and_its_runs(tmp_path: Path) -> None:
    store = ArtifactStore(root=tmp_path / "artifacts")
    context = RunContext(store=store, executor=SerialExecutor(), progress=SilentProgress())
    stage = BuildScreen(shard=context.make(SmallShard()), runs=(2, 3), placed=False)
    screen = context.make(stage)
    assert screen.artifact is not None
    assert screen.artifact.facts["size_bytes"] == screen.words.nbytes == 64
    assert store.find(stage) is not None
    for other in (replace(stage, runs=(2,)), replace(stage, placed=True)):
        assert store.find(other) is None
    with pytest.raises(CapacityError, match=r"9 tokens.*index\.shard_tokens=4.*memory_gb="):
        replace(context, memory_gb=33e-9).make(replace(stage, placed=True))
