"""A search minimises what it is told to, and learns which way the limits lie."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.metrics.shipped import recorded_infos
from imagegram.sweeps.objective import check_search, objective_value

OBJECTIVE = {"minimize": "kd_pixels", "limit": {"largest_source_share": 0.05, "exact_copy_rate": 0}}
RATES = st.floats(0, 1)
DISTANCES = st.floats(-1e3, 1e6)


def scores(distance: float | None, share: float | None, exact: float | None) -> Any:
    numbers = {"kd_pixels": distance, "largest_source_share": share, "exact_copy_rate": exact}
    return {name: {"value": number} for name, number in numbers.items()}


@given(DISTANCES, st.floats(0, 0.05))
def test_within_its_limits_a_run_is_worth_its_score(distance: float, share: float) -> None:
    assert objective_value(scores(distance, share, 0.0), {}, OBJECTIVE) == distance


@given(DISTANCES, st.floats(0, 0.05), DISTANCES, RATES, RATES)
def test_whoever_keeps_the_limits_wins(
    distance: float, share: float, other: float, other_share: float, other_exact: float
) -> None:
    kept = objective_value(scores(distance, share, 0.0), {}, OBJECTIVE)
    broken = objective_value(scores(other, max(other_share, 0.06), other_exact), {}, OBJECTIVE)
    assert kept < broken


@given(DISTANCES, DISTANCES, RATES, RATES, RATES)
def test_beyond_them_the_nearer_one_wins(
    near_distance: float, far_distance: float, share: float, near: float, more: float
) -> None:
    share = max(share, 0.051)
    far = min(near + more, 1.0)
    nearer = objective_value(scores(near_distance, share, near), {}, OBJECTIVE)
    farther = objective_value(scores(far_distance, share, far), {}, OBJECTIVE)
    assert nearer <= farther
    if far - near > 1e-6:  # the sum keeps seven digits after the point beside 1e9
        assert nearer < farther


@pytest.mark.parametrize("parts", [(None, 0.0, 0.0), (0.1, None, 0.0), (None, 1.0, 1.0)])
def test_what_is_not_defined_is_worst_of_all_and_still_a_number(parts: Any) -> None:
    worst = objective_value(scores(*parts), {}, OBJECTIVE)
    assert math.isfinite(worst)
    assert worst > objective_value(scores(1e6, 1.0, 1.0), {}, OBJECTIVE)


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
