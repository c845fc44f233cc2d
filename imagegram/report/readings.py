"""Readings: where every image set lies on every score, by 95 % intervals.

Where the interval of an image set overlaps that of held-out images, the score does not separate the
two. That is evidence of "as held-out" only where both intervals have room: one that ends at the
least or greatest value that the score can have says that there are too few images to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from imagegram.numerals import at_most
from imagegram.records import ScoreInfo
from imagegram.stages.evaluate import Evaluation

#: Places of an image set on a score: the intervals overlap, or one of them ends at a bound.
AS_HELD_OUT: Final = "as held-out"
UNDECIDED: Final = "too few to tell"
#: Apart from held-out images, on a score of copying, of quality, or one without a direction.
MORE: Final = "copies more"
LESS: Final = "copies less"
WORSE: Final = "worse"
BETTER: Final = "better"
TOWARD: Final = "toward training"
AWAY: Final = "away from training"
UNLIKE: Final = "unlike held-out"
#: Places of a score that counts facts: where one was found it is there, whatever others read.
FOUND: Final = "copies found"
NONE_FOUND: Final = "none found"
UNKNOWN: Final = ""

#: Groups in which held-out and training items are ends of a scale; in others both are equally good.
SCALES: Final = ("copying", "novelty and choice")
#: Inputs of a score that change when a picture is saved with other pixels.
_EQUAL_TOKENS: Final = frozenset({"ids", "matches"})

Interval = tuple[float | None, float | None]
_NO_INTERVAL: Final[Interval] = (None, None)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One score of an evaluation.

    Attributes:
        info: title, unit and direction of the score.
        values: value of each image set; ``generated`` is the measured one.
        intervals: 95 % interval of each image set, (None, None) where there is none.
        sizes: number of images by image set.
        places: by image set, where its interval lies; ``""`` where that is unknown.
        alike: image sets whose interval overlaps that of the measured images.
        comparable: image sets for which ``alike`` could be decided.
    """

    info: ScoreInfo
    values: Mapping[str, float | None]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    alike: frozenset[str] = frozenset()
    comparable: frozenset[str] = frozenset()

    @property
    def score(self) -> str:
        """Name of the score."""
        return self.info.name

    @property
    def place(self) -> str:
        """Place of the measured images."""
        return self.places.get("generated", UNKNOWN)

    @property
    def tells_copying(self) -> bool:
        """Whether the score tells how much a model's output, not its trace, copies."""
        directed = self.info.better is not None and not self.info.reads_trace
        return directed and self.info.group in SCALES

    @property
    def is_lower_bound(self) -> bool:
        """Whether the score counts equal tokens, so that re-saved pictures can only lower it."""
        counts = self.info.group == "copying" and self.info.better == "lower"
        return counts and self.info.is_share and _EQUAL_TOKENS.issuperset(self.info.needs)

    def count(self, which: str = "generated") -> int | None:
        """Return how many images are what the score counts; None where it counts no facts."""
        value = self.values.get(which)
        if not self.info.counts or value is None or which not in self.sizes:
            return None
        return round(value * self.sizes[which])

    def show(self, which: str = "generated") -> str:
        """Return the value of one image set as text."""
        return self.info.show(self.values.get(which))

    def show_interval(self, which: str = "generated") -> str:
        """Return the 95 % interval of one image set as text; empty when there is none.

        Where facts were counted and none was found, the largest rate that is left: ``≤ 4.6 %``.
        """
        if self.count(which) == 0:
            return f"≤ {self.info.show(at_most(self.sizes[which]))}"
        return self.info.show_interval(*self.intervals.get(which, _NO_INTERVAL))

    def show_both(self, which: str = "generated") -> str:
        """Return value and interval of one image set: ``5.0 % [3.7, 6.6]``."""
        return beside(self.show(which), self.show_interval(which))


def beside(value: str, interval: str) -> str:
    """Return a value and its interval in one line, with one per cent sign.

    >>> beside("5.0 %", "[3.7, 6.6] %"), beside("0 of 64", "≤ 4.6 %"), beside("3", "")
    ('5.0 % [3.7, 6.6]', '0 of 64, ≤ 4.6 %', '3')
    >>> beside("5 of 100", "5.0 % [1.6, 11.3]")
    '5 of 100, 5.0 % [1.6, 11.3]'
    """
    interval = interval.removesuffix(" %") if "]" in interval else interval
    joined = " " if interval.startswith("[") else ", "
    return joined.join(filter(None, [value, interval]))


