"""What jobs on other machines have in common: where they run, and what they may not assume.

A job is sent by value and returns by value; between processes of one user that is safe, and no
file of it is read again by a later run. Whatever a job makes, it writes into the store, in a folder
that all machines share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import imagegram
from imagegram.errors import ConfigError, ImagegramError, StageError
from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Result]):
    """The end of a job.

    Attributes:
        result: what its function returned; None after an error.
        error: an error of this package, which is passed on as it is; None: there was none.
    """

    result: Result | None = None
    error: ImagegramError | None = None

    def unwrap(self) -> Result:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Item, Result]):
    """One call, ready to be sent to another machine.

    Attributes:
        function, item: what is called with what, and with the progress of the machine.
        folder: working folder of the command, which relative paths begin at.
        version: of this package, where the command runs.
    """

    function: Callable[[Item, Progress], Result]
    item: Item
    folder: str
    version: str = imagegram.__version__

    def run(self, progress: Progress) -> Outcome[Result]:
        """Run the call in the folder of its command."""
        try:
            self._enter()
            return Outcome(result=self.function(self.item, progress))
        except ImagegramError as error:
            return Outcome(error=error)

    def _enter(self) -> None:
        if imagegram.__version__ != self.version:
            raise StageError(
                f"{os.uname().nodename} has imagegram {imagegram.__version__}, the command "
                f"{self.version}; install the same one on every machine"
            )
        if not Path(self.folder).is_dir():
            raise StageError(
                f"{os.uname().nodename} has no folder {self.folder}: all machines of a cluster "
                "must see the folders of the command under the same names"
            )
        os.chdir(self.folder)


def check_least(name: str, least: int, **counts: float) -> None:
    """Refuse counts below 0, or below 1, in the settings of an executor.

    Raises:
        ConfigError: for the first of them.
    """
    words = f"be at least {least}" if least else "not be negative"
    for field, value in counts.items():
        if value < least:
            raise ConfigError(f"executor.{field}={value} of executor={name} must {words}")


class Bars:
    """The bars of jobs that run elsewhere, some of them more than once.

    Args:
        progress: bars of the command.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._open: dict[int, dict[int, int]] = {}
        self._attempts: dict[int, str] = {}
        self._ended: set[int] = set()

    def replay(self, calls: list[tuple[Any, ...]]) -> None:
        """Repeat calls of :class:`CollectedProgress` on the bars of the command."""
        for job, attempt, verb, task, *arguments in calls:
            if job in self._ended:  # its result was faster than its last calls
                continue
            if self._attempts.setdefault(job, attempt) != attempt:  # it begins again
                self._close(job)
                self._attempts[job] = attempt
            bars = self._open.setdefault(job, {})
            if verb == "start":
                bars[task] = self._progress.start(*arguments)
            elif verb == "advance":
                self._progress.advance(bars[task], *arguments)
            else:
                self._progress.finish(bars.pop(task))

    def end(self, job: int) -> None:
        """Close the bars of a job that has ended."""
        self._ended.add(job)
        self._close(job)

    def _close(self, job: int) -> None:
        for task in self._open.pop(job, {}).values():
            self._progress.finish(task)


class CollectedProgress:
    """The Progress of a job on another machine: collects calls and sends them now and then.

    Args:
        job: number of the job.
        attempt: name of this attempt at it.
        send: called with a list of calls: job, attempt, verb, task and arguments.
        clock: returns seconds.
    """

    _EVERY_S = 0.5

    def __init__(
        self,
        *,
        job: int,
        attempt: str,
        send: Callable[[list[tuple[Any, ...]]], object],
        clock: Callable[[], float],
    ) -> None:
        self._who = (job, attempt)
        self._send = send
        self._clock = clock
        self._sent_s = clock()
        self._calls: list[tuple[Any, ...]] = []
        self._steps: dict[int, int] = {}
        self._num_tasks = 0

    def start(self, description: str, total: int, unit: str) -> int:
        """Open a bar at the command."""
        self._num_tasks += 1
        self._calls.append((*self._who, "start", self._num_tasks, description, total, unit))
        self._send_some()
        return self._num_tasks

    def advance(self, task: int, steps: int = 1) -> None:
        """Move a bar at the command."""
        self._steps[task] = self._steps.get(task, 0) + steps
        self._send_some()

    def finish(self, task: int) -> None:
        """Close a bar at the command."""
        self._collect()
        self._calls.append((*self._who, "finish", task))
        self._send_some()

    def flush(self) -> None:
        """Send what is left."""
        self._collect()
        if self._calls:
            self._send(self._calls)
        self._calls, self._sent_s = [], self._clock()

    def _collect(self) -> None:
        steps: Mapping[int, int] = self._steps
        self._calls += [(*self._who, "advance", task, many) for task, many in steps.items()]
        self._steps = {}

    def _send_some(self) -> None:
        if self._clock() - self._sent_s >= self._EVERY_S:
            self.flush()
