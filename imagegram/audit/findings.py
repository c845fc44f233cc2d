"""Findings: the conclusions of an audit, in words, from the numbers of its evaluation.

Every image set of a score is placed by its 95 % interval: where that overlaps the interval of
held-out images, the score does not separate the two sets. Planted sets contain a known amount of
copying, so their places show which scores are blind to copying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagegram.records import ScoreInfo
from imagegram.stages.evaluate import Evaluation

#: Places of an image set on a score.
AS_HELD_OUT: Final = "as held-out"
TOWARD: Final = "toward training"
AWAY: Final = "away from training"
UNLIKE: Final = "unlike held-out"
UNKNOWN: Final = ""

#: Inputs of a score that change when a picture is saved with other pixels.
_EQUAL_TOKENS: Final = frozenset({"ids", "matches"})
#: Unit of a score that is a share of images.
_OF_IMAGES: Final = "% of samples"

Sets = Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One score of an audit.

    Attributes:
        info: name, unit and direction of the score.
        values: value of each image set; ``generated`` is the audited one.
        low, high: 95 % interval of the audited value.
        places: by image set, where its interval lies; ``""`` where that is unknown.
        alike: image sets whose interval overlaps that of the audited images.
        comparable: image sets for which ``alike`` could be decided.
    """

    info: ScoreInfo
    values: Mapping[str, float | None]
    low: float | None
    high: float | None
    places: Mapping[str, str]
    alike: frozenset[str] = frozenset()
    comparable: frozenset[str] = frozenset()

    @property
    def score(self) -> str:
        """Name of the score."""
        return self.info.name

    @property
    def is_lower_bound(self) -> bool:
        """Whether the score counts equal tokens, so that re-saved pictures can only lower it."""
        counts = self.info.group == "copying" and self.info.better == "lower"
        return counts and self.info.is_share and _EQUAL_TOKENS.issuperset(self.info.needs)

    def show(self, which: str) -> str:
        """Return the value of one image set as text."""
        return self.info.show(self.values.get(which))

    def interval(self) -> str:
        """Return the 95 % interval of the audited images as text; empty when there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.info.show(self.low)}, {self.info.show(self.high)}]"


def read_scores(evaluation: Evaluation, sizes: Mapping[str, int]) -> list[Reading]:
    """Place every image set on every score.

    Args:
        evaluation: scores of the audited images.
        sizes: number of images by image set.
    """
    readings = []
    for score, info in evaluation.infos.items():
        values, intervals = evaluation.values[score], evaluation.intervals[score]
        ranges = {which: _range(info, which, values, intervals, sizes) for which in values}
        own = ranges["generated"]
        others = {which: ends for which, ends in ranges.items() if ends and which != "generated"}
        alike = {which for which, ends in others.items() if own and _meet(own, ends)}
        low, high = intervals["generated"]
        readings.append(
            Reading(
                info=info,
                values=values,
                low=low,
                high=high,
                places=places(ranges),
                alike=frozenset(alike),
                comparable=frozenset(others if own else ()),
            )
        )
    return readings


def places(ranges: Mapping[str, tuple[float, float] | None]) -> dict[str, str]:
    """Return where each image set except the floor lies, by the ends of the intervals.

    >>> places({"generated": (0.4, 0.6), "floor": (0.0, 0.2), "ceiling": (0.8, 1.0)})["generated"]
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
            found[which] = AS_HELD_OUT
        elif ceiling is None or _meet(floor, ceiling):
            found[which] = UNLIKE
        else:
            found[which] = TOWARD if (own > floor) == (ceiling > floor) else AWAY
    return found


