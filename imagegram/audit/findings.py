"""Findings: the conclusions of an audit, in words, from the numbers of its evaluation.

What was found and whether it is more than held-out images show is the answer of any report
(``report/answer.py``). An audit adds what its scores could have found: planted sets contain a known
amount of copying, so their places show which scores do not see it, and re-encoded training images
show what is left of a copy that was saved again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagegram.numerals import count_text, list_text, number_text, reasons_text
from imagegram.report.answer import by_importance
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
    UNLIKE,
    WORSE,
    Reading,
)
from imagegram.report.tables import planted_label

#: Scores that a finding names; ``audit.json`` has the places of all.
_NAMED: Final = 6
#: Places in which a planted set is not told apart from held-out images.
_NOT_APART: Final = (AS_HELD_OUT, UNDECIDED, NONE_FOUND)


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
        noun, nouns: words for the audited items.
        encoding: how texts became tokens; empty: they are images, or tokens were given.
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
    noun: str = "image"
    nouns: str = "images"
    encoding: str = ""


def what_it_tells(
    readings: Sequence[Reading], at: Circumstances, recipes: Mapping[str, Mapping[str, str]]
) -> list[tuple[str, str]]:
    """Return (label, sentence) pairs, the most important first.

    Args:
        readings: all scores.
        at: facts about the audited files.
        recipes: recipe of each score, by name; a recipe shows whether a score compares pictures.
    """
    ranked = by_importance(readings)
    images, *more_images = _images_said(at)
    kept, *more_tokens = _tokens_said(ranked, at)
    said = [images, *_alike_said(readings, at), kept]
    planted = (("copies_5", "5 % copies"), ("collages", "collages"))
    seen = [_sight_said(ranked, recipe, what, at) for recipe, what in planted]
    said += [pair for told in seen for pair in told[:1]]
    said += [*more_images, *_places_said(ranked), *more_tokens]
    said += [pair for told in seen for pair in told[1:]]
    pictures = [r for r in ranked if {"encoder", "codec"} & recipes[r.score].keys()]
    if pictures and at.side is not None:
        text = "compare pictures as the tokenizer gives them back, on both sides"
        said.append(("pictures", f"{_names(pictures)} {text}: a detail that it loses is not seen"))
    if traced := [reading for reading in ranked if reading.info.reads_trace]:
        text = f"of what the sampler {at.sampler} would have had to do to write these {at.nouns}"
        said.append(("replay", f"{_names(traced)} are those of a replay, {text}"))
    return said


def doubts(readings: Sequence[Reading], at: Circumstances) -> list[str]:
    """Return what a count of copies misses: training images that were saved again."""
    told: list[str] = []
    if at.side is None:  # nothing was saved again
        return told
    for reading in readings:
        shares = {way: reading.values.get(which) for which, way in _ways(at).items()}
        missed = {way: value for way, value in shares.items() if value is not None and value < 1}
        if reading.info.counts and missed:
            found = [f"{_percent(value)} of training images {way}" for way, value in missed.items()]
            told.append(
                f"A copy that was saved again may be missed: {reading.info.counts[1]} are found in "
                f"{list_text(found)}."
            )
    return told


def _images_said(at: Circumstances) -> list[tuple[str, str]]:
    sizes = at.sizes
    text = f"{count_text(sizes['generated'], at.noun, at.nouns)} measured"
    text += f"; skipped: {reasons_text(at.skipped)}" if at.skipped else ""
    if at.num_others:
        what = "an image" if at.noun == "image" else f"a {at.noun}"
        text += f"; {at.num_others:,} other files in the folder have no name of {what}"
    text += f"; beside them {sizes['ceiling']:,} training {at.nouns}"
    floor = sizes.get("floor")
    text += f" and {floor:,} held-out {at.nouns}" if floor else ", but no held-out ones: no floor"
    said = [(at.nouns, text)]
    if floor and floor != sizes["generated"]:
        said.append(
            (
                "sizes",
                f"with {sizes['generated']:,} audited and {floor:,} held-out {at.nouns}, scores "
                f"that move with the number of {at.nouns} are not compared; to compare them, type "
                f"num_samples={min(floor, sizes['generated'])}",
            )
        )
    if at.num_repeated:
        said.append(
            (
                "repeats",
                f"{at.num_repeated:,} of the audited {at.nouns} repeat another one of them; each "
                "of them counts",
            )
        )
    return said


def _tokens_said(readings: Sequence[Reading], at: Circumstances) -> list[tuple[str, str]]:
    if at.encoding:
        return [("tokens", at.encoding)]
    if at.side is None or at.sides is None:
        return [("tokens", "the tokens were given: every score of equal tokens is exact")]
    least, most = at.sides
    jpeg = _percent(at.jpeg_share)
    ways = _ways(at)
    kept = [
        f"{_percent(share['all'])} {way}{_levels(share['levels'], at.level_names)}"
        for which, way in ways.items()
        if (share := at.agreement.get(which))
    ]
    said = [
        ("kept tokens", f"training images keep of their own tokens {'; '.join(kept)}"),
        (
            "pixels",
            f"shorter sides of {least} ... {most} pixels, median {at.side}; {jpeg} are JPEG. "
            f"Held-out, training and planted images were shrunk to {at.side} pixels where they are "
            "larger, and tokenized again",
        ),
    ]
    bounds = [reading for reading in readings if reading.is_lower_bound]
    if bounds:
        there = {which: way for which, way in ways.items() if which in at.sizes}
        read = [
            f"{name(reading)} {' / '.join(reading.show(which) for which in there)}"
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
    told = ", ".join(f"{at} {_percent(share)}" for at, share in zip(names, shares, strict=True))
    return f" ({told})" if len(names) > 1 else ""


def _places_said(readings: Sequence[Reading]) -> list[tuple[str, str]]:
    """Say by which scores the audited images are where, one pair a place."""
    said = []
    for place in (MORE, LESS, TOWARD, AWAY, WORSE, BETTER, UNLIKE, AS_HELD_OUT, UNDECIDED):
        if found := [reading for reading in readings if reading.place == place]:
            said.append((place, _names(found)))
    return said


def _alike_said(readings: Sequence[Reading], at: Circumstances) -> list[tuple[str, str]]:
    """Say which known image sets the audited images resemble, and on how many scores."""
    told = []
    for which in at.sizes:
        known = sum(which in reading.comparable for reading in readings)
        met = sum(which in reading.alike for reading in readings)
        if known:
            told.append((met / known, f"{set_name(which, at)} {met} of {known}"))
    if not told:
        return []
    told.sort(key=lambda pair: -pair[0])
    text = "scores whose intervals meet those of "
    return [("reads like", text + ", ".join(said for _, said in told))]


def set_name(which: str, at: Circumstances) -> str:
    """Return the name of an image set in words."""
    return {
        "floor": f"held-out {at.nouns}",
        "ceiling": f"training {at.nouns}",
        "recoded": "training images as the tokenizer gives them back",
        "recoded_jpeg": f"training images as JPEG of quality {at.jpeg_quality}",
    }.get(which, f"planted {planted_label(which)}")


def _sight_said(
    readings: Sequence[Reading], recipe: str, what: str, at: Circumstances
) -> list[tuple[str, str]]:
    """Say which scores do not see a planted set, then which see or misread it."""
    if recipe not in at.sizes:
        return []
    planted = f"{at.sizes[recipe]:,} {at.nouns} of planted {what}"
    kinds = {
        _NOT_APART: (f"blind to {what}", f"{planted} are not told from held-out {at.nouns}"),
        (MORE, TOWARD, FOUND): (f"sees {what}", f"{planted} read nearer to training {at.nouns}"),
        (LESS, AWAY): (f"misreads {what}", f"{planted} read farther from training {at.nouns}"),
        (UNLIKE, WORSE, BETTER): (f"no scale for {what}", f"{planted} read otherwise"),
    }
    said = []
    for places, (label, text) in kinds.items():
        if found := [reading for reading in readings if reading.places.get(recipe) in places]:
            known = sum(bool(reading.places.get(recipe)) for reading in readings)
            said.append((label, f"{text} by {len(found)} of {known} scores: {_names(found)}"))
    return said


def name(reading: Reading) -> str:
    """Return what readers call a score."""
    return reading.info.title or reading.score


def _names(readings: Sequence[Reading]) -> str:
    """Return the first names, and how many follow."""
    more = len(readings) - _NAMED
    named = ", ".join(map(name, readings[:_NAMED]))
    return f"{named} and {more} more" if more > 0 else named


def _percent(share: float) -> str:
    return number_text(share, is_share=True)
