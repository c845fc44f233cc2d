"""A pool of worker processes on this machine.

Workers are spawned, not forked: threads of loggers and progress bars do not survive a fork. Their
progress travels through a queue to the bars of the parent. How they end is in ``lifetime.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, TypeVar

from imagegram.errors import StageError
from imagegram.executors.lifetime import (
    STOPPED,
    UNGUARDED,
    UNGUARDED_WORDS,
    announced,
    begin_worker,
    ending_workers,
    signals_held,
)
from imagegram.executors.serial import SerialExecutor
from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class ProcessExecutor:
    """Runs jobs in ``workers`` processes; a single job, or a single worker, stays in this one."""

    elsewhere: ClassVar[bool] = False

    workers: int

    def threads(self, num_jobs: int, at_once: int | None) -> int:
        """Return the threads of each job: with fewer jobs than workers, the spare workers."""
        return max(1, self.workers // min(at_once or num_jobs, num_jobs))

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
            StageError: when a worker was killed (usually by the system, for memory).
        """
        processes = min(self.workers, len(items), at_once or len(items))
        if processes <= 1:
            yield from SerialExecutor(workers=self.workers).map(function, items, progress)
            return
        spawn = multiprocessing.get_context("spawn")
        receiver, sender = spawn.Pipe(duplex=False)
        by_kernel = threading.current_thread() is threading.main_thread()
        with signals_held():  # python's own helper process must not hear of a closed terminal
            pool = ProcessPoolExecutor(
                processes, spawn, initializer=_begin, initargs=(sender, os.getpid(), by_kernel)
            )
        workers: set[BaseProcess] = set()
        try:
            with _relayed(receiver, sender, progress), pool, ending_workers() as before:
                with announced(), signals_held():
                    futures = []
                    for job, item in enumerate(items):
                        futures.append(pool.submit(_run, function, item, PipeProgress(job=job)))
                        if job < processes:  # it started one more
                            workers |= set(multiprocessing.active_children()) - before
                try:
                    for future in futures:
                        yield future.result()
                except Exception:
                    for future in futures:
                        future.cancel()
                    raise
        except BrokenProcessPool as error:
            if any(worker.exitcode == UNGUARDED for worker in workers):
                raise StageError(UNGUARDED_WORDS) from error
            raise StageError(
                "a worker process was killed, most likely by the system for want of memory; "
                "run again with fewer workers: runtime.workers=1 (finished shards are kept)"
            ) from error


#: The pipe of a worker process to the bars of its parent.
_pipe: Any = None


def _begin(pipe: Any, parent: int, by_kernel: bool) -> None:
    """Prepare a worker process."""
    global _pipe
    _pipe = pipe
    try:
        begin_worker(parent, by_kernel)
    except SystemExit:  # asked to end while it was starting
        os._exit(STOPPED)


def _run(function: Callable[[Item, Progress], Result], item: Item, progress: Progress) -> Result:
    """Run a job in a worker; the worker ends when it was asked to, which a pool would prevent."""
    try:
        return function(item, progress)
    except SystemExit:
        os._exit(STOPPED)


class PipeProgress:
    """The Progress of a worker: sends every call to the parent's bars.

    All workers share one pipe without a lock, which a killed worker would keep: a message is far
    shorter than what a system writes in one piece (512 bytes at least).
    """

    def __init__(self, *, job: int) -> None:
        self._job = job
        self._tasks = count()

    def start(self, description: str, total: int, unit: str) -> int:
        """Open a bar in the parent."""
        task = next(self._tasks)
        _pipe.send(("start", (self._job, task), description, total, unit))
        return task

    def advance(self, task: int, steps: int = 1) -> None:
        """Move a bar in the parent."""
        _pipe.send(("advance", (self._job, task), steps))

    def finish(self, task: int) -> None:
        """Close a bar in the parent."""
        _pipe.send(("finish", (self._job, task)))


@contextmanager
def _relayed(receiver: Any, sender: Any, progress: Progress) -> Iterator[None]:
    """Replay the calls of all workers on the parent's bars, on a thread."""
    relay = threading.Thread(target=_relay, args=(receiver, progress), daemon=True)
    relay.start()
    try:
        yield
    finally:
        sender.send(None)
        relay.join()
        sender.close()
        receiver.close()


def _relay(receiver: Any, progress: Progress) -> None:
    """Replay calls until None arrives."""
    tasks: dict[tuple[int, int], int] = {}
    while (message := _received(receiver)) is not None:
        verb, key, *arguments = message
        if verb == "start":
            tasks[key] = progress.start(*arguments)
        elif verb == "advance":
            progress.advance(tasks[key], *arguments)
        else:
            progress.finish(tasks.pop(key))


def _received(receiver: Any) -> Any:
    """Receive the next call; None also when an interrupt closed the pipe before the last one."""
    try:
        return receiver.recv()
    except (EOFError, OSError):
        return None
