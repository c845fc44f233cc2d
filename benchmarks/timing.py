"""Timing ours beside theirs: turn by turn in one process, so that a busy machine slows both alike.

A benchmark is a module of this folder with ``rows(flags)``, which yields one :class:`Row` a line of
its tables. ``main(rows, __doc__)`` makes it a command; ``python -m benchmarks`` runs them all.

>>> compare(lambda: sum(range(9)), lambda: sum(range(9)), repeats=2).repeats
2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What ``rows`` of every benchmark is.
Rows = Callable[["Flags"], Iterator["Row"]]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What a person may say to every benchmark.

    Attributes:
        overrides: of the configuration, as ``imagegram.run`` takes them.
        repeats: turns of each comparison.
        images: how many images one turn makes or reads; None: as many as the benchmark likes.
    """

    overrides: tuple[str, ...] = ()
    repeats: int = 5
    images: int | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two ways of doing the same went, turn by turn.

    Attributes:
        ours, theirs: seconds of each turn.
    """

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def repeats(self) -> int:
        """Turns."""
        return len(self.ours)

    @property
    def seconds(self) -> float:
        """Ours, median."""
        return statistics.median(self.ours)

    @property
    def peer_seconds(self) -> float:
        """Theirs, median."""
        return statistics.median(self.theirs)

    def ratio(self, *, work: float = 1.0, peer_work: float = 1.0) -> tuple[float, float, float]:
        """Minimum, median and maximum over the turns of how many times faster ours is.

        Args:
            work, peer_work: what one turn does, where the two do not do equally much.
        """
        scale = work / peer_work
        ratios = [scale * b / a for a, b in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), statistics.median(ratios), max(ratios)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the results.

    Attributes:
        what: was measured, on what.
        ours: our figure with its unit (:func:`rate`).
        peer: the peer's figure with its unit; empty where there is none.
        ratio: minimum, median, maximum of ours over theirs.
        notes: conditions, or the command that repeats the line.
        table: heading of the table that the line belongs to.
    """

    what: str
    ours: str
    peer: str = ""
    ratio: tuple[float, float, float] | None = None
    notes: str = ""
    table: str = ""

    def cells(self) -> tuple[str, str, str, str, str]:
        """The line as text: what, ours, peer, ratio, notes."""
        ratio = "" if self.ratio is None else " / ".join(f"{value:.3g}" for value in self.ratio)
        return self.what, self.ours, self.peer, ratio, self.notes


def seconds(function: Callable[[], object], *, busy: bool = False) -> float:
    """How long one call takes; how long processors work on it where others keep them ``busy``."""
    now = time.process_time if busy else time.perf_counter
    started = now()
    function()
    return now() - started


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    repeats: int,
    busy: bool = False,
) -> Comparison:
    """Time two functions in turn.

    Both are called once before (kernels compile, files are read); every second turn begins with
    theirs, so that neither always finds what the other has left in the caches.

    Args:
        ours, theirs: do the same work.
        repeats: turns, at least 1.
        busy: count the time of processors, because other programs run beside.
    """
    ours()
    theirs()
    turns = []
    for turn in range(repeats):
        if turn % 2:
            late = seconds(theirs, busy=busy)
            turns.append((seconds(ours, busy=busy), late))
        else:
            turns.append((seconds(ours, busy=busy), seconds(theirs, busy=busy)))
    return Comparison(ours=tuple(a for a, _ in turns), theirs=tuple(b for _, b in turns))


def rate(count: float, duration: float, unit: str) -> str:
    """``count`` things in ``duration`` seconds, as text.

    >>> rate(120, 0.5, "images/s")
    '240 images/s'
    """
    value = count / duration
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def peak_memory() -> int:
    """Most bytes that this process has ever held in memory, mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss also remembers the parent that this process was forked from
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def own_memory() -> int:
    """Bytes that this process holds now apart from mapped files; 0 where the system cannot tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024 if "RssAnon" in lines else 0


def parse_flags(description: str, words: list[str] | None = None) -> tuple[Flags, Path | None]:
    """The flags of the command line, and the file that ``--rows`` names."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=Flags.repeats, help="turns a comparison")
    parser.add_argument("--images", type=int, help="that one turn makes or reads")
    parser.add_argument("--rows", type=Path, help="also write the lines here, as JSON")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    given = parser.parse_args(words)
    if given.repeats < 1:
        parser.error("--repeats must be at least 1")
    flags = Flags(
        overrides=tuple(given.overrides), repeats=given.repeats, images=given.images or None
    )
    return flags, given.rows


def main(rows: Rows, description: str, words: list[str] | None = None) -> int:
    """The command of one benchmark: measure, print, and write the lines where ``--rows`` says."""
    flags, path = parse_flags(description, words)
    measured = []
    for row in rows(flags):
        measured.append(row)
        print(" | ".join(cell for cell in row.cells() if cell), flush=True)
        if path is not None:
            write_rows(path, measured)  # at every line: a benchmark that fails later keeps them
    return 0


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Lines of results as JSON, one a line."""
    path.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """What :func:`write_rows` wrote."""

    def parse(line: str) -> Row:
        values: dict[str, Any] = json.loads(line)
        ratio = values.pop("ratio")
        return Row(**values, ratio=None if ratio is None else tuple(ratio))

    return [parse(line) for line in path.read_text().splitlines()]
