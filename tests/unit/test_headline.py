"""The short list is what it says: values, floors and gaps, with intervals where they are known."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.loggers.headline import dashboard, full_name, headline
from imagegram.metrics.shipped import recorded_infos
from imagegram.records import Measured

RECIPE = {"N": "500", "N_ref": "2000", "D": "1280", "encoder": "efficientnet_lite0"} | {
    "resize": "64 px"
}
SCORES: dict[str, dict[str, float | None]] = {
    "exact_copy_rate": {"value": 0.1, "floor": 0.0, "ceiling": 1.0, "low": 0.05, "high": 0.2},
    "kd_efficientnet_lite0": {"value": 0.5, "floor": 0.1, "low": 0.4, "high": 0.6},
    "fd_efficientnet_lite0": {"value": 1500.0, "floor": 1100.0, "low": 1480.0, "high": 1520.0},
    "novelty_auc": {"value": 0.25, "floor": 0.75, "low": None, "high": None},
    "patch_copy_rate": {"value": 0.75, "floor": 0.25, "low": 0.5, "high": 1.0},
    "bits_per_token": {"value": 3.0, "floor": 5.0, "low": 2.5, "high": 3.5},
    "coverage": {"value": None, "floor": 0.5, "low": None, "high": None},
}
INFOS = recorded_infos({}, SCORES)


def test_values_floors_and_gaps() -> None:
    found = headline(SCORES, INFOS)
    assert found == {
        "exact_copy_rate": Measured(value=0.1, low=0.05, high=0.2),
        "kid": Measured(value=0.5, low=0.4, high=0.6),
        "fd_minus_floor": Measured(value=400.0, low=380.0, high=420.0),
        "novelty_auc_gap": Measured(value=-0.5),
        "patch_copy_gap": Measured(value=0.5, low=0.25, high=0.75),
        "heldout_bits_per_token": Measured(value=5.0),
    }


def test_a_floor_has_the_interval_of_the_floor_and_never_that_of_the_value() -> None:
    intervals = {"bits_per_token": {"generated": [2.5, 3.5], "floor": [4.5, 5.5]}}
    assert headline(SCORES, INFOS, intervals)["heldout_bits_per_token"] == Measured(
        value=5.0, low=4.5, high=5.5
    )


def test_a_gap_without_a_floor_is_absent() -> None:
    score: dict[str, float | None] = {"value": 1.0, "floor": None, "low": 0.5, "high": 2.0}
    scores = {"fd_pixels": score, "novelty_auc": score}
    assert headline(scores, recorded_infos({}, scores)) == {}


def test_two_encoders_have_no_common_short_name() -> None:
    score: dict[str, float | None] = {"value": 1.0, "floor": 0.5}
    scores = {"kd_pixels": score, "kd_other": score, "fd_other": score}
    assert set(headline(scores, recorded_infos({}, scores))) == {"fd_minus_floor"}


def test_only_a_metric_gives_a_short_name() -> None:
    assert headline({"kid": {"value": 1.0}, "kd_mine": {"value": 1.0}}, {}) == {}


@pytest.mark.parametrize(
    ("score", "recipe", "name"),
    [
        ("kd_efficientnet_lite0", RECIPE, "kd_n500_efficientnet_lite0_r64"),
        ("coverage", RECIPE | {"nearest_k": "5"}, "coverage_n500_efficientnet_lite0_r64"),
        ("kd_my_net", RECIPE | {"encoder": "My Net!"}, "kd_n500_my_net_r64"),
        ("near_dup_rate_fpr1pct", {"N": "32"}, "near_dup_rate_fpr1pct_n32"),
        ("kd_pixels", RECIPE | {"encoder": "pixels", "resize": "none px"}, "kd_n500_pixels"),
        ("exact_copy_rate", {}, "exact_copy_rate"),
    ],
)
def test_full_names(score: str, recipe: dict[str, str], name: str) -> None:
    assert full_name(score, recipe) == name


@given(st.text(min_size=1), st.dictionaries(st.sampled_from(["N", "encoder", "resize"]), st.text()))
def test_a_full_name_is_letters_digits_and_underscores(score: str, recipe: dict[str, str]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]*", full_name(f"kd_{score}", recipe))


def test_a_full_name_differs_where_the_recipe_does() -> None:
    others = [{"N": "501"}, {"encoder": "pixels"}, {"resize": "96 px"}]
    names = {full_name("coverage", RECIPE | other) for other in [{}, *others]}
    assert len(names) == 4


def test_the_dashboard_has_every_part_every_full_name_and_the_short_list() -> None:
    numbers = dashboard(
        SCORES,
        infos=INFOS,
        recipes={"kd_efficientnet_lite0": RECIPE, "exact_copy_rate": {}, "unknown": RECIPE},
        intervals={"bits_per_token": {"floor": [4.5, 5.5]}},
    )
    for name, score in SCORES.items():
        for part, number in score.items():
            key = f"eval/{name}" if part == "value" else f"eval/{name}_{part}"
            assert numbers.get(key) == number
    assert numbers["eval/kd_n500_efficientnet_lite0_r64"] == 0.5
    assert numbers["eval/kd_n500_efficientnet_lite0_r64_floor"] == 0.1
    assert (numbers["eval/kid"], numbers["eval/kid_lo"], numbers["eval/kid_hi"]) == (0.5, 0.4, 0.6)
    assert numbers["eval/heldout_bits_per_token_hi"] == 5.5
    assert "eval/novelty_auc_gap_lo" not in numbers
    assert not any("unknown" in key for key in numbers)
    assert all(isinstance(number, float) for number in numbers.values())
