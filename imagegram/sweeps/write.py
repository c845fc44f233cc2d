"""Write all files of a sweep's report into one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from imagegram.sweeps.page import write_page
from imagegram.sweeps.sweep import read_sweep
from imagegram.sweeps.tables import write_tables


def write_report(paths: Sequence[Path], *, out: Path, x: str = "", y: str = "") -> Path:
    """Write a sweep's ``report.html``, ``results.csv``, ``results.parquet`` and ``scores.json``.

    Args:
        paths: folders of multiruns, single run folders, or results.csv files.
        out: where to write; made when it is not there.
        x: across the frontier; empty for the first copying score that is there.
        y: up the frontier; empty for the first quality score that is there.

    Returns:
        The path of ``report.html``.

    Raises:
        ConfigError: a folder without jobs, or a score that no job has.
    """
    sweep = read_sweep(paths, x=x, y=y)
    out.mkdir(parents=True, exist_ok=True)
    if not any(path.is_file() for path in paths):  # no table is made from a table
        write_tables(out, sweep.jobs, sweep.all_axes, sweep.infos)
    return write_page(out, sweep)
