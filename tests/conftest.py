"""Shared by all tests: composed configurations, runs in this process, runs as a user types them."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings
from omegaconf import DictConfig, OmegaConf

from tests.shell import shell

# No deadlines: time is measured in benchmarks/, never asserted. CI repeats the same examples, so
# that a red run is a change's fault; elsewhere every run tries new ones.
settings.register_profile("imagegram", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("imagegram")

REPOSITORY = Path(__file__).resolve().parents[1]


def compose(*overrides: str) -> DictConfig:
    """The configuration that these command-line words compose.

    Hydra takes a quarter of a second, so what it composed is kept and copied; folders, in which
    alone many calls differ, are set in the copy.
    """
    folders = [word for word in overrides if _FOLDER.fullmatch(word)]
    others = tuple(word for word in overrides if word not in folders)
    looks_elsewhere = any(word.startswith("hydra.searchpath") for word in others)
    cfg = (_composed if looks_elsewhere else _composed_once)(others)
    cfg = copy.deepcopy(cfg)
    for word in folders:
        key, _, value = word.partition("=")
        OmegaConf.update(cfg, key, value)
    return cfg


#: Words that name a folder and mean nothing else.
_FOLDER: Final = re.compile(r"paths\.(outputs|data)=/[\w./-]+")


def _composed(overrides: tuple[str, ...]) -> DictConfig:
    import hydra
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from imagegram import schema

    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return hydra.compose("config", list(overrides))


_composed_once = functools.lru_cache(maxsize=512)(_composed)


def read_summary(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


@pytest.fixture(scope="session")
def demo_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One outputs folder for all tests that may share artifacts: the tiny demo is made once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def run_here(demo_outputs: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run an experiment in this process; returns its run folder."""
    from imagegram.run import run_experiment

    count = iter(range(100))

    def run(*overrides: str, outputs: Path | None = None) -> Path:
        folder = tmp_path / f"run{next(count)}"
        folder.mkdir()
        words = ["debug=tiny", f"paths.outputs={outputs or demo_outputs}", *overrides]
        run_experiment(compose(*words), folder)
        return folder

    return run


@pytest.fixture
def command(demo_outputs: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m <module>`` as a user would."""

    def run(
        module: str, words: Sequence[str], *, cwd: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        return shell().run(["-m", module, *words], cwd=cwd, environment=clean_environment())

    return run


def clean_environment() -> dict[str, str]:
    """The environment without what would make W&B or the hub go online."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("WANDB", "HF_", "HYDRA"))
    }
