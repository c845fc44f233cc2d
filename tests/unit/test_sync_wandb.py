"""A dashboard is built again from outputs/: all of it, once, and nothing that is unfinished."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from imagegram.errors import ConfigError
from imagegram.report.neighbours import Neighbour
from imagegram.report.pairs import Pair, write_pairs
from imagegram.tools import sync_wandb as tool
from tests.conftest import compose
from tests.wandb_files import read_offline_run

RECIPE = {"N": "4", "encoder": "pixels", "resize": "none px"}
SCORES = {
    "kd_pixels": {"value": 0.5, "floor": 0.1, "ceiling": None, "low": 0.4, "high": 0.6},
    "bits_per_token": {"value": 1.0, "floor": 4.0, "ceiling": 1.0, "low": None, "high": None},
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))


def stage(outputs: Path, kind: str, digest: str) -> dict[str, Any]:
    path = outputs / "artifacts" / kind / digest
    path.mkdir(parents=True, exist_ok=True)
    return {"hit": kind != "samples", "digest": digest, "duration_s": 2.0, "path": str(path)}


def make_run(outputs: Path, place: str, *, status: str = "completed", digest: str = "a1") -> Path:
    """A run folder as ``imagegram.run`` leaves it."""
    folder = outputs / place
    (folder / ".hydra").mkdir(parents=True)
    stages = {
        "tokenize": stage(outputs, "tokens", "f00"),
        "generate": stage(outputs, "samples", digest),
        "evaluate": stage(outputs, "evaluation", digest),
    }
    record = {"recipes": {"kd_pixels": RECIPE}, "intervals": {"bits_per_token": {"floor": [3, 5]}}}
    (Path(stages["evaluate"]["path"]) / "scores.json").write_text(json.dumps(record))
    summary = {"status": status, "seed": 7, "scores": SCORES, "stages": stages, "error": None}
    summary["config"] = {"corpus.num_images": 60}
    (folder / "summary.json").write_text(json.dumps(summary))
    config = compose("debug=tiny", "logger=wandb", "seed=7", f"paths.outputs={outputs}")
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    in_sweep = place.startswith("sweeps")
    hydra = {
        "mode": "MULTIRUN" if in_sweep else "RUN",
        "job": {"override_dirname": "seed=7" if in_sweep else ""},
        "sweep": {"dir": "${paths.outputs}/sweeps/${now:%Y}"},
        "runtime": {
            "choices": {"corpus": "demo", "tokenizer": "t" * 80, "sampler": "balanced"}
            | {"experiment": None}
        },
    }
    OmegaConf.save({"hydra": hydra}, folder / ".hydra" / "hydra.yaml")
    write_pictures(folder)
    return folder


def write_pictures(folder: Path) -> None:
    samples = folder / "samples"
    samples.mkdir()
    images = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    np.save(samples / "images.npy", images)
    np.save(samples / "tokens.npy", np.zeros((4, 192), np.uint16))
    near = Neighbour(document=3, image=images[0], rms=0.0, metadata={})
    far = Neighbour(document=5, image=images[1], rms=9.0, metadata={})
    pairs = (
        Pair(sample=2, exact=True, share=1.0, nearest=near, source=None),
        Pair(sample=0, exact=False, share=0.25, nearest=near, source=far),
    )
    (folder / "pairs").mkdir()
    write_pairs(folder / "pairs", pairs)


def sync(outputs: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert tool.main([*words, f"paths.outputs={outputs}"]) == 0
    return capsys.readouterr().out


def runs(outputs: Path) -> list[dict[str, Any]]:
    folders = (outputs / "wandb").glob("offline-run-*")
    return [read_offline_run(folder) for folder in folders]


def test_a_run_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "runs/monday")
    said = sync(tmp_path, capsys, "project=mine")
    assert "wrote 1 runs; 0 were there, 0 are unfinished" in said
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in said
    (run,) = runs(tmp_path)
    assert (run["name"], run["group"]) == ("monday", "runs")
    assert run["tags"] == ["corpus=demo", "tokenizer=" + "t" * 54, "sampler=balanced"]
    assert run["config"]["sampler"]["name"] == "balanced"
    assert run["config"]["seed"] == 7
    assert run["config"]["corpus.num_images"] == run["config"]["corpus_num_images"] == 60
    assert "logger" not in run["config"]
    numbers = {
        "eval/kd_pixels": 0.5,
        "eval/kd_pixels_floor": 0.1,
        "eval/kd_n4_pixels": 0.5,
        "eval/kid": 0.5,
        "eval/kid_lo": 0.4,
        "eval/heldout_bits_per_token": 4.0,
        "eval/heldout_bits_per_token_hi": 5,
        "tokenize/duration_s": 2.0,
        "generate/tokens_per_s": 4 * 192 / 2.0,
    }
    assert numbers.items() <= run["history"].items()
    assert numbers.items() <= run["summary"].items()  # the number itself, not {"last": number}
    assert run["globs"] == ["eval/*"]
    assert "eval/kd_pixels_ceiling" not in run["history"]


def test_pictures_are_lists_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "runs/monday")
    sync(tmp_path, capsys)
    (run,) = runs(tmp_path)
    keys = [key for key, _ in run["media"]]
    assert {key: keys.count(key) for key in keys} == {
        "generate/grid": 1,
        "generate/samples": 4,
        "copies/worst": 2,
    }
    captions = [caption for key, caption in run["media"] if key == "copies/worst"]
    assert captions == [
        "sample 2 (exact copy) | nearest: image 3, RMS 0.0 | 100% of its tokens from one image",
        "sample 0 | nearest: image 3, RMS 0.0 | source: image 5, RMS 9.0 | 25% of its tokens from "
        "one image",
    ]
    assert len(run["files"]) == 7


def test_jobs_of_a_sweep_are_grouped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "sweeps/tuesday/0_seed=7")
    make_run(tmp_path, "sweeps/tuesday/1_seed=7")
    sync(tmp_path, capsys)
    assert [(run["name"], run["group"]) for run in runs(tmp_path)] == [("seed=7", "tuesday")] * 2


def test_a_second_call_writes_only_what_is_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "runs/monday")
    sync(tmp_path, capsys)
    make_run(tmp_path, "runs/tuesday")
    assert "wrote 1 runs; 1 were there" in sync(tmp_path, capsys)
    assert "wrote 0 runs; 2 were there" in sync(tmp_path, capsys)
    assert {run["name"] for run in runs(tmp_path)} == {"monday", "tuesday"}


def test_the_id_follows_from_name_and_digests(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "runs/monday")
    make_run(tmp_path / "b", "runs/monday")
    make_run(tmp_path / "c", "runs/monday", digest="b2")
    make_run(tmp_path / "d", "runs/tuesday")
    (a,), (b,), (c,), (d,) = (tool.stored_runs(tmp_path / name) for name in "abcd")
    assert a.run_id == b.run_id  # the outputs folder was moved
    assert len({a.run_id, c.run_id, d.run_id}) == 3


def test_outputs_may_have_moved_and_the_cache_may_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "old", "runs/monday")
    shutil.move(tmp_path / "old", tmp_path / "new")
    sync(tmp_path / "new", capsys)
    (run,) = runs(tmp_path / "new")
    assert run["history"]["eval/kd_n4_pixels"] == 0.5
    shutil.rmtree(tmp_path / "new" / "artifacts")
    shutil.rmtree(tmp_path / "new" / "wandb")
    sync(tmp_path / "new", capsys)
    (run,) = runs(tmp_path / "new")
    assert run["history"]["eval/kd_pixels"] == 0.5
    assert "eval/kd_n4_pixels" not in run["history"]


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "runs/monday")
    said = sync(tmp_path, capsys, "--dry-run")
    assert "would write 1 runs" in said
    assert "runs/monday" in said
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize("status", ["running", "failed"])
def test_an_unfinished_run_is_told_and_left_out(
    status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "runs/monday")
    make_run(tmp_path, "runs/tuesday", status=status)
    said = sync(tmp_path, capsys)
    assert f"left out, {status}: runs/tuesday" in said
    assert "1 are unfinished" in said
    assert [run["name"] for run in runs(tmp_path)] == ["monday"]


def test_a_run_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, "runs/monday")
    (folder / "samples" / "images.npy").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"pickled|magic"):
        sync(tmp_path, capsys)
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == [".lock"]


def test_what_a_killed_call_left_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, "runs/monday")
    abandoned = tmp_path / "wandb" / ".partial-x" / "wandb" / "offline-run-1-ab"
    abandoned.mkdir(parents=True)
    (abandoned / "run-ab.wandb").touch()
    assert "wrote 1 runs; 0 were there" in sync(tmp_path, capsys)
    assert not (tmp_path / "wandb" / ".partial-x").exists()


def test_two_calls_at_a_time_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path, "runs/monday")
    (tmp_path / "wandb").mkdir()
    lock = FileLock(tmp_path / "wandb" / ".lock")
    with lock, pytest.raises(ConfigError, match="another sync_wandb is writing"):
        tool.main([f"paths.outputs={tmp_path}"])


def test_a_run_that_was_logged_live_is_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, "runs/monday")
    (folder / "wandb" / "offline-run-1-live").mkdir(parents=True)
    assert "1 runs also have a wandb/ of their own" in sync(tmp_path, capsys, "--dry-run")


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs in"):
        tool.main([f"paths.outputs={tmp_path}"])
