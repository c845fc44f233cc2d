"""A pool of worker processes on this machine.

Workers are spawned, not forked: threads of loggers and progress bars do not survive a fork. Their
progress travels through a queue to the bars of the parent.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from imagegram.errors import StageError
from imagegram.executors.serial import SerialExecutor
from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ProcessExecutor:
    """Runs jobs in ``workers`` processes; a single job, or a single worker, stays in this one."""

    workers: int

    def map(
        self,
        function: Callable[[Item, Progress], Result],
        items: Sequence[Item],
        progress: Progress,
        *,
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Yield results in the order of ``items``, ``at_once`` at a time; an error ends the rest.

        Raises:
            StageError: when the system killed a worker (usually for memory).
        """
        processes = min(self.workers, len(items), at_once or len(items))
        if processes <= 1:
            yield from SerialExecutor(workers=self.workers).map(function, items, progress)
            return
        spawn = multiprocessing.get_context("spawn")
        with (
            spawn.Manager() as manager,
            ProcessPoolExecutor(processes, mp_context=spawn) as pool,
        ):
            queue = manager.Queue()
            relay = threading.Thread(target=_relay, args=(queue, progress), daemon=True)
            relay.start()
            futures = [
                pool.submit(function, item, QueueProgress(queue=queue, job=job))
                for job, item in enumerate(items)
            ]
            try:
                for future in futures:
                    yield future.result()
            except BrokenProcessPool as error:
                raise StageError(
                    "a worker process was killed by the system, most likely for want of memory; "
                    "run again with fewer workers: runtime.workers=1 (finished shards are kept)"
                ) from error
            finally:
                for future in futures:
                    future.cancel()
                queue.put(None)
                relay.join()


class QueueProgress:
    """The Progress of a worker: sends every call to the parent's bars."""

    def __init__(self, *, queue: Any, job: int) -> None:
        self._queue = queue
        self._job = job
        self._tasks = count()

    def start(self, description: str, total: int, unit: str) -> int:
        """Open a bar in the parent."""
        task = next(self._tasks)
        self._queue.put(("start", (self._job, task), description, total, unit))
        return task

    def advance(self, task: int, steps: int = 1) -> None:
        """Move a bar in the parent."""
        self._queue.put(("advance", (self._job, task), steps))

    def finish(self, task: int) -> None:
        """Close a bar in the parent."""
        self._queue.put(("finish", (self._job, task)))


def _relay(queue: Any, progress: Progress) -> None:
    """Replay the calls of all workers on the parent's bars until None arrives."""
    tasks: dict[tuple[int, int], int] = {}
    while (message := queue.get()) is not None:
        verb, key, *arguments = message
        if verb == "start":
            tasks[key] = progress.start(*arguments)
        elif verb == "advance":
            progress.advance(tasks[key], *arguments)
        else:
            progress.finish(tasks.pop(key))
