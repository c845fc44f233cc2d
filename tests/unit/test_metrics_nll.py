"""Bits under the generator itself, and what it has learned by heart."""

from __future__ import annotations

import pytest

from imagegram.metrics.nll import NllMetric
from imagegram.records import Measured, Measurement
from imagegram.stages.evaluate import Score, combine

NAME = "nll_memorized_bits_per_token"


def bits(value: float | None, width: float | None = 0.1) -> Measurement:
    low, high = (None, None) if value is None or width is None else (value - width, value + width)
    own = Measured(value=value, low=low, high=high, note="" if value is not None else "no token")
    return Measurement(scalars={"nll_bits_per_token": own}, curves={})


def test_what_is_learned_by_heart_is_held_out_less_training() -> None:
    sets = {"generated": bits(3.0), "floor": bits(8.0, 0.3), "ceiling": bits(6.0, 0.4)}
    found = NllMetric().across(sets)[NAME]
    assert found.value == 2.0
    assert (found.low, found.high) == (pytest.approx(1.5), pytest.approx(2.5))
    record = combine(sets, metric=NllMetric(), lacks={})
    assert Score(**record["scores"][NAME]) == Score(
        value=2.0, floor=None, ceiling=None, low=found.low, high=found.high
    )
    assert record["values"][NAME] == {"generated": 2.0}
    assert record["infos"][NAME]["title"] == "bits learned by heart"
    assert NAME not in record["notes"]
    assert record["scores"]["nll_bits_per_token"]["floor"] == 8.0


def test_without_an_interval_or_a_set_none_is_claimed() -> None:
    sets = {"generated": bits(3.0), "floor": bits(8.0, None), "ceiling": bits(6.0)}
    found = NllMetric().across(sets)[NAME]
    assert (found.value, found.low, found.high) == (2.0, None, None)
    for other in ({"generated": bits(3.0), "ceiling": bits(6.0)}, {**sets, "floor": bits(None)}):
        record = combine(other, metric=NllMetric(), lacks={})
        assert record["scores"][NAME]["value"] is None
        assert record["notes"][NAME] in ("needs held-out and training documents", "no token")
