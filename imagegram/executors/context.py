"""RunContext: what stages may use besides their own fields (store, executor, progress)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from imagegram.executors.budget import budget_bytes
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.stage import Executor, Progress, Ready, Stage

T = TypeVar("T")
S = TypeVar("S", bound=Stage[Any])


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The Context of a run; also the one to use in a notebook or a test.

    Attributes:
        store: where artifacts live.
        executor: runs the parts of a stage (shards).
        progress: where they report.
        memory_gb: how much may be spent, in units of 10**9 bytes; None: three quarters of what is
            available.
        curves: told the points of curves and their step; None: nobody is.
    """

    store: ArtifactStore
    executor: Executor
    progress: Progress
    memory_gb: float | None = None
    curves: Callable[[Mapping[str, float], int], None] | None = None

    @property
    def workers(self) -> int:
        """Processes or threads that may be spent."""
        return self.executor.workers

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that may be spent, now."""
        return budget_bytes(self.memory_gb)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Points of curves, for the loggers."""
        if self.curves is not None:
            self.curves(values, step)

    def make(self, stage: Stage[T] | Ready[T]) -> T:
        """The handle of ``stage``, made first when it is missing."""
        if isinstance(stage, Ready):
            return stage.value
        artifact, _ = self.store.make(stage, self)
        return stage.load(artifact)

    def missing(self, stages: Sequence[S]) -> list[S]:
        """Those that no artifact is there for."""
        return [stage for stage in stages if self.store.find(stage) is None]

    def make_all(
        self, stages: Sequence[Stage[T]], *, description: str, at_once: int | None = None
    ) -> list[T]:
        """Handles of independent stages in their order; only the missing ones are made.

        Args:
            stages: the parts.
            description: for a bar.
            at_once: make at most so many at a time, for want of memory.
        """
        if missing := self.missing(stages):
            task = self.progress.start(description, len(missing), "shards")
            # Fewer parts than workers: what is left over becomes threads within each part.
            limit = len(missing) if at_once is None else min(at_once, len(missing))
            threads = max(1, self.workers // limit)
            jobs = [PartJob(store=self.store, stage=stage, workers=threads) for stage in missing]
            for _ in self.executor.map(run_part, jobs, self.progress, at_once=at_once):
                self.progress.advance(task)
            self.progress.finish(task)
        return [self.make(stage) for stage in stages]


@dataclass(frozen=True, kw_only=True)
class PartJob:
    """One missing part, ready to travel to a worker process.

    Attributes:
        store: where its artifact goes.
        stage: makes it.
        workers: threads that it may spend.
    """

    store: ArtifactStore
    stage: Stage[object]
    workers: int


def run_part(job: PartJob, progress: Progress) -> None:
    """Make one part; the parent finds the artifact by its identity."""
    from imagegram.executors.serial import SerialExecutor

    executor = SerialExecutor(workers=job.workers)
    context = RunContext(store=job.store, executor=executor, progress=progress)
    job.store.make(job.stage, context)
