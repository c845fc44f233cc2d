"""A search minimises what it is told to, and learns which way the limits lie."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from imagegram.errors import ConfigError
from imagegram.experiment import build
from imagegram.metrics.shipped import recorded_infos
from imagegram.sweeps.objective import (
    ObjectiveError,
    check_objective,
    check_search,
    objective_value,
)
from imagegram.sweeps.search import check_values, continue_search, varied_keys
from tests.conftest import compose

OBJECTIVE = {"minimize": "kd_pixels", "limit": {"largest_source_share": 0.05, "exact_copy_rate": 0}}
RATES = st.floats(0, 1)
DISTANCES = st.floats(-1e3, 1e6)


def scores(distance: float | None, share: float | None, exact: float | None) -> Any:
    numbers = {"kd_pixels": distance, "largest_source_share": share, "exact_copy_rate": exact}
    return {name: {"value": number} for name, number in numbers.items()}


def value_of(distance: float, share: float, exact: float) -> float:
    value = objective_value(scores(distance, share, exact), {}, OBJECTIVE)
    assert value is not None
    return value


@given(DISTANCES, st.floats(0, 0.05))
def test_within_its_limits_a_run_is_worth_its_score(distance: float, share: float) -> None:
    assert objective_value(scores(distance, share, 0.0), {}, OBJECTIVE) == distance


@given(DISTANCES, st.floats(0, 0.05), DISTANCES, RATES, RATES)
def test_whoever_keeps_the_limits_wins(
    distance: float, share: float, other: float, other_share: float, other_exact: float
) -> None:
    kept = value_of(distance, share, 0.0)
    broken = value_of(other, max(other_share, 0.06), other_exact)
    assert kept < broken


@given(DISTANCES, DISTANCES, RATES, RATES, RATES)
def test_beyond_them_the_nearer_one_wins(
    near_distance: float, far_distance: float, share: float, near: float, more: float
) -> None:
    share = max(share, 0.051)
    far = min(near + more, 1.0)
    nearer = value_of(near_distance, share, near)
    farther = value_of(far_distance, share, far)
    assert nearer <= farther
    if far - near > 1e-6:  # the sum keeps seven digits after the point beside 1e9
        assert nearer < farther


@pytest.mark.parametrize(
    "parts", [(None, 0.0, 0.0), (0.1, None, 0.0), (None, 1.0, 1.0), (math.nan, 0.0, 0.0)]
)
def test_what_is_not_defined_is_no_value(parts: Any) -> None:
    assert objective_value(scores(*parts), {}, OBJECTIVE) is None


def test_a_short_name_without_a_number_is_no_value() -> None:
    measured = {"kd_pixels": {"value": None}}
    infos = recorded_infos({}, measured)
    assert objective_value(measured, infos, {"minimize": "kid"}) is None


def test_a_mistyped_name_is_refused_before_anything_is_measured() -> None:
    metrics = build(compose("debug=tiny", "metric=[copying,kernel]", "encoder=pixels")).metrics
    stages = ("generate", "evaluate")
    for name in ("kid", "kd_pixels", "exact_copy_rate", None):
        check_objective({"minimize": name}, metrics, stages)
    for name, meant in (("kidd", "'kid'"), ("kd_pixel", "'kd_pixels'"), ("novelty_auc", "allowed")):
        with pytest.raises(ObjectiveError, match=meant):
            check_objective({"minimize": name}, metrics, stages)
    with pytest.raises(ObjectiveError, match="largest_source_share"):
        check_objective({"minimize": "kid", "limit": {"largest_share": 1}}, metrics, stages)
    with pytest.raises(ObjectiveError, match="leave out stages="):
        check_objective({"minimize": "kid"}, metrics, ("tokenize",))


def test_short_names_are_known() -> None:
    measured = {"kd_pixels": {"value": 0.5}, "fd_pixels": {"value": 3.0, "floor": 1.0}}
    infos = recorded_infos({}, measured)
    assert objective_value(measured, infos, {"minimize": "kid"}) == 0.5
    assert objective_value(measured, infos, {"minimize": "fd_minus_floor", "limit": None}) == 2.0


def test_a_name_that_was_not_measured_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'kd_pixels'"):
        objective_value(scores(1, 0, 0), {}, {"minimize": "kd_pixel"})
    with pytest.raises(ConfigError, match="no 'share'"):
        objective_value(scores(1, 0, 0), {}, {"minimize": "kd_pixels", "limit": {"share": 1}})


def hydra(sweeper: str, direction: Any = "minimize") -> Any:
    choices = {"hydra/sweeper": sweeper}
    return SimpleNamespace(
        runtime=SimpleNamespace(choices=choices), sweeper=SimpleNamespace(direction=direction)
    )


def test_a_search_without_a_number_to_minimise_is_refused() -> None:
    check_search(hydra("basic"), {"minimize": None})
    check_search(hydra("optuna"), {"minimize": "kid"})
    with pytest.raises(ConfigError, match="needs a number to minimise"):
        check_search(hydra("optuna"), {"minimize": None})


@pytest.mark.parametrize("direction", ["maximize", ["minimize", "maximize"]])
def test_a_search_of_several_objectives_is_refused(direction: Any) -> None:
    with pytest.raises(ConfigError, match=r"type hydra.sweeper.direction=minimize"):
        check_search(hydra("optuna", direction), {"minimize": "kid"})


def search(tmp_path: Path, *given: str) -> Any:
    return OmegaConf.create(
        {
            "runtime": {"choices": {"hydra/sweeper": "optuna"}},
            "overrides": {"hydra": list(given), "task": ["seed=1,2", "metric=[kernel,copying]"]},
            "sweeper": {
                "sampler": {"seed": 5},
                "storage": f"sqlite:///{tmp_path}/study.sqlite",
                "study_name": "study",
                "max_failure_rate": 0.0,
                "params": {"sampler.top_p": "interval(0.7,1)"},
            },
        }
    )


def test_a_search_goes_on_to_new_trials_and_past_failed_ones(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="pip install 'imagegram[optuna]'")
    first = search(tmp_path)
    continue_search(first)
    assert (first.sweeper.sampler.seed, first.sweeper.max_failure_rate) == (5, 1.0)
    study = optuna.create_study(study_name="study", storage=first.sweeper.storage)
    failed, told = study.ask(), study.ask()
    study.tell(failed, None, state=optuna.trial.TrialState.FAIL)
    with pytest.raises(ObjectiveError, match="in no trial"):
        check_values(first, 0)
    study.tell(told, 1.0)
    check_values(first, 0)
    second = search(tmp_path, "hydra.sweeper.max_failure_rate=0.0")
    continue_search(second)
    assert (second.sweeper.sampler.seed, second.sweeper.max_failure_rate) == (7, 0.0)


def test_what_a_multirun_varies(tmp_path: Path) -> None:
    assert varied_keys(search(tmp_path)) == {"seed", "sampler.top_p"}
