"""All benchmarks, each in a process of its own; writes ``benchmarks/results.md`` anew.

    make bench
    make bench ARGS="corpus=tiny_imagenet_20 paths.data=DATA"
    python -m benchmarks --only tokenizing --results elsewhere.md

Every module of this folder that has ``rows(flags)`` takes part. A process of its own makes memory
figures honest, and a benchmark that fails costs the others nothing: what failed is said in the
results and by the exit status.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.timing import Row, read_rows

_HERE: Final = Path(__file__).resolve().parent
_HEADINGS: Final = ("", "ours", "peer", "ratio: min / median / max", "notes")
_PACKAGES: Final = ("numpy", "numba", "torch", "pillow", "fast-gram", "pydivsufsort")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one benchmark went.

    Attributes:
        name: of its module.
        rows: that it measured.
        seconds: it took.
        error: the last line that it said; empty when it went well.
    """

    name: str
    rows: tuple[Row, ...]
    seconds: float
    error: str = ""


def modules() -> list[str]:
    """Names of the benchmarks: modules here that define ``rows``, in alphabetical order."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(_HERE)]))
    return [name for name in names if "\ndef rows(" in (_HERE / f"{name}.py").read_text()]


def run(name: str, words: Sequence[str]) -> Outcome:
    """Run one benchmark in a process of its own; its output passes through."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--rows", str(path), *words]
        process = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        rows = tuple(read_rows(path)) if path.exists() else ()
    error = ""
    if process.returncode:
        print(process.stderr, file=sys.stderr)
        said = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        error = said[-1]
    return Outcome(name=name, rows=rows, seconds=time.perf_counter() - started, error=error)


def machine() -> list[str]:
    """What the figures depend on, one fact a line."""
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    return [
        f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB; {platform.system()}",
        f"Python {platform.python_version()}, {', '.join(versions)}",
        f"commit {_commit()}",
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _commit() -> str:
    """The short hash, with a plus when files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(_HERE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def tables(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by their table, in the order in which the tables first appear."""
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.table, []).append(row)
    return grouped


def _used_columns(rows: Sequence[Row]) -> list[int]:
    """Columns in which some row of a table says something; the first one always."""
    filled = [[bool(cell) for cell in row.cells()] for row in rows]
    return [column for column in range(5) if not column or any(cells[column] for cells in filled)]


def markdown(outcomes: Sequence[Outcome], command: str) -> str:
    """The text of ``results.md``."""
    lines = ["# Results", "", f"`{command}`, {time.strftime('%Y-%m-%d')}.", ""]
    lines += [f"* {fact}" for fact in machine()]
    lines += ["", "Ratios are ours over the peer's in speed, taken turn by turn in one process."]
    for outcome in outcomes:
        title = outcome.name.capitalize()
        lines += ["", f"## {title}", "", f"`python -m benchmarks.{outcome.name}`, "]
        lines[-1] += f"{outcome.seconds:.0f} s."
        if outcome.error:
            lines += ["", f"**Failed:** {outcome.error}"]
        for heading, rows in tables(outcome.rows).items():
            lines += ["", f"### {heading}"] if heading else []
            columns = _used_columns(rows)
            lines += ["", _line(_HEADINGS[column] for column in columns)]
            lines.append("|---" * len(columns) + "|")
            for row in rows:
                cells = row.cells()
                lines.append(_line(cells[column] for column in columns))
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def show(outcome: Outcome, console: Console) -> None:
    """Print the tables of one benchmark."""
    for heading, rows in tables(outcome.rows).items():
        title = f"{outcome.name}: {heading}" if heading else outcome.name
        table = Table(title=title, title_justify="left")
        columns = _used_columns(rows)
        for column in columns:
            table.add_column(_HEADINGS[column])
        for row in rows:
            cells = row.cells()
            table.add_row(*(cells[column] for column in columns))
        console.print(table)


def main(words: list[str] | None = None) -> int:
    """Run, print, write; exit status 1 when a benchmark failed."""
    parser = argparse.ArgumentParser(
        "benchmarks",
        description="Time imagegram beside its peers; other words go to each of them.",
        allow_abbrev=False,
    )
    parser.add_argument("--only", action="append", choices=modules(), help="just this benchmark")
    parser.add_argument("--results", type=Path, default=_HERE / "results.md")
    flags, rest = parser.parse_known_args(words)
    console, outcomes = Console(), []
    for name in flags.only or modules():
        console.rule(name)
        outcomes.append(run(name, rest))
        show(outcomes[-1], console)
    command = " ".join(["python -m benchmarks", *rest])
    flags.results.write_text(markdown(outcomes, command))
    console.print(f"written: {flags.results}")
    return int(any(outcome.error for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
