"""Collect a sweep into ``experiments/<slug>/results.csv``, one row a job.

    python -m experiments.collect outputs/sweeps/TIME experiments/frontier
    python -m experiments.collect outputs/sweeps/TIME FOLDER --pictures 16  # samples.png

Columns: the axes that differ between the jobs, then value, floor, ceiling, low and high by score.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from imagegram import pictures


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` to ``{"a.b": 1}``."""
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def job_folders(sweep: Path) -> list[Path]:
    """Folders of the jobs, in their order."""
    folders = [path.parent for path in sweep.glob("*/summary.json")]
    return sorted(folders, key=lambda path: int(path.name.partition("_")[0]))


def read_jobs(sweep: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Configuration and summary of every finished job of a sweep."""
    jobs = []
    for folder in job_folders(sweep):
        summary = json.loads((folder / "summary.json").read_text())
        config = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
        if summary["status"] != "completed":
            sys.exit(f"{folder}: {summary['status']}; finish the sweep first")
        jobs.append((flatten(config), summary))
    return jobs


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="samples of each job")
    flags = parser.parse_args()
    jobs = read_jobs(flags.sweep)
    axes = [
        key
        for key in jobs[0][0]
        if len({str(config.get(key)) for config, _ in jobs}) > 1 and not key.startswith("hydra")
    ]
    scores = list(jobs[0][1]["scores"])
    parts = ("value", "floor", "ceiling", "low", "high")
    flags.folder.mkdir(parents=True, exist_ok=True)
    with (flags.folder / "results.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*axes, *(f"{name}.{part}" for name in scores for part in parts)])
        for config, summary in jobs:
            numbers = (summary["scores"][name][part] for name in scores for part in parts)
            row = ["" if n is None else f"{n:.6g}" for n in numbers]
            writer.writerow([*(config.get(key) for key in axes), *row])
    if flags.pictures:
        rows = [np.load(job / "samples" / "images.npy") for job in job_folders(flags.sweep)]
        shown = np.concatenate([row[: flags.pictures] for row in rows])
        pictures.save_png(
            flags.folder / "samples.png", pictures.grid(shown, columns=flags.pictures)
        )


if __name__ == "__main__":
    main()
