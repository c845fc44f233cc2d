"""Dashboards mirror the run: the offline W&B file is read back, record by record."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import read_summary

Command = Callable[..., subprocess.CompletedProcess[str]]
WANDB = ["debug=tiny", "logger=wandb", "metric=[copying,kernel]"]


def records(path: Path) -> Iterator[Any]:
    """Records of a ``.wandb`` file: LevelDB log framing around protobuf messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def read_run(folder: Path) -> dict[str, Any]:
    """Name, group, tags, config, logged numbers and media of one offline run."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    run: dict[str, Any] = {"config": {}, "history": {}, "media": []}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"name": record.run.display_name, "group": record.run.run_group}
            run["tags"] = list(record.run.tags)
            update(run["config"], record.run.config.update)
        elif kind == "config":
            update(run["config"], record.config.update)
        elif kind == "history":
            update(run["history"], record.history.item)
    run["media"] = sorted(file.name for file in path.parent.glob("files/media/images/**/*.png"))
    return run


def update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        key = item.key or "/".join(item.nested_key)
        target[key] = json.loads(item.value_json)


def test_wandb_offline_holds_the_run(command: Command, demo_outputs: Path) -> None:
    result = command("imagegram.run", [*WANDB, f"paths.outputs={demo_outputs}"])
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.splitlines()[-1])
    assert f"wandb sync {folder}/wandb/offline-run-" in result.stderr.replace("\n", "")
    run = read_run(folder)
    assert run["name"] == folder.name
    assert run["group"] == "runs"
    assert "tokenizer=pyramid2" in run["tags"]
    assert run["config"]["corpus.num_images"] > 50
    assert run["config"]["tokenizer.num_levels"] == 2
    assert run["config"]["sampler"]["name"] == "balanced"
    for name, score in read_summary(folder)["scores"].items():
        if score["value"] is not None:
            assert run["history"][f"eval/{name}"] == pytest.approx(score["value"])
    assert len(run["media"]) == 1 + 4


def test_one_wandb_run_a_job_grouped_by_sweep(command: Command, demo_outputs: Path) -> None:
    words = ["-m", *WANDB, f"paths.outputs={demo_outputs}", "seed=1,2"]
    result = command("imagegram.run", words)
    assert result.returncode == 0, result.stderr
    sweep = Path(result.stdout.splitlines()[-1]).parent
    runs = [read_run(folder.parent) for folder in sorted(sweep.glob("*/summary.json"))]
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
