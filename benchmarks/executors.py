"""What an executor costs a job: jobs that do nothing, beside those of processes.

    python -m benchmarks.executors

Starting is not counted: a Ray cluster of this machine takes some seconds, once a run. Jobs of
SLURM's executor run as processes of submitit here, without SLURM and its queue.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import Flags, Row, compare, main, rate
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.progress import SilentProgress
from imagegram.executors.ray import RayExecutor, connect
from imagegram.executors.slurm import SlurmExecutor
from imagegram.store.stage import Executor

JOBS = 16


def nothing(number: int, progress: Any) -> int:
    """Return the number of the job."""
    return number


def rows(flags: Flags) -> Iterator[Row]:
    """Yield one row an executor."""
    connect("local")
    with tempfile.TemporaryDirectory() as folder:
        executors: dict[str, Executor] = {
            "Ray": RayExecutor(address="local"),
            "submitit": SlurmExecutor(folder=Path(folder), cluster="local", cpus_per_job=1),
        }
        processes = ProcessExecutor(workers=2)
        for name, executor in executors.items():
            turns = compare(
                lambda executor=executor: spend(executor),
                lambda: spend(processes),
                repeats=flags.repeats,
            )
            yield Row(
                what=f"{name}, {JOBS} jobs",
                ours=rate(JOBS, turns.seconds, "jobs/s"),
                peer=rate(JOBS, turns.peer_seconds, "jobs/s"),
                ratio=turns.ratio(),
                table="jobs that do nothing, beside those of two worker processes",
            )


def spend(executor: Executor) -> None:
    """Run the jobs."""
    assert list(executor.map(nothing, range(JOBS), SilentProgress())) == list(range(JOBS))


if __name__ == "__main__":
    main(rows, __doc__)
