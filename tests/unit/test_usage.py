"""What a manifest says of seconds and memory, and what a context says of bytes written."""

from __future__ import annotations

import mmap
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imagegram.executors.context import RunContext
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Artifact
from imagegram.store.parts import link_or_copy
from imagegram.store.usage import Usage, anonymous_bytes

MEGABYTE = 1 << 20
LARGE = 64 * MEGABYTE

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is read from /proc"
)


@needs_proc
def test_memory_that_is_freed_again_counts_and_maps_do_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(LARGE))
    with Usage() as mapped, (tmp_path / "file").open("rb") as stream:
        view = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
        assert sum(view[:: mmap.PAGESIZE]) == 0  # every page is resident now
        time.sleep(0.3)
        view.close()
    with Usage() as held:
        array = np.ones(LARGE, np.uint8)
        time.sleep(0.3)
        del array
    assert held.memory_bytes - mapped.memory_bytes > 0.9 * LARGE


@needs_proc
def test_processes_that_were_started_count(tmp_path: Path) -> None:
    code = f"import time; held = b'x' * {LARGE}; time.sleep(2)"
    with Usage() as usage, subprocess.Popen([sys.executable, "-c", code]) as process:
        while anonymous_bytes(process.pid) < LARGE:
            time.sleep(0.05)
        time.sleep(1.3)  # processes are looked for once a second
    assert usage.memory_bytes > LARGE + anonymous_bytes(1)


def test_seconds_of_the_clock_are_not_those_of_processors() -> None:
    with Usage() as usage:
        time.sleep(0.5)
    assert usage.seconds >= 0.5
    assert usage.cpu_s < 0.4
    started = time.process_time()
    with Usage() as usage:
        while time.process_time() - started < 0.2:
            pass
    assert usage.cpu_s >= 0.15


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert anonymous_bytes(2**22 + 1) == 0


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Writes a file, after linking that of another one into its folder."""

    kind: ClassVar[str] = "bytes"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    size: int
    beside: Any = None
    sleep_s: float = 0.0

    def run(self, out: Path, context: Any) -> dict[str, Any]:
        time.sleep(self.sleep_s)
        (out / "own").write_bytes(bytes(self.size))
        if self.beside is not None:
            other = context.make(self.beside)
            link_or_copy(other.path / "own", out / "linked")
        return {}

    def load(self, artifact: Artifact) -> Artifact:
        return artifact


def test_the_seconds_of_what_is_made_on_the_way_are_not_its_own(tmp_path: Path) -> None:
    context = RunContext(
        store=ArtifactStore(root=tmp_path), executor=SerialExecutor(), progress=SilentProgress()
    )
    deepest = Bytes(size=1, sleep_s=0.2)
    between = Bytes(size=2, sleep_s=0.1, beside=deepest)
    made = [context.make(Bytes(size=3, beside=between)), context.make(between)]
    for artifact, own_s, others_s in zip(made, (0.0, 0.1), (0.3, 0.2), strict=True):
        manifest = artifact.manifest
        assert manifest.own_s is not None
        assert manifest.duration_s - manifest.own_s >= others_s
        assert own_s <= manifest.own_s
    assert context.made.seconds >= made[0].manifest.duration_s
    assert context.made.seconds < 0.2 + made[0].manifest.duration_s


@pytest.mark.parametrize("workers", [1, 2])
def test_bytes_are_counted_once_wherever_they_were_written(tmp_path: Path, workers: int) -> None:
    context = RunContext(
        store=ArtifactStore(root=tmp_path),
        executor=ProcessExecutor(workers=workers),
        progress=SilentProgress(),
    )
    stages = [Bytes(size=100, beside=Bytes(size=1000)), Bytes(size=20_000)]
    context.make_all(stages, description="bytes")
    assert context.made.bytes == 100 + 20_000 + 1000
    context.make_all(stages, description="bytes")
    context.make(Bytes(size=1000))
    assert context.made.bytes == 100 + 20_000 + 1000
    artifact = context.make(stages[1])
    assert artifact.manifest.memory_bytes > 0 or not Path("/proc/self/statm").exists()
    assert artifact.manifest.cpu_s >= 0.0
