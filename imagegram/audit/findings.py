"""Findings: what an audit can tell, in words and numbers that the evaluation itself gave.

Every image set of a score is placed by its 95 % interval: where it touches that of held-out images
the score does not tell the two apart. So of the planted sets, whose copying is known, it follows
which scores are blind to it.
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

#: What a score may look at that other pixels of the same picture change.
_EQUAL_TOKENS: Final = frozenset({"ids", "matches"})
#: Unit of a share of images, each of which counts or does not.
_OF_IMAGES: Final = "% of samples"

Sets = Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One score of an audit.

    Attributes:
        info: which it is.
        values: by image set; ``generated`` is the audited one.
        low, high: 95 % interval of the audited value.
        places: by image set, where its interval lies; ``""`` where that is not known.
        alike: image sets whose interval meets that of the audited images.
        comparable: image sets of which that is known.
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
        """Its name."""
        return self.info.name

    @property
    def is_lower_bound(self) -> bool:
        """Whether the score counts equal tokens, fewer of which are left in other pixels."""
        counts = self.info.group == "copying" and self.info.better == "lower"
        return counts and self.info.is_share and _EQUAL_TOKENS.issuperset(self.info.needs)

    def show(self, which: str) -> str:
        """The value of one image set as text."""
        return self.info.show(self.values.get(which))

    def interval(self) -> str:
        """That of the audited images; empty without one."""
        if self.low is None or self.high is None:
            return ""
        return f"[{self.info.show(self.low)}, {self.info.show(self.high)}]"


def read_scores(evaluation: Evaluation, sizes: Mapping[str, int]) -> list[Reading]:
    """Place every image set on every score.

    Args:
        evaluation: of the audited images.
        sizes: images by image set.
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
    """Where each image set but the floor lies, by the ends of their intervals.

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
    """The interval of one set; None without one.

    A mean of equal numbers has none, and is a point: where a set that is no larger has one, images
    were not too few for it. A score that moves with the number of images has none for a set of
    another size than the floor.
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
    """What was audited, beside the scores.

    Attributes:
        sizes: images by image set.
        skipped: audited files that could not be read, by reason.
        num_others: files of the folder that are no images by their names.
        side: pixels of the audited files' shorter sides, their median; None: tokens were audited.
        sides: least and most of them.
        jpeg_share: of audited files that are JPEG by their names.
        jpeg_quality: of the training images that were saved as JPEG; None: none were.
        agreement: by image set, the share of tokens that training images keep; see
            ``token_agreement``.
        level_names: of the tokenizer's levels.
        num_repeated: audited images that repeat another one of them.
        sampler: whose trace was replayed.
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
    """(label, sentence) pairs: what was found, then what could be; all numbers are of this audit.

    Args:
        readings: all scores.
        at: what was audited.
        recipes: of scores, by name: tells which of them compare pictures.
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
    """Image sets of training images, and how they came."""
    return {
        "ceiling": f"at {at.side} pixels",
        "recoded": "as the tokenizer gives them back",
        "recoded_jpeg": f"as JPEG of quality {at.jpeg_quality}",
    }


def _levels(shares: Sequence[float], names: Sequence[str]) -> str:
    """Shares by level in brackets; nothing where one level holds all tokens."""
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
    """Which of the known sets the audited images read like, by the number of scores."""
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
    """An image set in words."""
    return {
        "floor": "held-out images",
        "ceiling": "training images",
        "recoded": "training images as the tokenizer gives them back",
        "recoded_jpeg": f"training images as JPEG of quality {at.jpeg_quality}",
    }.get(which, f"planted {which}")


def _sight_said(
    readings: Sequence[Reading], recipe: str, what: str, at: Circumstances
) -> list[tuple[str, str]]:
    """Which scores see a planted set, are blind to it, or misread it."""
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