def _range(
    info: ScoreInfo,
    which: str,
    values: Mapping[str, float | None],
    intervals: Sets,
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


# ----------------------------------------------------------------------------------------- in words


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Facts about the audited files that the findings need besides the scores.

    Attributes:
        sizes: number of images by image set.
        skipped: number of audited files that could not be read, by reason.
        num_others: files in the folder whose names are not those of images.
        side: median of the shorter sides of the audited files in pixels; None for audited tokens.
        sides: smallest and largest shorter side.
        jpeg_share: share of audited files whose names end as JPEG.
        jpeg_quality: quality at which training images were saved as JPEG; None: they were not.
        agreement: by image set, the share of tokens that training images keep; see
            ``token_agreement``.
        level_names: names of the tokenizer's levels.
        num_repeated: audited images that are near-duplicates of another audited image.
        sampler: sampler that the trace was replayed with.
    """

    sizes: Mapping[str, int]
    skipped: Mapping[str, int]
    num_others: int
    side: int | None
    sides: tuple[int, int] | None
    jpeg_share: float
    jpeg_quality: int | None
    agreement: Mapping[str, Mapping[str, Any]]
    level_names: Sequence[str]
    num_repeated: int
    sampler: str


def what_it_tells(
    readings: Sequence[Reading], at: Circumstances, recipes: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, str]]:
    """Return (label, sentence) pairs: first what was found, then what could have been found.

    Args:
        readings: all scores.
        at: facts about the audited files.
        recipes: recipe of each score, by name; a recipe shows whether a score compares pictures.
    """
    said = _images_said(at) + _results_said(readings, at) + _tokens_said(readings, at)
    pictures = [r.score for r in readings if {"encoder", "codec"} & recipes[r.score].keys()]
    if pictures and at.side is not None:
        text = "compare pictures as the tokenizer gives them back, on both sides"
        said.append(("pictures", f"{_list(pictures)} {text}: a detail that it loses is not seen"))
    for recipe, what in (("copies_5", "5 % copies"), ("collages", "collages")):
        said += _sight_said(readings, recipe, what, at)
    traced = [reading.score for reading in readings if reading.info.reads_trace]
    if traced:
        text = f"of what the sampler {at.sampler} would have had to do to write these images"
        said.append(("replay", f"{_list(traced)} are those of a replay, {text}"))
    return said


def _images_said(at: Circumstances) -> list[tuple[str, str]]:
    sizes = at.sizes
    skipped = ", ".join(f"{count} {reason}" for reason, count in at.skipped.items())
    text = f"{sizes['generated']:,} images measured"
    text += f"; not readable, so not measured: {skipped}" if skipped else ""
    if at.num_others:
        text += f"; {at.num_others} other files in the folder have no name of an image"
    text += f"; beside them {sizes['ceiling']:,} training images"
    floor = sizes.get("floor")
    text += f" and {floor:,} held-out images" if floor else ", but no held-out ones: no floor"
    said = [("images", text)]
    if floor and floor != sizes["generated"]:
        said.append(
            (
                "sizes",
                f"with {sizes['generated']:,} audited and {floor:,} held-out images, scores that "
                "move with the number of images are not compared; to compare them, type "
                f"num_samples={min(floor, sizes['generated'])}",
            )
        )
    if at.num_repeated:
        said.append(
            (
                "repeats",
                f"{at.num_repeated:,} of the audited images repeat another one of them; each of "
                "them counts",
            )
        )
    return said


def _tokens_said(readings: Sequence[Reading], at: Circumstances) -> list[tuple[str, str]]:
    if at.side is None or at.sides is None:
        return [("tokens", "the tokens were given: every score of equal tokens is exact")]
    least, most = at.sides
    said = [
        (
            "pixels",
            f"shorter sides of {least} ... {most} pixels, median {at.side}; {at.jpeg_share:.0%} "
            f"are JPEG. Held-out, training and planted images were shrunk to {at.side} pixels "
            "where they are larger, and tokenized again",
        )
    ]
    ways = _ways(at)
    kept = [
        f"{way} {share['all']:.1%}{_levels(share['levels'], at.level_names)}"
        for which, way in ways.items()
        if (share := at.agreement.get(which))
    ]
    said.append(
        ("kept tokens", f"share of their tokens that training images keep: {'; '.join(kept)}")
    )
    bounds = [reading for reading in readings if reading.is_lower_bound]
    if bounds:
        there = {which: way for which, way in ways.items() if which in at.sizes}
        read = [
            f"{reading.score} {' / '.join(reading.show(which) for which in there)}"
            for reading in bounds
        ]
        text = f"training images themselves read, {' / '.join(there.values())}"
        said.append(("lower bounds of copying", f"{text}: {'; '.join(read)}"))
    return said


def _ways(at: Circumstances) -> dict[str, str]:
    """Return the image sets made of training images, each with how its pixels were made."""
    return {
        "ceiling": f"at {at.side} pixels",
        "recoded": "as the tokenizer gives them back",
        "recoded_jpeg": f"as JPEG of quality {at.jpeg_quality}",
    }


def _levels(shares: Sequence[float], names: Sequence[str]) -> str:
    """Return the shares by level in brackets; empty for a tokenizer with one level."""
    told = ", ".join(f"{name}: {share:.1%}" for name, share in zip(names, shares, strict=True))
    return f" ({told})" if len(names) > 1 else ""


def _results_said(readings: Sequence[Reading], at: Circumstances) -> list[tuple[str, str]]:
    said = _alike_said(readings, at)
    for place in (TOWARD, AWAY, UNLIKE, AS_HELD_OUT):
        found = [reading.score for reading in readings if reading.places["generated"] == place]
        if found:
            said.append((place, f"the audited images are, by {_list(found)}"))
    for reading in readings:
        is_rate = reading.is_lower_bound and reading.info.unit == _OF_IMAGES
        if is_rate and reading.values["generated"] == 0 and reading.high:
            most = reading.info.show(reading.high)
            text = f"0 of {at.sizes['generated']:,} images; with 95 % confidence at most {most}"
            said.append((reading.score, text))
    return said


def _alike_said(readings: Sequence[Reading], at: Circumstances) -> list[tuple[str, str]]:
    """Say which known image sets the audited images resemble, and on how many scores."""
    told = []
    for which in at.sizes:
        known = sum(which in reading.comparable for reading in readings)
        met = sum(which in reading.alike for reading in readings)
        if known:
            told.append((met / known, f"{set_name(which, at)}: {met} of {known}"))
    if not told:
        return []
    told.sort(key=lambda pair: -pair[0])
    text = "scores whose interval meets that of the audited images, of "
    return [("reads like", text + "; ".join(said for _, said in told))]


def set_name(which: str, at: Circumstances) -> str:
    """Return the name of an image set in words."""
    return {
        "floor": "held-out images",
        "ceiling": "training images",
        "recoded": "training images as the tokenizer gives them back",
        "recoded_jpeg": f"training images as JPEG of quality {at.jpeg_quality}",
    }.get(which, f"planted {which}")


def _sight_said(
    readings: Sequence[Reading], recipe: str, what: str, at: Circumstances
) -> list[tuple[str, str]]:
    """Say which scores detect a planted set, which are blind to it, and which misread it."""
    if recipe not in at.sizes:
        return []
    planted = f"{at.sizes[recipe]:,} images of planted {what}"
    kinds = {
        TOWARD: (f"sees {what}", f"{planted} read nearer to training images than held-out ones"),
        AS_HELD_OUT: (f"blind to {what}", f"{planted} read as held-out images do"),
        AWAY: (f"misreads {what}", f"{planted} read farther from training than held-out ones"),
        UNLIKE: (f"no scale for {what}", f"{planted} read unlike held-out and training images"),
    }
    said = []
    for place, (label, text) in kinds.items():
        names = [reading.score for reading in readings if reading.places.get(recipe) == place]
        if names:
            said.append((label, f"{text}, by {_list(names)}"))
    return said


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
