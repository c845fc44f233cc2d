"""Optuna through Hydra: it minimises what the objective says, and goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagegram import schema
from imagegram.metrics.shipped import recorded_infos
from imagegram.sweeps.objective import check_search, objective_value
from tests.conftest import compose, read_summary

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install 'imagegram[optuna]'")

Command = Callable[..., subprocess.CompletedProcess[str]]
SEARCH = ["-m", "experiment=optuna_frontier", "debug=tiny"]


def compose_with_hydra(*words: str) -> Any:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    schema.register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return hydra.compose("config", list(words), return_hydra_config=True)


def test_what_is_searched_and_where_it_is_kept() -> None:
    config = compose_with_hydra("experiment=optuna_frontier", "paths.outputs=/tmp/elsewhere")
    sweeper = config.hydra.sweeper
    assert sweeper.storage == "sqlite:////tmp/elsewhere/optuna_frontier.sqlite"
    knobs = compose("experiment=optuna_frontier").sampler
    assert {key.partition(".")[2] for key in sweeper.params} <= set(knobs)
    check_search(config.hydra, config.objective)


def test_a_search_minimises_the_objective_and_goes_on(command: Command, tmp_path: Path) -> None:
    import optuna

    def search(num_trials: int) -> Path:
        words = [*SEARCH, f"paths.outputs={tmp_path}", f"hydra.sweeper.n_trials={num_trials}"]
        result = command("imagegram.run", words)
        assert result.returncode == 0, result.stderr
        return Path(result.stdout.splitlines()[-1]).parent

    sweep = search(3)
    objective = compose("experiment=optuna_frontier").objective
    folders = sorted(path.parent for path in sweep.glob("*/summary.json"))
    values = []
    for folder in folders:
        scores, record = read_summary(folder)["scores"], (folder / "scores.json").read_text()
        infos = recorded_infos(json.loads(record), scores)
        values.append(objective_value(scores, infos, objective))
    assert len(values) == 3
    best = yaml.safe_load((sweep / "optimization_results.yaml").read_text())
    assert best["best_value"] == pytest.approx(min(values))
    storage = f"sqlite:///{tmp_path}/optuna_frontier.sqlite"
    study = optuna.load_study(study_name="frontier", storage=storage)
    assert [trial.value for trial in study.trials] == pytest.approx(values)
    search(2)
    study = optuna.load_study(study_name="frontier", storage=storage)
    assert len(study.trials) == 5
    assert [trial.value for trial in study.trials[:3]] == pytest.approx(values)
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 5  # new ones


def test_failed_trials_do_not_end_a_search_and_a_search_of_nothing_ends_in_a_sentence(
    command: Command, tmp_path: Path
) -> None:
    words = ["-m", "hydra/sweeper=optuna", "debug=tiny", "objective.minimize=exact_copy_rate"]
    words += ["hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "num_samples=choice(0,-1)"]
    result = command("imagegram.run", [*words, f"paths.outputs={tmp_path}"])
    assert result.returncode == 1
    assert len(list(tmp_path.glob("sweeps/*/*/summary.json"))) == 2
    assert "the objective was defined in no trial of this search" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra/sweeper=optuna"], "needs a number to minimise"),
        (
            [
                "hydra/sweeper=optuna",
                "objective.minimize=kid",
                "hydra.sweeper.direction=[minimize,maximize]",
            ],
            "type hydra.sweeper.direction=minimize",
        ),
        (["hydra/sweeper=optuna", "objective.minimize=kidd"], "did you mean 'kid'"),
    ],
)
def test_what_would_not_be_minimised_is_refused_before_it_runs(
    words: list[str], message: str, command: Command, tmp_path: Path
) -> None:
    trials = ["hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1", "seed=choice(1,2)"]
    words = ["-m", *words, *trials, "debug=tiny", f"paths.outputs={tmp_path}"]
    result = command("imagegram.run", words)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("sweeps/*/*/summary.json"))  # no trial was counted
