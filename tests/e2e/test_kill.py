"""kill -9 in the middle of a stage, run again: the same digests and the same samples."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import REPOSITORY, clean_environment, read_summary
from tests.shell import Started, shell

WORDS = [
    "debug=tiny",
    "corpus.images_per_shard=400",
    "tokenizer=pyramid3",
    "sampler=infinigram",
    "num_samples=24",
    "metric=[copying]",
    "index.shard_tokens=1",  # an index shard a token shard
    "runtime.workers=2",
]


#: A run that waits before the manifest of an artifact of one kind: some are made in milliseconds.
HESITANT = """
import sys, time
from imagegram import run
from imagegram.store import artifacts

kind, list_files = sys.argv.pop(1), artifacts.list_files

def hesitate(folder):
    time.sleep(0.5 if folder.parent.name == kind else 0)
    return list_files(folder)

artifacts.list_files = hesitate
run.main()
"""


def start(outputs: Path, *, hesitant: str = "") -> Started:
    program = ["-m", "imagegram.run"]
    words = [*WORDS, f"paths.outputs={outputs}"]
    if hesitant:  # one worker: others would not hesitate
        program, words = ["-c", HESITANT, hesitant], [*words, "runtime.workers=1"]
    return shell().start([*program, *words], cwd=REPOSITORY, environment=clean_environment())


def finish(outputs: Path) -> Path:
    process = start(outputs)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return Path(stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("undisturbed"))


def kill_while_writing(kind: str, outputs: Path) -> bool:
    """Start a run and kill it while it writes an artifact; False when it was faster than we."""
    process = start(outputs, hesitant=kind)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(outputs.glob(f"artifacts/{kind}/.partial-*")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # worker processes too
    process.communicate()
    return bool(list(outputs.glob(f"artifacts/{kind}/.partial-*")))


@pytest.mark.parametrize("kind", ["token_shard", "selection_shard", "index_shard", "samples"])
def test_a_killed_run_continues_to_the_same_result(
    tmp_path: Path, undisturbed: Path, kind: str
) -> None:
    attempts = [tmp_path / str(number) for number in range(5)]
    outputs = next(path for path in attempts if kill_while_writing(kind, path))
    (killed,) = outputs.glob("runs/*/summary.json")
    assert read_summary(killed.parent)["status"] == "running"

    resumed = finish(outputs)
    ours, theirs = (read_summary(folder) for folder in (resumed, undisturbed))
    assert {name: record["digest"] for name, record in ours["stages"].items()} == {
        name: record["digest"] for name, record in theirs["stages"].items()
    }
    assert ours["scores"] == theirs["scores"]
    for name in ("tokens.npy", "images.npy"):
        np.testing.assert_array_equal(
            np.load(resumed / "samples" / name), np.load(undisturbed / "samples" / name)
        )
    index = Path(ours["stages"]["index"]["path"]).parents[1]
    other = Path(theirs["stages"]["index"]["path"]).parents[1]
    tables = sorted(path.relative_to(index) for path in index.glob("index_shard/[!.]*/table.0"))
    assert len(tables) == 2
    for table in tables:
        assert (index / table).read_bytes() == (other / table).read_bytes()
