"""The store's promises: found by what it is, made once, never believed when half-made."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imagegram.errors import ArtifactError, ConfigError, StageError
from imagegram.executors.context import RunContext
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.indexes.build.stage import BuildIndex, BuildIndexShard
from imagegram.stages.embed import EmbedReference
from imagegram.stages.evaluate import Evaluate
from imagegram.stages.measure import Measure
from imagegram.stages.select import Select, SelectShard
from imagegram.stages.tokenize import Tokenize, TokenizeShard
from imagegram.store.artifacts import ArtifactStore, fingerprint
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.manifest import MANIFEST, Artifact
from imagegram.store.parts import copy_file
from imagegram.tools import gc, ls, verify


@dataclass(frozen=True, kw_only=True)
class Write:
    """Writes its text; counts how often it ran in a file beside the store."""

    kind: ClassVar[str] = "toy"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    text: str
    repeat: int = 1
    counter: Path = field(metadata=NOT_IDENTITY)
    sleep_s: float = field(default=0.0, metadata=NOT_IDENTITY)
    error: bool = field(default=False, metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        with self.counter.open("a") as stream:
            stream.write("x")
        (out / "text.txt").write_text(self.text * self.repeat)
        time.sleep(self.sleep_s)
        if self.error:
            raise StageError("no")
        return {"length": len(self.text)}

    def load(self, artifact: Artifact) -> str:
        return (artifact.path / "text.txt").read_text()


@dataclass(frozen=True, kw_only=True)
class Upper:
    """Depends on another artifact."""

    kind: ClassVar[str] = "upper"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    source: Artifact

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        (out / "text.txt").write_text((self.source.path / "text.txt").read_text().upper())
        return {}

    def load(self, artifact: Artifact) -> str:
        return (artifact.path / "text.txt").read_text()


def make_context(root: Path, workers: int = 1) -> RunContext:
    executor = ProcessExecutor(workers=workers) if workers > 1 else SerialExecutor()
    return RunContext(
        store=ArtifactStore(root=root / "outputs" / "artifacts"),
        executor=executor,
        progress=SilentProgress(),
    )


def runs(counter: Path) -> int:
    return len(counter.read_text()) if counter.exists() else 0


def test_identity_is_the_object_not_its_spelling(tmp_path: Path) -> None:
    implicit = Write(text="a", counter=tmp_path / "1")
    explicit = Write(repeat=1, text="a", counter=tmp_path / "2", sleep_s=9)
    assert fingerprint(implicit) == fingerprint(explicit)
    assert fingerprint(implicit)[0] != fingerprint(Write(text="a", repeat=2, counter=tmp_path))[0]


def test_a_changed_version_is_another_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Write(text="a", counter=tmp_path)
    before = fingerprint(stage)[0]
    monkeypatch.setattr(Write, "VERSION", 2)
    assert fingerprint(stage)[0] != before


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        (Tokenize, TokenizeShard),
        (Select, SelectShard),
        (BuildIndex, BuildIndexShard),
        (Evaluate, Measure),
        (Evaluate, EmbedReference),
    ],
)
def test_a_new_version_of_a_part_is_a_new_whole(
    whole: type, part: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Whole(Write):
        PARTS = whole.PARTS

    stage = Whole(text="a", counter=Path())
    before = fingerprint(stage)[0]
    monkeypatch.setattr(part, "VERSION", part.VERSION + 1)
    assert fingerprint(stage)[0] != before


def test_a_path_has_no_identity(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="NOT_IDENTITY"):
        identity({"where": tmp_path})


def test_made_once_then_found(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    stage = Write(text="a", counter=tmp_path / "count")
    first, hit = context.store.make(stage, context)
    again, hit_again = context.store.make(stage, context)
    assert (hit, hit_again) == (False, True)
    assert first == again
    assert first.facts == {"length": 1}
    assert runs(tmp_path / "count") == 1


def test_upstream_identity_flows_down(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    a, _ = context.store.make(Write(text="a", counter=tmp_path / "c"), context)
    b, _ = context.store.make(Write(text="b", counter=tmp_path / "c"), context)
    assert fingerprint(Upper(source=a))[0] != fingerprint(Upper(source=b))[0]
    assert context.make(Upper(source=b)) == "B"


def test_a_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    stage = Write(text="a", counter=tmp_path / "c", error=True)
    with pytest.raises(StageError):
        context.store.make(stage, context)
    assert context.store.find(stage) is None
    assert context.store.partials() == []


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_a_damaged_file_is_refused_with_the_command_that_mends(tmp_path: Path, damage: str) -> None:
    context = make_context(tmp_path)
    stage = Write(text="abc", counter=tmp_path / "c")
    artifact, _ = context.store.make(stage, context)
    file = artifact.path / "text.txt"
    file.unlink() if damage == "remove" else file.write_text("ab")
    with pytest.raises(ArtifactError, match=f"tools.gc digest={artifact.digest}"):
        context.store.make(stage, context)
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    assert gc.main([f"digest={artifact.digest}", outputs]) == 0
    assert context.make(stage) == "abc"


def test_another_payload_under_the_same_digest_is_refused(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    stage = Write(text="abc", counter=tmp_path / "c")
    artifact, _ = context.store.make(stage, context)
    path = artifact.path / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["payload"]["text"] = "xyz"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="another artifact"):
        context.store.find(stage)


def test_a_folder_without_manifest_is_never_believed(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    stage = Write(text="good", counter=tmp_path / "c")
    folder = context.store.root / "toy" / fingerprint(stage)[0]
    folder.mkdir(parents=True)
    (folder / "text.txt").write_text("bad")
    assert context.make(stage) == "good"


def _make_slowly(root: Path) -> None:
    context = make_context(root)
    context.make(Write(text="slow", counter=root / "c", sleep_s=60))


def test_kill_leaves_an_orphan_that_gc_sweeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_make_slowly, args=(tmp_path,))
    process.start()
    context = make_context(tmp_path)
    deadline = time.monotonic() + 60
    while not list(context.store.root.glob("toy/.partial-*/text.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    assert gc.main([outputs]) == 0  # still being written: kept
    assert len(context.store.partials()) == 1
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert context.make(Write(text="slow", counter=tmp_path / "c")) == "slow"
    assert gc.main([outputs]) == 0
    assert context.store.partials() == []
    assert "removed 1 folders" in capsys.readouterr().out


def test_parallel_jobs_share_one_artifact(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    jobs = [spawn.Process(target=_make_shared, args=(tmp_path,)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert runs(tmp_path / "c") == 1


def _make_shared(root: Path) -> None:
    assert make_context(root).make(Write(text="s", counter=root / "c", sleep_s=0.5)) == "s"


@pytest.mark.parametrize("workers", [1, 2])
def test_make_all_keeps_order_and_makes_only_what_is_missing(tmp_path: Path, workers: int) -> None:
    context = make_context(tmp_path, workers)
    stages = [Write(text=letter, counter=tmp_path / "c") for letter in "abcd"]
    context.make(stages[2])
    assert context.make_all(stages, description="toys") == list("abcd")
    assert runs(tmp_path / "c") == 4


def test_an_error_in_a_worker_reaches_the_parent(tmp_path: Path) -> None:
    context = make_context(tmp_path, workers=2)
    stages = [Write(text=t, counter=tmp_path / "c", error=t == "b") for t in "ab"]
    with pytest.raises(StageError):
        context.make_all(stages, description="toys")


def test_an_unwritable_place_is_a_stage_error(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("a file where a folder should be")
    context = make_context(tmp_path)
    with pytest.raises(StageError, match=r"paths\.outputs="):
        context.make(Write(text="a", counter=tmp_path / "c"))


def test_a_full_disk_is_a_stage_error_and_leaves_nothing(tmp_path: Path) -> None:
    import resource

    context = make_context(tmp_path)
    stage = Write(text="x", repeat=200_000, counter=tmp_path / "c")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the disk that ends early
    try:
        with pytest.raises(StageError, match="free space"):
            context.make(stage)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert context.store.partials() == []
    assert len(context.make(stage)) == 200_000


@pytest.mark.parametrize("errno_", [None, errno.EXDEV, errno.ENOSYS])
def test_a_copy_is_nobodys_but_ours(
    errno_: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """np.save over a hard link would write into the artifact, and root may write anywhere."""
    if errno_ is not None:

        def refuse(*_: Any) -> int:
            raise OSError(errno_, "not between these two")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    source, target = tmp_path / "artifact.npy", tmp_path / "mine.npy"
    np.save(source, np.arange(100_000))
    source.chmod(0o444)
    copy_file(source, target)
    assert target.read_bytes() == source.read_bytes()
    np.save(target, np.zeros(3))
    assert np.load(source)[-1] == 99_999
    with target.open("r+b"):  # it may be written, whatever the artifact allows
        pass


def test_a_disk_that_is_full_is_no_reason_to_copy_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    (tmp_path / "a").write_text("a")
    with pytest.raises(OSError, match="No space"):
        copy_file(tmp_path / "a", tmp_path / "b")


def test_ls_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = make_context(tmp_path)
    artifact, _ = context.store.make(Write(text="abc", counter=tmp_path / "c"), context)
    outputs = f"paths.outputs={tmp_path / 'outputs'}"
    assert ls.main(["--json", outputs]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["kind"], row["digest"]) == ("toy", artifact.digest)
    assert (Path(row["path"]) / "text.txt").read_text() == "abc"
    assert verify.main([outputs]) == 0
    (artifact.path / "text.txt").write_text("abd")  # same size: only reading finds it
    assert verify.main([outputs]) == 1
    assert "DAMAGED toy/" in capsys.readouterr().out


def test_the_remedy_works_as_printed_and_takes_the_lists_along(tmp_path: Path) -> None:
    import shlex

    context = make_context(tmp_path / "with a space")
    outputs = context.store.root.parent
    part, _ = context.store.make(Write(text="abc", counter=tmp_path / "c"), context)
    other, _ = context.store.make(Write(text="other", counter=tmp_path / "c"), context)
    listing = outputs / "artifacts" / "toys" / "0123456789ab"
    listing.mkdir(parents=True)
    (listing / "shards.json").write_text(json.dumps({"kind": "toy", "digests": [part.digest]}))
    (part.path / "text.txt").write_text("ab")
    with pytest.raises(ArtifactError, match="and run again") as caught:
        context.store.find(Write(text="abc", counter=tmp_path / "c"))
    command = re.search(r"imagegram\.tools\.gc (.*) and run again", str(caught.value))
    assert command is not None
    words = shlex.split(command[1])
    assert gc.main([words[0], "--dry-run", *words[1:]]) == 0  # flags may stand anywhere
    assert part.path.exists()
    assert gc.main(words) == 0
    assert not part.path.exists()
    assert not listing.exists()
    assert other.path.exists()


@pytest.mark.parametrize("digest", ["..", "*", "toy/*", "../.."])
def test_gc_removes_no_pattern(tmp_path: Path, digest: str) -> None:
    context = make_context(tmp_path)
    artifact, _ = context.store.make(Write(text="abc", counter=tmp_path / "c"), context)
    with pytest.raises(ConfigError, match="no artifact"):
        gc.main([f"digest={digest}", f"paths.outputs={tmp_path / 'outputs'}"])
    assert artifact.path.exists()


def test_gc_unused_removes_nothing_beside_an_unreadable_summary(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    artifact, _ = context.store.make(Write(text="a", counter=tmp_path / "c"), context)
    run = tmp_path / "outputs" / "runs" / "one"
    run.mkdir(parents=True)
    for damaged in ("", "[]", "{}"):
        (run / "summary.json").write_text(damaged)
        with pytest.raises(ConfigError, match="to another place"):
            gc.main(["--unused", f"paths.outputs={tmp_path / 'outputs'}"])
    assert artifact.path.exists()


def test_verify_refuses_a_kind_that_is_not_there(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    context.make(Write(text="abc", counter=tmp_path / "c"))
    with pytest.raises(ConfigError, match="allowed: toy"):
        verify.main(["kind=tokens", f"paths.outputs={tmp_path / 'outputs'}"])


def test_gc_unused_keeps_what_runs_refer_to(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    used, _ = context.store.make(Write(text="a", counter=tmp_path / "c"), context)
    top, _ = context.store.make(Upper(source=used), context)
    unused, _ = context.store.make(Write(text="b", counter=tmp_path / "c"), context)
    run = tmp_path / "outputs" / "runs" / "one"
    run.mkdir(parents=True)
    (run / "summary.json").write_text(json.dumps({"stages": {"upper": {"digest": top.digest}}}))
    assert gc.main(["--unused", "--dry-run", f"paths.outputs={tmp_path / 'outputs'}"]) == 0
    assert unused.path.exists()
    assert gc.main(["--unused", f"paths.outputs={tmp_path / 'outputs'}"]) == 0
    assert not unused.path.exists()
    assert used.path.exists()
    assert top.path.exists()


def test_an_unreadable_file_of_the_corpus_is_not_blamed_on_the_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(tmp_path)
    refused = PermissionError(errno.EACCES, "Permission denied", "/photos/a.jpg")
    for error, advice in (
        (refused, "chmod -R u\\+rX /photos/a.jpg"),
        (OSError(errno.EMFILE, "Too many open files", "/photos/a.jpg"), "ulimit -n"),
    ):

        def run(*_: object, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(Write, "run", run)
        with pytest.raises(StageError, match=advice) as raised:
            context.make(Write(text="a", counter=tmp_path / "c"))
        assert "paths.outputs" not in str(raised.value)
        assert "space" not in str(raised.value)
