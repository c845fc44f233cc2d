"""RunContext: what stages may use besides their own fields (store, executor, progress)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from imagegram.protocols import Executor, Progress, Stage
from imagegram.store.artifacts import ArtifactStore

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The Context of a run; also the one to use in a notebook or a test.

    Attributes:
        store: where artifacts live.
        executor: runs the parts of a stage (shards).
        progress: where they report.
    """

    store: ArtifactStore
    executor: Executor
    progress: Progress

    @property
    def workers(self) -> int:
        """Processes or threads that may be spent."""
        return self.executor.workers

    def make(self, stage: Stage[T]) -> T:
        """The handle of ``stage``, made first when it is missing."""
        artifact, _ = self.store.make(stage, self)
        return stage.load(artifact)

    def make_all(self, stages: Sequence[Stage[T]], *, description: str) -> list[T]:
        """Handles of independent stages in their order; only the missing ones are made."""
        missing = [stage for stage in stages if self.store.find(stage) is None]
        if missing:
            task = self.progress.start(description, len(missing), "shards")
            # Fewer parts than workers: what is left over becomes threads within each part.
            threads = max(1, self.workers // len(missing))
            jobs = [PartJob(store=self.store, stage=stage, workers=threads) for stage in missing]
            for _ in self.executor.map(run_part, jobs, self.progress):
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
