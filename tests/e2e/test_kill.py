"""kill -9 in the middle of a stage, run again: the same digests and the same samples."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

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
SPATIAL = [
    *(word for word in WORDS if not word.startswith("sampler=")),
    "generator=spatial",
    "tokenizer.sizes=[2,4,8]",
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


def start(outputs: Path, words: list[str], *, hesitant: str = "") -> Started:
    program = ["-m", "imagegram.run"]
    words = [*words, f"paths.outputs={outputs}"]
    if hesitant:  # one worker: others would not hesitate
        program, words = ["-c", HESITANT, hesitant], [*words, "runtime.workers=1"]
    return shell().start([*program, *words], cwd=REPOSITORY, environment=clean_environment())


def finish(outputs: Path, words: list[str]) -> Path:
    process = start(outputs, words)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return Path(stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tmp_path_factory.mktemp("undisturbed"), WORDS)


def kill_while_writing(kind: str, outputs: Path, words: list[str]) -> bool:
    """Start a run and kill it while it writes an artifact; False when it was faster than we."""
    process = start(outputs, words, hesitant=kind)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(outputs.glob(f"artifacts/{kind}/.partial-*")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # worker processes too
    process.communicate()
    return bool(list(outputs.glob(f"artifacts/{kind}/.partial-*")))


def killed_and_resumed(kind: str, root: Path, words: list[str]) -> Path:
    """Kill a run while it writes an artifact, and run it again."""
    attempts = [root / str(number) for number in range(5)]
    outputs = next(path for path in attempts if kill_while_writing(kind, path, words))
    (killed,) = outputs.glob("runs/*/summary.json")
    assert read_summary(killed.parent)["status"] == "running"
    return finish(outputs, words)


def assert_same_results(resumed: Path, undisturbed: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Digests of all stages, scores and samples of two runs are equal; return their summaries."""
    ours, theirs = (read_summary(folder) for folder in (resumed, undisturbed))
    assert {name: record["digest"] for name, record in ours["stages"].items()} == {
        name: record["digest"] for name, record in theirs["stages"].items()
    }
    assert ours["scores"] == theirs["scores"]
    for name in ("tokens.npy", "images.npy"):
        np.testing.assert_array_equal(
            np.load(resumed / "samples" / name), np.load(undisturbed / "samples" / name)
        )
    return ours, theirs


@pytest.mark.parametrize("kind", ["token_shard", "selection_shard", "index_shard", "samples"])
def test_a_killed_run_continues_to_the_same_result(
    tmp_path: Path, undisturbed: Path, kind: str
) -> None:
    resumed = killed_and_resumed(kind, tmp_path, WORDS)
    ours, theirs = assert_same_results(resumed, undisturbed)
    index = Path(ours["stages"]["index"]["path"]).parents[1]
    other = Path(theirs["stages"]["index"]["path"]).parents[1]
    tables = sorted(path.relative_to(index) for path in index.glob("index_shard/[!.]*/table.0"))
    assert len(tables) == 2
    for table in tables:
        assert (index / table).read_bytes() == (other / table).read_bytes()


def test_a_killed_spatial_index_is_built_again(tmp_path: Path) -> None:
    resumed = killed_and_resumed("spatial_index", tmp_path, SPATIAL)
    ours, theirs = assert_same_results(resumed, finish(tmp_path / "undisturbed", SPATIAL))
    folders = [Path(summary["stages"]["fit"]["path"]) for summary in (ours, theirs)]
    names = [sorted(path.name for path in folder.glob("level*.npy")) for folder in folders]
    assert names[0] == names[1]
    assert len(names[0]) == 21
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
