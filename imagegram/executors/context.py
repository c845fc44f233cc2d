"""RunContext: the store, executor and progress bars that stages use besides their own fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from imagegram.executors.budget import budget_bytes
from imagegram.executors.lifetime import refuse_in_import
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Executor, Made, Progress, Ready, Stage

T = TypeVar("T")
S = TypeVar("S", bound=Stage[Any])


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The Context of a run; also the one to use in a notebook or a test.

    Attributes:
        store: where artifacts live.
        executor: runs the parts of a stage (shards).
        progress: shows how far stages are.
        memory_gb: memory that stages may use, in units of 10**9 bytes; None: three quarters of
            what is available.
        curves: called with points of curves and their step; None: points are dropped.
        previews: called with what opens a component in training, and its step; None: nobody looks.
        made: counts what this context made, also by its executor.
    """

    store: ArtifactStore
    executor: Executor
    progress: Progress
    memory_gb: float | None = None
    curves: Callable[[Mapping[str, float], int], None] | None = None
    previews: Callable[[Callable[[], AbstractContextManager[Any]], int], None] | None = None
    made: Made = field(default_factory=Made)

    @property
    def workers(self) -> int:
        """Number of processes or threads that stages may use."""
        return self.executor.workers

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that stages may use, as of now."""
        return budget_bytes(self.memory_gb)

    @property
    def elsewhere(self) -> bool:
        """Whether parts of stages are made on other machines."""
        return self.executor.elsewhere

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Pass points of curves on to the loggers."""
        if self.curves is not None:
            self.curves(values, step)

    def show(self, opens: Callable[[], AbstractContextManager[Any]], *, step: int) -> None:
        """Pass a component in training on to the callbacks."""
        if self.previews is not None:
            self.previews(opens, step)

    def make(self, stage: Stage[T] | Ready[T]) -> T:
        """Return the handle of ``stage``, after making its artifact if that is missing."""
        if isinstance(stage, Ready):
            return stage.value
        refuse_in_import()
        artifact, _ = self.find_or_make(stage)
        return stage.load(artifact)

    def find_or_make(self, stage: Stage[Any]) -> tuple[Artifact, bool]:
        """Return the artifact of ``stage``, and whether it was found."""
        with self._timed():
            artifact, hit = self.store.make(stage, self)
        if not hit:
            self.made.add(artifact)
        return artifact, hit

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Count the seconds of a block once, whatever is counted inside it."""
        before, started = self.made.seconds, time.perf_counter()
        try:
            yield
        finally:
            self.made.seconds = before + time.perf_counter() - started

    def missing(self, stages: Sequence[S]) -> list[S]:
        """Return the stages that have no artifact yet."""
        return [stage for stage in stages if self.store.find(stage) is None]

    def make_all(
        self, stages: Sequence[Stage[T]], *, description: str, at_once: int | None = None
    ) -> list[T]:
        """Return the handles of independent stages, in order, after making the missing ones.

        Args:
            stages: the parts.
            description: text of the progress bar.
            at_once: make at most this many at a time, because memory is limited.
        """
        refuse_in_import()
        if missing := self.missing(stages):
            task = self.progress.start(description, len(missing), "shards")
            threads = self.executor.threads(len(missing), at_once)
            jobs = [PartJob(store=self.store, stage=stage, workers=threads) for stage in missing]
            with self._timed():
                for size in self.executor.map(run_part, jobs, self.progress, at_once=at_once):
                    self.made.bytes += size
                    self.progress.advance(task)
            self.progress.finish(task)
        return [self.make(stage) for stage in stages]


@dataclass(frozen=True, kw_only=True)
class PartJob:
    """One missing part, ready to be sent to a worker process.

    Attributes:
        store: where its artifact is written.
        stage: makes the artifact.
        workers: threads that the stage may use.
    """

    store: ArtifactStore
    stage: Stage[object]
    workers: int


def run_part(job: PartJob, progress: Progress) -> int:
    """Make one part; return the bytes written. The parent finds its artifact by identity."""
    from imagegram.executors.serial import SerialExecutor

    executor = SerialExecutor(workers=job.workers)
    context = RunContext(store=job.store, executor=executor, progress=progress)
    context.find_or_make(job.stage)
    return context.made.bytes
