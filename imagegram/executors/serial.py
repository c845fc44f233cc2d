"""SerialExecutor: runs one job after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from imagegram.store.stage import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class SerialExecutor:
    """An executor in this process; ``workers`` is the number of threads for compiled code."""

    workers: int = 1

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
