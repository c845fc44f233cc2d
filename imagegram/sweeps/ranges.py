"""Ranges of axes: every value, floor and ceiling is inside; very long intervals are cut off.

With two seeds, an interval is easily ten times as long as the distance between all points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from imagegram.sweeps.aggregate import Estimate

_PADDING: Final = 0.06
#: Share of the distance between the points that an interval may add on either side.
_INTERVAL: Final = 0.5


def axis_range(
    estimates: Sequence[Estimate], others: Sequence[float], *, is_share: bool
) -> tuple[float, float]:
    """Return the ends of an axis.

    Args:
        estimates: estimates with their intervals.
        others: further numbers that must be inside: floors and ceilings.
        is_share: whether the numbers are shares of 1, so that the axis ends near 0 and 1.
    """
    inside = [estimate.value for estimate in estimates] + list(others)
    low, high = min(inside), max(inside)
    span = high - low or abs(high) or 1.0
    lows = [estimate.low for estimate in estimates if estimate.low is not None]
    highs = [estimate.high for estimate in estimates if estimate.high is not None]
    start = max(min([low, *lows]), low - _INTERVAL * span)
    end = min(max([high, *highs]), high + _INTERVAL * span)
    if is_share and low >= 0 and high <= 1:
        start, end = max(start, 0.0), min(end, 1.0)
    padding = _PADDING * ((end - start) or span)
    return start - padding, end + padding
