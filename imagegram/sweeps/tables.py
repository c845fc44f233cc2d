"""``results.csv`` and ``results.parquet``: one row a job, the numbers of its ``summary.json``.

Columns: ``job``, ``status``, ``seed``, the axes, then for every score ``NAME.value``, ``.floor``,
``.ceiling``, ``.low``, ``.high``, ``.normalized`` and, where a score has one, ``.recipe`` as JSON:
numbers of different recipes are not comparable.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imagegram.sweeps.axes import Axis, is_number, show
from imagegram.sweeps.jobs import PARTS, Job, Scalar
from imagegram.sweeps.recipes import recipe_of

CSV: Final = "results.csv"
PARQUET: Final = "results.parquet"
Columns = dict[str, list[Scalar]]


def columns_of(jobs: Sequence[Job], axes: Sequence[Axis], scores: Sequence[str]) -> Columns:
    """Column -> one entry a job; None where there is nothing."""
    columns: Columns = {
        "job": [job.name for job in jobs],
        "status": [job.status for job in jobs],
        "seed": [job.seed for job in jobs],
    }
    for axis in axes:
        columns[axis.key] = [job.config.get(axis.key) for job in jobs]
    for score in scores:
        for part in PARTS:
            columns[f"{score}.{part}"] = [
                getattr(job.scores[score], part) if score in job.scores else None for job in jobs
            ]
        recipes = [recipe_of(job, score, jobs) if score in job.scores else {} for job in jobs]
        if any(recipes):
            columns[f"{score}.recipe"] = [
                json.dumps(recipe, sort_keys=True) if recipe else None for recipe in recipes
            ]
    return columns


def write_tables(
    folder: Path, jobs: Sequence[Job], axes: Sequence[Axis], scores: Sequence[str]
) -> None:
    """Write both files; they hold the same."""
    columns = columns_of(jobs, axes, scores)
    with (folder / CSV).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(
            ["" if value is None else _text(value) for value in row]
            for row in zip(*columns.values(), strict=True)
        )
    _write_parquet(folder / PARQUET, columns)


def _write_parquet(path: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        part = name.rpartition(".")[2]
        if part in PARTS and name.count("."):
            arrays[name] = pa.array(values, pa.float64())
        elif all(value is None or is_number(value) for value in values):
            arrays[name] = pa.array(values)
        else:
            texts = [None if value is None else show(value) for value in values]
            arrays[name] = pa.array(texts, pa.string())
    pq.write_table(pa.table(arrays), path)


def _text(value: Scalar) -> str:
    """Without losing a digit of a number."""
    return repr(value) if isinstance(value, float) else show(value)