def read_scores(evaluation: Evaluation, sizes: Mapping[str, int]) -> list[Reading]:
    """Place every image set on every score.

    Args:
        evaluation: scores of the measured images.
        sizes: number of images by image set.
    """
    readings = []
    for score, info in evaluation.infos.items():
        values, intervals = evaluation.values[score], evaluation.intervals[score]
        ranges = {which: _range(info, which, values, intervals, sizes) for which in values}
        own = ranges["generated"]
        others = {which: ends for which, ends in ranges.items() if ends and which != "generated"}
        alike = {which for which, ends in others.items() if own and _meet(own, ends)}
        readings.append(
            Reading(
                info=info,
                values=values,
                intervals=intervals,
                sizes=sizes,
                places=_with_facts(info, values, places(ranges, info)),
                alike=frozenset(alike),
                comparable=frozenset(others if own else ()),
            )
        )
    return readings


def places(ranges: Mapping[str, tuple[float, float] | None], info: ScoreInfo) -> dict[str, str]:
    """Return where each image set except the floor lies, by the ends of the intervals.

    Args:
        ranges: by image set, the two ends, equal for a point; None where there is no interval.
        info: the score, which knows the bounds of its values.

    >>> ranges = {"generated": (0.4, 0.6), "floor": (0.0, 0.2), "ceiling": (0.8, 1.0)}
    >>> places(ranges, ScoreInfo(name="x"))["generated"]
    'toward training'
    """
    floor, ceiling = ranges.get("floor"), ranges.get("ceiling")
    found = {}
    for which, own in ranges.items():
        if which == "floor":
            continue
        if own is None or floor is None:
            found[which] = UNKNOWN
        elif _meet(own, floor):
            found[which] = UNDECIDED if _at_bound(info, own, floor) else AS_HELD_OUT
        else:
            found[which] = _apart(info, own, floor, ceiling)
    return found


def _apart(
    info: ScoreInfo,
    own: tuple[float, float],
    floor: tuple[float, float],
    ceiling: tuple[float, float] | None,
) -> str:
    """Return the place of an interval that is apart from that of held-out images.

    Training images are the other end of a scale of copying; of quality they are as good as
    held-out ones, so that the better direction of the score decides there.
    """
    if info.better is not None and info.group not in SCALES:
        return WORSE if (own > floor) == (info.better == "lower") else BETTER
    if ceiling is None or _meet(floor, ceiling):
        return UNLIKE
    is_toward = (own > floor) == (ceiling > floor)
    if info.better is None:
        return TOWARD if is_toward else AWAY
    return MORE if is_toward else LESS


def _at_bound(info: ScoreInfo, *ranges: tuple[float, float]) -> bool:
    """Return whether an interval, points excepted, ends at a bound of the score."""
    return any(low < high and info.reaches_bound(low, high) for low, high in ranges)


def _with_facts(
    info: ScoreInfo, values: Mapping[str, float | None], found: dict[str, str]
) -> dict[str, str]:
    """Return the places of a score; a fact that was found is never "as held-out"."""
    if not info.counts:
        return found
    facts = {which: FOUND if values[which] else NONE_FOUND for which in found if which in values}
    unknown = {which for which, value in values.items() if value is None}
    settled = (MORE, LESS)
    return {
        which: place if place in settled or which in unknown else facts[which]
        for which, place in found.items()
    }


def _range(
    info: ScoreInfo,
    which: str,
    values: Mapping[str, float | None],
    intervals: Mapping[str, Interval],
    sizes: Mapping[str, int],
) -> tuple[float, float] | None:
    """Return the interval of one image set, or None.

    A mean of equal numbers has no interval and is treated as a point, provided that some set of at
    most the same size has an interval (so the images were not too few). A score that depends on
    the number of images has no interval for a set of another size than the floor.
    """
    value, (low, high) = values[which], intervals[which]
    other_size = sizes[which] != sizes.get("floor", sizes[which])
    if value is None or (other_size and info.moves_with_n):
        return None
    if low is not None and high is not None:
        return low, high
    enough = any(None not in intervals[name] and sizes[name] <= sizes[which] for name in values)
    return (value, value) if enough else None


def _meet(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]
