"""The headline numbers of a run: stable short names for dashboards, sweeps and searches.

    from imagegram.loggers.headline import headline
    headline(evaluation.record["scores"], evaluation.infos)["kid"].value

Score names contain the encoder and new ones are added; the short names that metrics define stay the
same. Short names are aliases: they compare two runs only where N, encoder, resize and codec are the
same. :func:`full_name` is a name that contains these.

Everywhere here ``scores`` are as ``summary.json`` has them: score name -> ``value``, ``floor``,
``ceiling``, ``low``, ``high`` ..., each a number or None.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from imagegram.records import Measured, ScoreInfo

Scores = Mapping[str, Mapping[str, float | None]]
#: Score name -> description of the score by its metric.
Infos = Mapping[str, ScoreInfo]
#: Score name -> image set -> its 95 % interval, as ``scores.json`` has them.
Intervals = Mapping[str, Mapping[str, Sequence[float | None]]]
Recipes = Mapping[str, Mapping[str, str]]

#: Prefix of the headline names in dashboards.
SECTION: Final = "eval/"


def headline(
    scores: Scores, infos: Infos, intervals: Intervals | None = None
) -> dict[str, Measured]:
    """Return the headline numbers of one run by short name; scores not measured are absent.

    A short name that two scores share is left out: two encoders have no common number.

    Args:
        scores: scores of the run.
        infos: define the short names, and the number behind each: the value, the held-out floor,
            or the value minus the floor.
        intervals: intervals of the image sets; without them a floor has no interval.

    Returns:
        Short name -> value with its 95 % interval. The interval of a difference is that of the
        value, shifted by the floor; it does not include the noise of the floor.

    >>> infos = {"kd_pixels": ScoreInfo(name="kd_pixels", short="kid")}
    >>> headline({"kd_pixels": {"value": 0.5}}, infos)
    {'kid': Measured(value=0.5, low=None, high=None, note='')}
    """
    named = [infos[name] for name in scores if name in infos and infos[name].short]
    count = Counter(info.short for info in named)
    found: dict[str, Measured] = {}
    for info in named:
        score = scores[info.name]
        value, low, high, floor = (score.get(part) for part in ("value", "low", "high", "floor"))
        if info.short_of == "floor":
            value = floor
            low, high = (intervals or {}).get(info.name, {}).get("floor", (None, None))
        shift = floor if info.short_of == "gap" else 0.0
        if value is not None and shift is not None and count[info.short] == 1:
            found[info.short] = Measured(
                value=value - shift,
                low=None if low is None else low - shift,
                high=None if high is None else high - shift,
            )
    return found


def full_name(score: str, recipe: Mapping[str, str]) -> str:
    """Return a score's name extended by N, encoder and resize, which comparable numbers share.

    Args:
        score: its name in ``scores.json``.
        recipe: ``N``, ``encoder`` and ``resize``, where they apply.

    Returns:
        Letters, digits and underscores only: dashboards sort and filter by nothing else.

    >>> recipe = {"N": "1000", "encoder": "efficientnet_lite0", "resize": "64 px"}
    >>> full_name("kd_efficientnet_lite0", recipe)
    'kd_n1000_efficientnet_lite0_r64'
    >>> full_name("precision", recipe | {"resize": "none px"})
    'precision_n1000_efficientnet_lite0'
    >>> full_name("exact_copy_rate", {})
    'exact_copy_rate'
    """
    encoder = re.sub(r"[^a-z0-9]+", "_", recipe.get("encoder", "").lower()).strip("_")
    parts = [score.removesuffix(f"_{encoder}") if encoder else score]
    if count := re.search(r"\d+", recipe.get("N", "")):
        parts.append(f"n{count[0]}")
    if encoder:
        parts.append(encoder)
    if side := re.search(r"\d+", recipe.get("resize", "")):
        parts.append(f"r{side[0]}")
    return re.sub(r"[^A-Za-z0-9_]+", "_", "_".join(parts))


def dashboard(
    scores: Scores,
    *,
    infos: Infos,
    recipes: Recipes | None = None,
    intervals: Intervals | None = None,
) -> dict[str, float]:
    """Return every number that loggers show for one run, by key; undefined ones are absent.

    Three families below ``eval/``: ``<score>`` and ``<score>_<part>`` as in ``summary.json``; the
    value and the floor of every score with a recipe under its full name; and the short list, with
    ``_lo`` and ``_hi``.

    Args:
        scores: scores of the run.
        infos: descriptions by score name.
        recipes: recipes by score name.
        intervals: intervals by score name and image set.
    """
    numbers: dict[str, float | None] = {}
    for name, score in scores.items():
        for part, number in score.items():
            numbers[name if part == "value" else f"{name}_{part}"] = number
    for name, recipe in (recipes or {}).items():
        if name in scores and (full := full_name(name, recipe)) != name:
            numbers[full] = scores[name].get("value")
            numbers[f"{full}_floor"] = scores[name].get("floor")
    for short, measured in headline(scores, infos, intervals).items():
        ends = {f"{short}_lo": measured.low, f"{short}_hi": measured.high}
        numbers |= {short: measured.value, **ends}
    return {f"{SECTION}{key}": number for key, number in numbers.items() if number is not None}
