"""SerialExecutor: runs one job after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class SerialExecutor:
    """An executor in this process; ``workers`` is the number of threads for compiled code."""

    elsewhere: ClassVar[bool] = False

    workers: int = 1

    def threads(self, num_jobs: int, at_once: int | None) -> int:
        """Return the threads of each job: those of this process, which runs one at a time."""
        return self.workers

    def map(
        self,
        function: Callable[[Item, Progress], Result],
        items: Sequence[Item],
        progress: Progress,
        *,
        at_once: int | None = None,
    ) -> Iterator[Result]:
        """Yield the results in the order of ``items``, made one at a time."""
        for item in items:
            yield function(item, progress)
