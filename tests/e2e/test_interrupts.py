"""Ctrl-C and kill in every group of stages: closed, recorded, one sentence, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, clean_environment, read_summary
from tests.e2e.test_kill import HESITANT
from tests.wandb_files import read_live_run

WORDS = [
    *("debug=tiny", "planted=[]", "metric=[copying]", "runtime.workers=2", "index.shard_tokens=1"),
    "logger=wandb",
]
#: Marks the processes of a test: every process inherits the environment.
MARK = "IMAGEGRAM_TEST"


def start(outputs: Path, *, kind: str, **environment: str) -> subprocess.Popen[str]:
    """Start a run; return it while it writes an artifact of a kind."""
    before = set(outputs.glob(f"artifacts/{kind}/.partial-*"))
    process = subprocess.Popen(
        [sys.executable, "-c", HESITANT, kind, *WORDS, f"paths.outputs={outputs}"],
        cwd=REPOSITORY,
        env=clean_environment() | {MARK: str(outputs)} | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: set(outputs.glob(f"artifacts/{kind}/.partial-*")) - before, seconds=120)
    return process


def wait_until(what: Callable[[], object], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def processes(outputs: Path) -> list[int]:
    """The processes of a run that are still there; Linux only."""
    mark, found = f"{MARK}={outputs}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            state = path.with_name("stat").read_text().rpartition(")")[2].split()[0]
            if mark in path.read_bytes().split(b"\0") and state != "Z":
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile, or is not ours
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_every_group_of_stages_is_closed_and_goes_on(tmp_path: Path) -> None:
    """Each run is interrupted in a later group than the one before, whose work it finds."""
    done: set[str] = set()
    for kind, sent in (
        ("token_shard", signal.SIGTERM),
        ("index", signal.SIGINT),
        ("samples", signal.SIGHUP),
    ):
        process = start(tmp_path, kind=kind)
        os.killpg(process.pid, sent)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 128 + sent
        assert not processes(tmp_path)
        assert "Traceback" not in stderr
        last = stderr.strip().splitlines()[-1]
        assert last.startswith(f"imagegram: interrupted by {sent.name}; ")
        folder = max(tmp_path.glob("runs/*"))
        summary = read_summary(folder)
        assert summary["status"] == "interrupted"
        assert summary["error"] == f"interrupted by {sent.name}"
        assert read_live_run(folder)["config"]["seed"] == 0  # W&B's file is whole
        found = {name for name, record in summary["stages"].items() if record["hit"]}
        assert found == done
        done = set(summary["stages"])
    assert {"split", "tokenize", "index"} <= done


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_who_compiles_in_the_background_ends_with_the_run(tmp_path: Path, sent: int) -> None:
    empty = str(tmp_path / "kernels")
    process = start(tmp_path, kind="split", NUMBA_CACHE_DIR=empty)
    commands = [Path(f"/proc/{number}/cmdline").read_bytes() for number in processes(tmp_path)]
    assert sum(b"early_kernels" in command for command in commands) == 2
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.kill()
    _, stderr = process.communicate(timeout=60)
    assert stderr.count("in the background, by 2 processes, once for this machine") == 1
    assert "Traceback" not in stderr
    wait_until(lambda: not processes(tmp_path), seconds=5)
