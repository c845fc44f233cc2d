"""Jobs as an array of SLURM, through submitit; its machines share the folders of the run.

    python -m imagegram.run executor=slurm executor.partition=cpu

A job is a shard. One that is preempted or dies is submitted again: it finds either all of its
artifact or nothing. What jobs print lies in ``executor.folder``, a folder for every array.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from imagegram.errors import ConfigError, StageError
from imagegram.executors.progress import SilentProgress
from imagegram.executors.remote import Job, Outcome, check_least
from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOOK_S: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class SlurmExecutor:
    """Runs jobs in SLURM, one array for the shards of a stage.

    Attributes:
        folder: scripts and outputs of the jobs, on all machines.
        cluster: None: SLURM; ``local``: processes of this machine.
        partition: of SLURM; None: its default.
        cpus_per_job: processors, and threads, of a job.
        mem_gb: gigabytes of memory of a job; None: SLURM's default.
        timeout_min: minutes that a job may take.
        jobs_at_once: number of jobs that may run at a time.
        retries: number of times that a job that died is submitted again.
        options: more parameters of submitit's executor.
        workers: threads that stages use in this process.
    """

    elsewhere: ClassVar[bool] = True

    folder: Path
    cluster: str | None = None
    partition: str | None = None
    cpus_per_job: int = 8
    mem_gb: float | None = None
    timeout_min: int = 240
    jobs_at_once: int = 256
    retries: int = 2
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1

    def __post_init__(self) -> None:
        counts = {"cpus_per_job": self.cpus_per_job, "timeout_min": self.timeout_min}
        check_least("slurm", 1, jobs_at_once=self.jobs_at_once, **counts)
        check_least("slurm", 0, retries=self.retries)
        if self.cluster not in (None, "local"):
            raise ConfigError(
                f"executor.cluster={self.cluster} of executor=slurm is null (SLURM) or local"
            )

    def threads(self, num_jobs: int, at_once: int | None) -> int:
        """Return the number of processors of each job."""
        return self.cpus_per_job

    def map(
        self,
        function: Callable[[Item, Progress], Result],
        items: Sequence[Item],
        progress: Progress,
        *,
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Yield results in the order of ``items``, ``at_once`` at a time where memory is limited.

        Raises:
            StageError: when a job died more often than it is submitted again.
        """
        if not items:
            return
        at_once = min(self.jobs_at_once, at_once or len(items))
        executor = self._open(at_once)
        folder = os.getcwd()  # noqa: PTH109 - a word, for another machine
        calls = [Job(function=function, item=item, folder=folder) for item in items]
        # SLURM holds back the rest of an array itself; processes of this machine all start at once.
        wave = at_once if self.cluster else len(calls)
        for first in range(0, len(calls), wave):
            yield from self._results(executor, calls[first : first + wave])

    def _results(self, executor: Any, calls: Sequence[Job[Item, Result]]) -> Iterator[Result]:
        jobs = executor.map_array(_attempt, calls)
        try:
            for number, call in enumerate(calls):
                yield self._outcome(executor, call, jobs, number).unwrap()
        except BaseException:
            for job in jobs:
                with suppress(Exception):
                    job.cancel(check=False)
            raise

    def _outcome(
        self, executor: Any, call: Job[Item, Result], jobs: list[Any], number: int
    ) -> Outcome[Result]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        for _ in range(self.retries + 1):
            while not jobs[number].done():
                time.sleep(_LOOK_S)
            try:
                outcome: Outcome[Result] = jobs[number].result()
                return outcome
            except FailedJobError as error:  # a defect of ours: its traceback comes as text
                raise RuntimeError(str(error)) from None
            except UncompletedJobError as error:
                reason = str(error).splitlines()[0]
                jobs[number] = executor.submit(_attempt, call)
        jobs[number].cancel(check=False)
        raise StageError(
            f"a job of SLURM died, and did so again in {self.retries} more attempts: {reason}; "
            f"what it printed is in {self.folder}; finished shards are kept; run again with more "
            "memory or time for each: executor.mem_gb=32 executor.timeout_min=600"
        )

    def _open(self, at_once: int) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise ConfigError(
                "executor=slurm needs submitit: pip install 'imagegram[submitit]'; or type "
                "executor=processes"
            ) from error
        folder = Path(self.folder) / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{os.getpid()}"
        try:
            executor = submitit.AutoExecutor(folder=folder, cluster=self.cluster or "slurm")
        except RuntimeError as error:
            raise ConfigError(
                f"executor=slurm: {str(error).splitlines()[0]}; this command must run where sbatch "
                "does; to try it on one machine: executor.cluster=local"
            ) from error
        executor.update_parameters(
            timeout_min=self.timeout_min, cpus_per_task=self.cpus_per_job, **self._more(at_once)
        )
        return executor

    def _more(self, at_once: int) -> dict[str, Any]:
        named = {"mem_gb": self.mem_gb, "slurm_partition": self.partition}
        more = {name: value for name, value in named.items() if value is not None}
        return more | {"slurm_array_parallelism": at_once} | dict(self.options)


def _attempt(job: Job[Item, Result]) -> Outcome[Result]:
    """Run a job in a process of SLURM; the command shows how many have ended."""
    return job.run(SilentProgress())
