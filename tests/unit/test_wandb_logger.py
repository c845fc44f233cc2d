"""What W&B is told, and when it goes online; every run of these tests is offline."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from hydra.types import RunMode
from omegaconf import OmegaConf

from imagegram.callbacks.worst_copies import WorstCopies, strip
from imagegram.loggers.names import run_names, running_names
from imagegram.loggers.wandb import WandbLogger, has_key
from imagegram.report.neighbours import Neighbour
from imagegram.report.pairs import Pair
from tests.wandb_files import read_live_run


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "MODE", "BASE_URL", "RUN_ID", "SWEEP_ID", "SWEEP_PARAM_PATH"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.parametrize(
    ("netrc", "variables", "online"),
    [
        (None, {}, False),
        (None, {"WANDB_API_KEY": "k"}, True),
        (None, {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, False),
        ("machine api.wandb.ai login user password k", {}, True),
        ("machine api.wandb.ai login user password k", {"WANDB_MODE": "disabled"}, False),
        ("machine example.org login user password k", {}, False),
        (
            "machine example.org login user password k",
            {"WANDB_BASE_URL": "https://example.org"},
            True,
        ),
        ("machine", {}, False),
    ],
)
def test_when_wandb_goes_online(
    netrc: str | None,
    variables: dict[str, str],
    online: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if netrc is not None:
        (tmp_path / "netrc").write_text(netrc + "\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert has_key() == online


def test_numbers_and_configuration_have_names_that_panels_find(tmp_path: Path) -> None:
    node = {"project": "p", "save_dir": str(tmp_path), "id": "fixed"}
    logger = WandbLogger(node, name="n", group="g", tags=["a=b"])
    logger.log_hyperparams({"corpus": {"name": "demo"}, "seed": 1})
    logger.log_hyperparams({"corpus.num_images": 60})
    logger.log_metrics({"eval/kid": 1.5})
    logger.log_metrics({"eval/kid": 2.5})
    assert "wandb sync" in str(logger.finalize("success"))
    wandb.teardown()  # waits until everything is on disk
    run = read_live_run(tmp_path)
    assert (run["id"], run["name"], run["group"], run["tags"]) == ("fixed", "n", "g", ["a=b"])
    assert run["config"]["corpus"] == {"name": "demo"}
    assert run["config"]["corpus.num_images"] == run["config"]["corpus_num_images"] == 60
    assert run["summary"]["eval/kid"] == 2.5
    assert run["globs"] == ["eval/*"]


def hydra_node(mode: Any, *, experiment: str | None = None, words: str = "") -> Any:
    choices = {"corpus": "demo", "tokenizer": "pyramid2", "sampler": "greedy"}
    return OmegaConf.create(
        {
            "mode": mode,
            "job": {"override_dirname": words},
            "runtime": {"choices": {**choices, "experiment": experiment}},
        }
    )


@pytest.mark.parametrize("multirun", [RunMode.MULTIRUN, "MULTIRUN"])
def test_names_of_a_job_and_of_a_run(multirun: Any) -> None:
    job, run = Path("outputs/sweeps/monday/0_seed=1"), Path("outputs/runs/monday")
    named = run_names(job, hydra_node(multirun, words="seed=1"))
    assert (named["name"], named["group"]) == ("seed=1", "monday")
    assert named["tags"] == ["corpus=demo", "tokenizer=pyramid2", "sampler=greedy"]
    named = run_names(job, hydra_node(multirun, experiment="frontier", words="w" * 200))
    assert (named["name"], named["group"]) == ("w" * 128, "frontier")
    named = run_names(job, hydra_node(multirun))
    assert named["name"] == job.name
    named = run_names(run, hydra_node("RUN", words="never shown"))
    assert (named["name"], named["group"]) == ("monday", "runs")
    assert running_names(run) == {"name": "monday", "group": "notebook", "tags": []}


def test_a_run_without_pairs_shows_none(tmp_path: Path) -> None:
    mirror = SimpleNamespace(images=lambda *_: pytest.fail("nothing to show"))
    WorstCopies().on_run_end(SimpleNamespace(folder=tmp_path, mirror=mirror))


def test_a_strip_has_three_places_whatever_is_in_them() -> None:
    images = np.stack([np.full((16, 16, 3), shade, np.uint8) for shade in (10, 20, 30)])
    nearest = Neighbour(document=1, image=images[1], rms=10.0, metadata={})
    source = Neighbour(document=2, image=images[2], rms=20.0, metadata={})
    for other, shade in ((source, 30), (None, 255)):
        pair = Pair(sample=0, exact=False, share=None, nearest=nearest, source=other)
        shown = strip(images[0], pair)
        assert shown.shape == (64, 3 * 64 + 2 * 2, 3)
        assert [int(shown[0, x, 0]) for x in (0, 66, 132)] == [10, 20, shade]
