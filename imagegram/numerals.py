"""How numbers are written: one style for the console, the reports and the sweeps.

A share of 1 is written in per cent with one decimal, below 1 % with two digits; other numbers have
three digits. What is exactly zero or all has no decimals, so that it differs from what is near it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from imagegram.errors import UNKNOWN_LOSS

#: Written where a number is missing.
MISSING: Final = "—"
_CONFIDENCE: Final = 0.95


def share_text(share: float) -> str:
    """Return a share of 1 in per cent, without the sign.

    >>> [share_text(share) for share in (0, 0.05, 0.2857, 0.006, 1, 0.99996, 0.00000012)]
    ['0', '5.0', '28.6', '0.60', '100', '>99.9', '<0.01']
    """
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f}"
    if 99.95 <= percent < 100:
        return ">99.9"
    if abs(percent) < 0.01:
        return "<0.01" if percent > 0 else ">-0.01"
    size = abs(percent)
    decimals = 1 if size >= 0.995 else 2 if size >= 0.0995 else 3
    return f"{percent:.{decimals}f}"


def plain_text(value: float) -> str:
    """Return a number with three digits, and at most three decimals.

    >>> [plain_text(value) for value in (1, 1234.5, 80.53, 2.1312, -0.0123, 0.00002)]
    ['1', '1,234', '80.5', '2.13', '-0.012', '<0.001']
    """
    size = abs(value)
    if float(value).is_integer() or size >= 99.95:
        return f"{value:,.0f}"
    if size < 0.001:
        return "<0.001" if value > 0 else ">-0.001"
    decimals = 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{decimals}f}"


def number_text(value: float | None, *, is_share: bool) -> str:
    """Return a number as readers see it; a dash where there is none.

    >>> number_text(0.5, is_share=True), number_text(2.5, is_share=False)
    ('50.0 %', '2.50')
    """
    if value is None:
        return MISSING
    return f"{share_text(value)} %" if is_share else plain_text(value)


def interval_text(low: float | None, high: float | None, *, is_share: bool) -> str:
    """Return an interval in brackets; empty where there is none.

    >>> interval_text(0.037, 1, is_share=True), interval_text(-0.5, 0.25, is_share=False)
    ('[3.7, 100] %', '[-0.500, 0.250]')
    """
    if low is None or high is None:
        return ""
    if is_share:
        return f"[{share_text(low)}, {share_text(high)}] %"
    return f"[{plain_text(low)}, {plain_text(high)}]"


def tied(text: str) -> str:
    r"""Return a text in which no line breaks before a per cent sign or inside an interval.

    >>> tied("7.5 % [5.3, 10.1]").split(" ")
    ['7.5\xa0%', '[5.3,\xa010.1]']
    """
    return re.sub(r" (?=%)|(?<=,) (?=[^\[\]]*\])", "\N{NO-BREAK SPACE}", text)


def at_most(trials: int) -> float:
    """Return the largest rate that 95 % confidence leaves where none of ``trials`` was a hit.

    The one-sided limit of Clopper and Pearson, about 3 / trials.

    >>> share_text(at_most(64))
    '4.6'
    """
    return float(1 - (1 - _CONFIDENCE) ** (1 / trials))


def count_text(count: int, one: str, several: str) -> str:
    """Return a number of things in words.

    >>> count_text(1, "sample", "samples"), count_text(1000, "sample", "samples")
    ('1 sample', '1,000 samples')
    """
    return f"{count:,} {one if count == 1 else several}"


def list_text(parts: list[str], *, last: str = "and") -> str:
    """Return parts of a sentence, joined.

    >>> list_text(["a"]), list_text(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return f" {last} ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def reasons_text(counts: Mapping[str, int]) -> str:
    """Return how many were left out, by reason.

    >>> reasons_text({"truncated": 3, "empty_file": 1})
    '3 truncated, 1 empty file'
    >>> reasons_text({"truncated_tar": 1})
    '1 truncated tar (HOW MANY MORE ARE LOST IS UNKNOWN)'
    """
    return ", ".join(
        f"{count:,} {reason.replace('_', ' ')}"
        + (" (HOW MANY MORE ARE LOST IS UNKNOWN)" if reason in UNKNOWN_LOSS else "")
        for reason, count in counts.items()
    )
