"""Jobs on other machines: their bars, their errors, and SLURM's on this machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagegram.errors import ConfigError, StageError
from imagegram.executors.progress import SilentProgress
from imagegram.executors.ray import RayExecutor
from imagegram.executors.remote import Bars, CollectedProgress, Job
from imagegram.executors.slurm import SlurmExecutor
from tests.jobs import die_once, double


class Written(SilentProgress):
    """Bars that write down every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, description: str, total: int, unit: str) -> int:
        self.calls.append(("start", description, total, unit))
        return len(self.calls)

    def advance(self, task: int, steps: int = 1) -> None:
        self.calls.append(("advance", task, steps))

    def finish(self, task: int) -> None:
        self.calls.append(("finish", task))


def test_steps_are_collected_and_sent_now_and_then() -> None:
    sent: list[list[Any]] = []
    now = [0.0]
    progress = CollectedProgress(job=3, attempt="a", send=sent.append, clock=lambda: now[0])
    task = progress.start("sort", 10, "suffixes")
    for _ in range(4):
        progress.advance(task)
    assert sent == []
    now[0] = 1.0
    progress.advance(task, 5)
    progress.advance(task)
    progress.finish(task)
    progress.flush()
    written = Written()
    bars = Bars(written)
    for calls in sent:
        bars.replay(calls)
    assert len(sent) == 2
    steps = [call[2] for call in written.calls if call[0] == "advance"]
    assert written.calls[0] == ("start", "sort", 10, "suffixes")
    assert (sum(steps), len(steps), written.calls[-1]) == (10, 2, ("finish", 1))


def test_a_second_attempt_closes_the_bars_of_the_first() -> None:
    written = Written()
    bars = Bars(written)
    bars.replay([(0, "first", "start", 1, "x", 9, "y"), (0, "first", "advance", 1, 4)])
    bars.replay([(0, "second", "start", 1, "x", 9, "y")])
    bars.end(0)
    bars.replay([(0, "second", "advance", 1, 2), (0, "second", "finish", 1)])  # too late
    start = ("start", "x", 9, "y")
    assert written.calls == [start, ("advance", 1, 4), ("finish", 1), start, ("finish", 4)]


def test_a_job_says_what_its_machine_lacks(tmp_path: Path) -> None:
    job = Job(function=double, item=4, folder=str(tmp_path))
    here = Path.cwd()
    try:
        assert job.run(SilentProgress()).unwrap() == 8
        assert Path.cwd() == tmp_path
    finally:
        os.chdir(here)
    with pytest.raises(StageError, match="-1 is negative"):
        replace(job, item=-1, folder=str(here)).run(SilentProgress()).unwrap()
    with pytest.raises(StageError, match=r"has no folder .*nowhere: all machines"):
        replace(job, folder=str(tmp_path / "nowhere")).run(SilentProgress()).unwrap()
    with pytest.raises(StageError, match=r"the command 0\.0\.1; install the same"):
        replace(job, version="0.0.1").run(SilentProgress()).unwrap()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cpus_per_job": 0}, r"executor\.cpus_per_job=0 .* at least 1"),
        ({"retries": -1}, r"executor\.retries=-1 .* must not be negative"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        RayExecutor(**settings)
    with pytest.raises(ConfigError, match=says):
        SlurmExecutor(folder=tmp_path, **settings)
    with pytest.raises(ConfigError, match=r"null .SLURM. or local"):
        SlurmExecutor(folder=tmp_path, cluster="pbs")


def test_without_slurm_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must run where sbatch does.*executor\.cluster=local"):
        list(SlurmExecutor(folder=tmp_path).map(double, [1], SilentProgress()))


def test_jobs_of_submitit_come_in_order_and_are_tried_again(tmp_path: Path) -> None:
    executor = SlurmExecutor(folder=tmp_path / "jobs", cluster="local", cpus_per_job=1)
    results = executor.map(double, [3, 1, -1], SilentProgress(), at_once=2)
    assert [next(results), next(results)] == [6, 2]
    with pytest.raises(StageError, match="-1 is negative"):
        next(results)
    assert list(executor.map(die_once, [tmp_path / "mark"], SilentProgress())) == [1]
    never = replace(executor, retries=0)
    with pytest.raises(StageError, match=r"a job of SLURM died.*executor\.mem_gb=32"):
        list(never.map(die_once, [tmp_path / "other"], SilentProgress()))
