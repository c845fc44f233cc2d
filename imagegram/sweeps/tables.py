"""``results.csv`` and ``results.parquet``: one row a job, the numbers of its ``summary.json``.

Columns: ``job``, ``status``, ``seed``, the axes, names of components that are no axes, then for
every score ``NAME.value``, ``.floor``, ``.ceiling``, ``.low``, ``.high``, ``.normalized`` and,
where a score has one, ``.recipe`` as JSON: numbers of different recipes are not comparable.
``scores.json`` beside them says what each score is. A ``results.csv`` can be read in the place of
the job folders that it was made of: all is there but the samples.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from imagegram.errors import ConfigError
from imagegram.metrics.shipped import recorded_infos
from imagegram.records import ScoreInfo
from imagegram.stages.evaluate import SCORES, Score
from imagegram.sweeps.axes import Axis, is_number, show
from imagegram.sweeps.jobs import PARTS, Job, Scalar
from imagegram.sweeps.recipes import recipe_of

CSV: Final = "results.csv"
PARQUET: Final = "results.parquet"
#: Written even where all jobs share them: tables of several sweeps can be read together.
_NAMES: Final = ("corpus.name", "tokenizer.name", "generator.name", "sampler.name")
Columns = dict[str, list[Scalar]]


def columns_of(jobs: Sequence[Job], axes: Sequence[Axis], scores: Sequence[str]) -> Columns:
    """Return the columns with one entry per job; None for missing entries."""
    columns: Columns = {
        "job": [job.name for job in jobs],
        "status": [job.status for job in jobs],
        "seed": [job.seed for job in jobs],
    }
    for key in dict.fromkeys([*(axis.key for axis in axes), *_NAMES]):
        columns[key] = [job.config.get(key) for job in jobs]
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
    folder: Path, jobs: Sequence[Job], axes: Sequence[Axis], infos: Mapping[str, ScoreInfo]
) -> None:
    """Write both files, with the same contents, and the descriptions of the scores."""
    columns = columns_of(jobs, axes, tuple(infos))
    stored = {name: dataclasses.asdict(info) for name, info in infos.items()}
    (folder / SCORES).write_text(json.dumps({"infos": stored}, indent=1) + "\n")
    with (folder / CSV).open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(
            ["" if value is None else _text(value) for value in row]
            for row in zip(*columns.values(), strict=True)
        )
    _write_parquet(folder / PARQUET, columns)


def read_results(path: Path) -> tuple[Job, ...]:
    """Read the jobs of a ``results.csv``.

    Raises:
        ConfigError: the file is not such a table.
    """
    try:
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        beside = path.with_name(SCORES)
        record = json.loads(beside.read_text()) if beside.is_file() else {}
        jobs = tuple(_job(path.absolute(), number, row, record) for number, row in enumerate(rows))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"sweep: {path} is no results.csv of a sweep ({error})") from error
    if not jobs or not any(job.scores for job in jobs):
        raise ConfigError(f"sweep: {path} holds no score; name the results.csv of a sweep")
    return jobs


def _job(path: Path, number: int, row: Mapping[str, str], record: Mapping[str, Any]) -> Job:
    config: dict[str, Scalar] = {}
    scores: dict[str, dict[str, float | None]] = {}
    recipes: dict[str, dict[str, str]] = {}
    for column, text in row.items():
        name, _, part = column.rpartition(".")
        if part == "recipe":
            recipes[name] = json.loads(text) if text else {}
        elif name and part in PARTS:
            scores.setdefault(name, {})[part] = float(text) if text else None
        elif column not in ("job", "status"):
            config[column] = _parse(text)
    return Job(
        folder=path / str(number),  # no folder, so no samples
        name=row.get("job", str(number)),
        status=row.get("status", "completed"),
        config={"seed": None} | config,
        scores={
            name: Score(**{part: parts.get(part) for part in PARTS})
            for name, parts in scores.items()
            if any(value is not None for value in parts.values())
        },
        recipes=recipes or None,
        infos=recorded_infos(record, scores),
    )


def _parse(text: str) -> Scalar:
    """Parse a value that :func:`show` wrote."""
    if text in ("", "true", "false"):
        return {"": None, "true": True, "false": False}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


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
    """Return a value as text, without losing a digit of a number."""
    return repr(value) if isinstance(value, float) else show(value)
