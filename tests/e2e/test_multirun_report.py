"""A multirun ends with its report, also when a job failed; a single run knows nothing of it."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.conftest import read_summary

Command = Callable[..., subprocess.CompletedProcess[str]]
SCORES = ("largest_source_share", "kd_pixels")


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def words(outputs: Path, *more: str) -> list[str]:
    """The fewest stages that a report can be made of."""
    small = ["debug=tiny", "encoder=pixels", "planted=[]", "hydra/callbacks=sweep_report"]
    return [*small, f"paths.outputs={outputs}", *more]


def test_a_multirun_ends_with_its_report(
    command: Command, demo_outputs: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    grid = ["sampler.max_context=2,5", "seed=0,1", "metric=[copying,kernel]"]
    result = command(
        "imagegram.run", ["-m", *words(demo_outputs, *grid), f"hydra.sweep.dir={sweep}"]
    )
    assert result.returncode == 0, result.stderr
    assert f"report of the sweep: {sweep / 'report.html'}" in result.stderr.splitlines()
    assert "report" not in result.stdout
    html = (sweep / "report.html").read_text()
    assert "4 completed" in html
    assert html.count('<div class="plot large"') == 1
    rows = rows_of(sweep)
    assert [(row["sampler.max_context"], row["seed"]) for row in rows] == [
        ("2", "0"),
        ("2", "1"),
        ("5", "0"),
        ("5", "1"),
    ]
    for row in rows:
        summary = read_summary(sweep / row["job"])
        for score in SCORES:
            assert float(row[f"{score}.value"]) == summary["scores"][score]["value"]
    again = command("imagegram.tools.report", [f"sweep={sweep}", f"out={tmp_path / 'again'}"])
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "results.csv").read_text() == (sweep / "results.csv").read_text()


def test_a_multirun_with_a_failed_job_is_reported_and_fails(
    command: Command, demo_outputs: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    grid = ["num_samples=4,0", "metric=[copying]", f"hydra.sweep.dir={sweep}"]
    result = command("imagegram.run", ["-m", *words(demo_outputs, *grid)])
    assert result.returncode != 0
    assert [row["status"] for row in rows_of(sweep)] == ["completed", "failed"]
    assert "1 of 2 jobs did not finish (1 failed)" in (sweep / "report.html").read_text()


def test_a_single_run_writes_no_report_of_a_sweep(command: Command, demo_outputs: Path) -> None:
    result = command("imagegram.run", words(demo_outputs, "metric=[copying]"))
    assert result.returncode == 0, result.stderr
    assert "report of the sweep" not in result.stderr
    assert not list((demo_outputs / "runs").rglob("results.csv"))
