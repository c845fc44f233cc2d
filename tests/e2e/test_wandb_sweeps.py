"""The sweeps of sweeps/ as W&B's own agent runs them: every command composes, one is run."""

from __future__ import annotations

import itertools
import os
import queue
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb import env, wandb_agent

from imagegram import schema
from imagegram.experiment import build
from imagegram.metrics.shipped import shipped_scores
from tests.conftest import REPOSITORY, clean_environment, compose
from tests.wandb_files import read_live_run

SWEEPS = sorted((REPOSITORY / "sweeps").glob("*.yaml"))
Agent = Callable[[dict[str, Any], dict[str, Any]], list[str]]
each_sweep = pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    sweep: dict[str, Any] = yaml.safe_load(path.read_text())
    return sweep


def choices(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of a grid; of a range both ends."""
    values = [
        spec["values"] if "values" in spec else [spec["min"], spec["max"]]
        for spec in sweep["parameters"].values()
    ]
    return [
        dict(zip(sweep["parameters"], chosen, strict=True)) for chosen in itertools.product(*values)
    ]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Agent:
    """What W&B's agent would start for one choice of parameters; it also sets its environment."""
    started: list[list[str]] = []

    def start(*, command: list[str], **_: Any) -> Any:
        started.append(command)
        return type("Process", (), {})()

    monkeypatch.setattr(wandb_agent, "AgentProcess", start)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")  # so that what the agent sets is taken back

    def command_of(sweep: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
        runner = wandb_agent.Agent(None, queue.Queue())
        runner._sweep_command = list(sweep["command"])
        args = {name: {"value": value} for name, value in chosen.items()}
        runner._command_run({"run_id": "run1", "program": sweep["program"], "args": args})
        return started.pop()

    return command_of


@each_sweep
def test_every_command_of_a_sweep_composes(path: Path, agent: Agent) -> None:
    sweep = load(path)
    for chosen in choices(sweep)[::7]:
        command = agent(sweep, chosen)
        assert command[:5] == ["/usr/bin/env", "python", "-m", "imagegram.run", "logger=wandb"]
        config = compose(*command[4:])
        build(config)
        for name, value in chosen.items():
            node: Any = config
            for part in name.split("."):
                node = node[part]
            assert node == value or node.name == value


@each_sweep
def test_a_sweep_is_one_that_wandb_takes(path: Path) -> None:
    sweep = load(path)
    assert path.read_text().startswith("# Question:")
    assert f"wandb sweep sweeps/{path.name}" in path.read_text()
    assert sweep["name"] == path.stem
    assert (REPOSITORY / sweep["program"]).exists()
    shorts = {info.short for info in shipped_scores()}
    assert sweep["metric"]["name"].removeprefix("eval/") in shorts
    assert sweep["command"][-1] == "${args_no_hyphens}"
    for spec in sweep["parameters"].values():
        assert set(spec) in ({"values"}, {"min", "max"})
        assert sweep["method"] != "grid" or "values" in spec


@each_sweep
def test_a_group_with_knobs_of_its_own_is_no_parameter(path: Path) -> None:
    """W&B locks a parameter: the node of that name would never reach the dashboard."""
    parameters = set(load(path)["parameters"])
    groups = {folder.name for folder in schema.CONF.iterdir() if folder.is_dir()}
    knobs = {name.partition(".")[0] for name in parameters if "." in name}
    assert not parameters & groups & (knobs | {"sampler", "logger"})


def test_a_run_of_the_agent_tells_wandb_its_size_and_its_sweep(
    agent: Agent, tmp_path: Path, demo_outputs: Path
) -> None:
    sweep = load(REPOSITORY / "sweeps" / "corpus_depth.yaml")
    command = agent(sweep, {"corpus": "demo", "tokenizer": "pyramid2", "seed": 5})
    variables = {name: os.environ[name] for name in os.environ if name.startswith("WANDB")}
    variables.pop(env.SERVICE, None)  # the process of a test before this one, maybe dead
    words = [*command[4:], "debug=tiny", "metric=[copying]", f"paths.outputs={demo_outputs}"]
    result = subprocess.run(
        [sys.executable, "-m", "imagegram.run", *words],
        cwd=REPOSITORY,
        env=clean_environment() | variables | {"WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "goes on without it" not in result.stderr
    run = read_live_run(Path(result.stdout.splitlines()[-1]))
    assert (run["id"], run["sweep"]) == ("run1", "sweep1")
    assert (run["config"]["corpus"], run["config"]["seed"]) == ("demo", 5)
    assert run["config"]["corpus_num_images"] > 50
    assert run["config"]["sampler"]["name"] == "infinigram"
