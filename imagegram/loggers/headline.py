"""The few numbers of a run that dashboards, sweeps and searches hold on to, under names that stay.

    from imagegram.loggers.headline import dashboard, headline
    headline(summary["scores"])["kid"].value

Scores are named after their encoder and grow in number; these short names do not. They are aliases:
two runs may be compared by them only where N, encoder, resize and codec are the same, which
:func:`full_name` writes into a name of its own.

Everywhere here ``scores`` are as ``summary.json`` has them: score name -> ``value``, ``floor``,
``ceiling``, ``low``, ``high`` ..., each a number or None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

from imagegram.records import Measured

Scores = Mapping[str, Mapping[str, float | None]]
#: Score name -> image set -> its 95 % interval, as ``scores.json`` has them.
Intervals = Mapping[str, Mapping[str, Sequence[float | None]]]
Recipes = Mapping[str, Mapping[str, str]]

#: Short name -> the score it is made of, and what of it: the value, its held-out floor, or the
#: value less the floor. A pattern must match exactly one score: two encoders have no common name.
HEADLINE: Final[Mapping[str, tuple[str, Literal["value", "floor", "gap"]]]] = {
    "forced_copy_rate": ("forced_copy_rate", "value"),
    "exact_copy_rate": ("exact_copy_rate", "value"),
    "near_dup_rate_fpr1pct": ("near_dup_rate_fpr1pct", "value"),
    "patch_copy_gap": ("patch_copy_rate", "gap"),
    "max_source_share_p95": ("max_source_share_p95", "value"),
    "novelty_auc_gap": ("novelty_auc", "gap"),
    "heldout_bits_per_token": ("bits_per_token", "floor"),
    "kid": ("kd_*", "value"),
    "fd_minus_floor": ("fd_*", "gap"),
    "coverage": ("coverage", "value"),
}
#: What dashboards put these names below.
SECTION: Final = "eval/"


def headline(scores: Scores, intervals: Intervals | None = None) -> dict[str, Measured]:
    """The short list of one run; what was not measured is absent.

    Args:
        scores: of the run.
        intervals: of the image sets; without them a floor has no interval.

    Returns:
        Short name -> value with its 95 % interval. Of a difference the interval is that of the
        value, shifted by the floor: the noise of the floor is not in it.

    >>> headline({"kd_pixels": {"value": 0.5}, "novelty_auc": {"value": 0.25, "floor": 0.75}})
    {'novelty_auc_gap': Measured(value=-0.5, low=None, high=None, note=''), \
'kid': Measured(value=0.5, low=None, high=None, note='')}
    """
    found: dict[str, Measured] = {}
    for short, (pattern, what) in HEADLINE.items():
        names = [name for name in scores if fnmatchcase(name, pattern)]
        if len(names) != 1:
            continue
        score = scores[names[0]]
        value, low, high, floor = (score.get(part) for part in ("value", "low", "high", "floor"))
        if what == "floor":
            value = floor
            low, high = (intervals or {}).get(names[0], {}).get("floor", (None, None))
        shift = floor if what == "gap" else 0.0
        if value is not None and shift is not None:
            found[short] = Measured(
                value=value - shift,
                low=None if low is None else low - shift,
                high=None if high is None else high - shift,
            )
    return found


def full_name(score: str, recipe: Mapping[str, str]) -> str:
    """A score's name with what two numbers must share to be comparable: N, encoder and resize.

    Args:
        score: its name in ``scores.json``.
        recipe: ``N``, ``encoder`` and ``resize``, as far as they matter.

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
    scores: Scores, *, recipes: Recipes | None = None, intervals: Intervals | None = None
) -> dict[str, float]:
    """Every number that a logger shows for one run, by its key; what is not defined is absent.

    Three families below ``eval/``: ``<score>`` and ``<score>_<part>`` as in ``summary.json``; the
    value and the floor of every score with a recipe under its full name; and the short list, with
    ``_lo`` and ``_hi``.

    Args:
        scores: of the run.
        recipes: by score name.
        intervals: by score name and image set.
    """
    numbers: dict[str, float | None] = {}
    for name, score in scores.items():
        for part, number in score.items():
            numbers[name if part == "value" else f"{name}_{part}"] = number
    for name, recipe in (recipes or {}).items():
        if name in scores and (full := full_name(name, recipe)) != name:
            numbers[full] = scores[name].get("value")
            numbers[f"{full}_floor"] = scores[name].get("floor")
    for short, measured in headline(scores, intervals).items():
        ends = {f"{short}_lo": measured.low, f"{short}_hi": measured.high}
        numbers |= {short: measured.value, **ends}
    return {f"{SECTION}{key}": number for key, number in numbers.items() if number is not None}
