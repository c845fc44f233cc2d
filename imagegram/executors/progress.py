"""Progress bars with rates and ETA, on stderr so that stdout stays for scripts."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class SilentProgress:
    """Progress that prints nothing, for tests, notebooks and ``runtime.progress=false``."""

    def __enter__(self) -> Self:
        """Do nothing: there is no bar to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no bar to close."""

    def start(self, description: str, total: int, unit: str) -> int:
        """Ignore the bar."""
        return 0

    def advance(self, task: int, steps: int = 1) -> None:
        """Ignore the steps."""

    def finish(self, task: int) -> None:
        """Ignore the end."""


class _RateColumn(ProgressColumn):
    """A column with the units per second, named as the stage names its unit."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text(f"{speed:,.0f} {unit}/s" if speed else f"- {unit}/s", style="cyan")


class RichProgress:
    """Bars of one line per task: description, bar, count, rate, elapsed and remaining time.

    A long stage in a log file (no terminal) prints its bars once, when they end.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop drawing and restore the terminal."""
        self._bars.stop()

    def start(self, description: str, total: int, unit: str) -> int:
        """Open a bar."""
        return int(self._bars.add_task(description, total=total, unit=unit))

    def advance(self, task: int, steps: int = 1) -> None:
        """Move a bar."""
        self._bars.advance(task, steps)  # type: ignore[arg-type]

    def finish(self, task: int) -> None:
        """Close a bar; the line that the run prints after a stage has the totals."""
        self._bars.remove_task(task)  # type: ignore[arg-type]
