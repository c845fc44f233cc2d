"""Two runs into one place, as typed: the second says so, and nothing of the first is touched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imagegram.tools import verify
from tests.conftest import read_summary

Command = Callable[..., subprocess.CompletedProcess[str]]
RunHere = Callable[..., Path]
TINY = ["debug=tiny", "encoder=pixels", "planted=[]", "metric=[copying]"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_used_run_folder_is_refused(command: Command, demo_outputs: Path, tmp_path: Path) -> None:
    words = [*TINY, f"paths.outputs={demo_outputs}", f"hydra.run.dir={tmp_path / 'mine'}"]
    first = command("imagegram.run", words)
    assert first.returncode == 0, first.stderr
    before = contents(tmp_path / "mine")
    second = command("imagegram.run", [*words, "seed=5"])
    assert second.returncode == 1
    (line,) = second.stderr.split("\n\n")[-1].strip().splitlines()
    assert "holds another run (completed)" in line
    assert "leave out hydra.run.dir=" in line
    assert contents(tmp_path / "mine") == before


def test_a_second_multirun_reports_no_job_of_the_first(
    command: Command, demo_outputs: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    words = ["--multirun", *TINY, f"paths.outputs={demo_outputs}", f"hydra.sweep.dir={sweep}"]
    first = command("imagegram.run", [*words, "seed=1,2"])
    assert first.returncode == 0, first.stderr
    before = contents(sweep)
    second = command("imagegram.run", [*words, "sampler.temperature=hot,1"])
    assert second.returncode == 1
    assert "holds another sweep (2 jobs)" in second.stderr
    assert "Traceback" not in second.stderr
    assert "report of the sweep" not in second.stderr
    assert contents(sweep) == before


def test_a_multirun_where_nothing_can_be_written_says_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["--multirun", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'file' / 'sweep'}"]
    result = command("imagegram.run", [*words, f"paths.outputs={tmp_path}"])
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Not a directory; give another folder: hydra.sweep.dir=FOLDER" in result.stderr


def test_what_is_written_into_a_run_folder_changes_no_later_result(
    run_here: RunHere, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    first = run_here("metric=[copying]", "planted=[]", outputs=outputs)
    for path in [*first.rglob("*.npy"), first / "scores.json"]:
        with path.open("r+b") as stream:  # as np.save and np.memmap do, without a new file
            stream.write(b"\0" * 64)
    second = run_here("metric=[copying,order]", "planted=[]", outputs=outputs)
    third = run_here("metric=[copying]", "planted=[]", outputs=outputs)
    assert verify.main([f"paths.outputs={outputs}"]) == 0
    scores = [read_summary(folder)["scores"] for folder in (first, second, third)]
    assert scores[2] == scores[0]
    assert scores[1].items() >= scores[0].items()
    assert np.load(third / "samples" / "tokens.npy").shape == (4, 960)
