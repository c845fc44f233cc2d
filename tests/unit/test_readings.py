"""Where image sets lie on scores: apart, alike, or too near a bound to tell."""

from __future__ import annotations

from typing import Any

import pytest

from imagegram.records import ScoreInfo
from imagegram.report.readings import (
    AS_HELD_OUT,
    AWAY,
    BETTER,
    FOUND,
    LESS,
    MORE,
    NONE_FOUND,
    TOWARD,
    UNDECIDED,
    UNKNOWN,
    UNLIKE,
    WORSE,
    places,
)
from tests.evaluations import SIZES, read_one

COPYING = ScoreInfo(name="x", group="copying", better="lower")
NOVELTY = ScoreInfo(name="x", group="novelty and choice", better="higher")
QUALITY = ScoreInfo(name="x", group="quality", better="lower")
SHARE = ScoreInfo(name="x", group="copying", better="lower", unit="% of tokens")
NEITHER = ScoreInfo(name="x", group="copying")


@pytest.mark.parametrize(
    ("info", "own", "floor", "ceiling", "expected"),
    [
        (COPYING, (0.4, 0.6), (0.0, 0.2), (0.8, 1.0), MORE),
        (COPYING, (1.4, 1.6), (0.0, 0.2), (0.8, 1.0), MORE),
        (COPYING, (-0.4, -0.1), (0.0, 0.2), (0.8, 1.0), LESS),
        (NOVELTY, (0.4, 0.6), (0.8, 1.0), (0.0, 0.2), MORE),
        (NOVELTY, (1.4, 1.6), (0.8, 1.0), (0.0, 0.2), LESS),
        (NEITHER, (0.4, 0.6), (0.0, 0.2), (0.8, 1.0), TOWARD),
        (NEITHER, (-0.4, -0.1), (0.0, 0.2), (0.8, 1.0), AWAY),
        (COPYING, (0.2, 0.6), (0.0, 0.2), (0.8, 1.0), AS_HELD_OUT),
        (COPYING, (0.1, 0.1), (0.0, 0.2), (0.8, 1.0), AS_HELD_OUT),
        (COPYING, (0.4, 0.6), (0.0, 0.2), (0.1, 0.3), UNLIKE),
        (COPYING, (0.4, 0.6), (0.0, 0.2), None, UNLIKE),
        (QUALITY, (0.4, 0.6), (0.0, 0.2), (0.0, 0.2), WORSE),
        (QUALITY, (-0.4, -0.1), (0.0, 0.2), None, BETTER),
        (COPYING, None, (0.0, 0.2), (0.8, 1.0), UNKNOWN),
        (COPYING, (0.4, 0.6), None, (0.8, 1.0), UNKNOWN),
        # Intervals that end at a bound are no evidence of alikeness; apart they are apart.
        (SHARE, (0.032, 1.0), (0.02, 0.05), (1.0, 1.0), UNDECIDED),
        (SHARE, (0.0, 0.046), (0.02, 0.05), (1.0, 1.0), UNDECIDED),
        (SHARE, (0.03, 0.046), (0.0, 0.05), (1.0, 1.0), UNDECIDED),
        (SHARE, (0.032, 0.06), (0.02, 0.05), (1.0, 1.0), AS_HELD_OUT),
        (SHARE, (0.9, 1.0), (0.02, 0.05), (1.0, 1.0), MORE),
        (SHARE, (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), AS_HELD_OUT),  # points: all images are alike
    ],
)
def test_places(info: ScoreInfo, own: Any, floor: Any, ceiling: Any, expected: str) -> None:
    found = places({"generated": own, "floor": floor, "ceiling": ceiling, "collages": own}, info)
    assert "floor" not in found
    assert found["generated"] == found["collages"] == expected


@pytest.mark.parametrize(
    ("own", "floor", "expected"),
    [
        ((0.0, 0.0, 0.056), (0.0, 0.0, 0.056), NONE_FOUND),
        ((0.02, 0.001, 0.08), (0.0, 0.0, 0.056), FOUND),
        ((0.02, 0.001, 0.08), (0.03, 0.01, 0.09), FOUND),
        ((0.5, 0.4, 0.6), (0.0, 0.0, 0.056), MORE),
        ((None, None, None), (0.0, 0.0, 0.056), UNKNOWN),
    ],
)
def test_a_copy_that_was_found_is_never_as_held_out(own: Any, floor: Any, expected: str) -> None:
    sets = {"generated": own, "floor": floor, "ceiling": (1.0, 0.93, 1.0)}
    assert read_one("exact_copy_rate", sets).place == expected


def test_a_copy_is_found_without_a_floor_too() -> None:
    sets = {"generated": (0.02, 0.001, 0.08), "ceiling": (1.0, 0.93, 1.0)}
    assert read_one("exact_copy_rate", sets, {"generated": 50, "ceiling": 50}).place == FOUND


def test_equal_numbers_are_a_point_where_images_are_enough() -> None:
    sets = {"generated": (1.0, None, None), "floor": (0.1, 0.05, 0.2), "ceiling": (1.0, None, None)}
    reading = read_one("share", sets)
    assert reading.place == TOWARD
    assert reading.alike == {"ceiling"}
    assert reading.comparable == {"floor", "ceiling"}
    assert reading.show_interval() == ""
    # With fewer images than those that have an interval, they may have been too few for one.
    few = read_one("share", sets, {"generated": 5, "floor": 50, "ceiling": 50})
    assert few.place == UNKNOWN
    assert few.comparable == frozenset()


def test_no_set_has_an_interval() -> None:
    sets = dict.fromkeys(SIZES, (0.5, None, None))
    assert read_one("share", sets).places == {"generated": UNKNOWN, "ceiling": UNKNOWN}


def test_scores_that_move_with_the_number_of_images_are_not_compared() -> None:
    sets = {"generated": (1.0, 0.9, 1.1), "floor": (0.1, 0.0, 0.2), "ceiling": (0.1, 0.0, 0.2)}
    sizes = SIZES | {"generated": 80}
    assert read_one("fd_pixels", sets, sizes).place == UNKNOWN
    assert read_one("kd_pixels", sets, sizes).place == WORSE
    assert read_one("fd_pixels", sets).place == WORSE


def test_undefined_values_are_in_no_place() -> None:
    sets = {"generated": (None, None, None), "floor": (0.1, 0.0, 0.2), "ceiling": (0.9, 0.8, 1.0)}
    reading = read_one("share", sets)
    assert reading.place == UNKNOWN
    assert reading.show("generated") == "—"
