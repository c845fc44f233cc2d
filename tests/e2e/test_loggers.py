"""Dashboards mirror the run: the offline W&B file is read back, record by record."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import read_summary
from tests.wandb_files import read_live_run

Command = Callable[..., subprocess.CompletedProcess[str]]
WANDB = ["debug=tiny", "logger=wandb", "metric=[copying,kernel]"]


def test_wandb_offline_holds_the_run(command: Command, demo_outputs: Path) -> None:
    result = command("imagegram.run", [*WANDB, f"paths.outputs={demo_outputs}"])
    assert result.returncode == 0, result.stderr
    assert "goes on without it" not in result.stderr
    folder = Path(result.stdout.splitlines()[-1])
    assert f"wandb sync {folder}/wandb/offline-run-" in result.stderr.replace("\n", "")
    run = read_live_run(folder)
    assert run["name"] == folder.name
    assert run["group"] == "runs"
    assert "tokenizer=pyramid2" in run["tags"]
    assert run["config"]["corpus.num_images"] > 50
    assert run["config"]["tokenizer.num_levels"] == 2
    assert run["config"]["sampler"]["name"] == "balanced"
    scores = read_summary(folder)["scores"]
    for name, score in scores.items():
        if score["value"] is not None:
            assert run["history"][f"eval/{name}"] == pytest.approx(score["value"])
    distance = scores["kd_efficientnet_lite0"]["value"]
    assert run["summary"]["eval/kid"] == pytest.approx(distance)
    assert run["summary"]["eval/kd_n4_efficientnet_lite0_r64"] == pytest.approx(distance)
    keys = [key for key, _ in run["media"]]
    assert {key: keys.count(key) for key in keys} == {
        "generate/grid": 1,
        "generate/samples": 4,
        "copies/worst": 4,
    }


def test_one_wandb_run_a_job_grouped_by_sweep(command: Command, demo_outputs: Path) -> None:
    words = ["-m", *WANDB, f"paths.outputs={demo_outputs}", "seed=1,2"]
    result = command("imagegram.run", words)
    assert result.returncode == 0, result.stderr
    sweep = Path(result.stdout.splitlines()[-1]).parent
    runs = [read_live_run(path.parent) for path in sorted(sweep.glob("*/summary.json"))]
    assert len(runs) == 2
    assert {run["group"] for run in runs} == {sweep.name}
    assert [run["config"]["seed"] for run in runs] == [1, 2]
    assert all("seed=" in run["name"] for run in runs)


def test_csv_and_tensorboard(command: Command, demo_outputs: Path) -> None:
    words = ["debug=tiny", "logger=[csv,tensorboard]", "metric=[copying]"]
    result = command("imagegram.run", [*words, f"paths.outputs={demo_outputs}"])
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.splitlines()[-1])
    assert "eval/exact_copy_rate" in (folder / "csv" / "metrics.csv").read_text()
    assert list((folder / "tensorboard").glob("events.out.*"))
