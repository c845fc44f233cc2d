"""Rates of suspiciously near images, by thresholds that are set on held-out images.

A published threshold can flag a sixth of real, unseen images; so every distance gets its own, at
which at most 1 % of the held-out calibration images are flagged.

>>> held_out = np.arange(200.0)
>>> threshold_of(held_out), int((held_out < threshold_of(held_out)).sum())
(2.0, 2)
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import clopper_pearson
from imagegram.metrics.features import undefined
from imagegram.records import Measured

#: Largest share of held-out calibration images (or tiles) that a threshold may flag.
FALSE_POSITIVES: Final = 0.01
NO_CALIBRATION: Final = "no held-out images are left to set a threshold on"


def allowed(num_held_out: int) -> int:
    """Return how many held-out images may be flagged: at most 1 %, so none of fewer than 100."""
    return int(FALSE_POSITIVES * num_held_out)


def threshold_of(held_out: NDArray[np.float64]) -> float:
    """Return the threshold that a flagged distance is *below*: that of the next held-out image.

    Below and not equal: with whole-number distances, many held-out images can lie at the threshold,
    and all of them would be flagged.

    Args:
        held_out: (N,) distances of held-out images, N > 0.
    """
    return float(np.partition(held_out, allowed(len(held_out)))[allowed(len(held_out))])


def never_flags(threshold: float) -> str | None:
    """Return why a threshold cannot flag even a copy, or None if it can."""
    if threshold > 0:
        return None
    return "more than 1 % of the held-out ones are at distance 0, so that a copy proves nothing"


def flagged_rate(distances_B: NDArray[np.float64], held_out: NDArray[np.float64]) -> Measured:
    """Return the share of images nearer than 99 % of held-out images, with exact interval.

    Args:
        distances_B: one distance per image.
        held_out: distances of the calibration images, found in the same way.
    """
    if not len(held_out):
        return undefined(NO_CALIBRATION)
    threshold = threshold_of(held_out)
    if (reason := never_flags(threshold)) is not None:
        return undefined(reason)
    flagged = int((distances_B < threshold).sum())
    return clopper_pearson(successes=flagged, trials=len(distances_B))


def calibration_recipe(num_held_out: int) -> str:
    """Say how many held-out images set the thresholds, and how many of them may be flagged.

    >>> calibration_recipe(64)
    '64 held-out images, of which at most 0 are flagged'
    """
    return f"{num_held_out} held-out images, of which at most {allowed(num_held_out)} are flagged"
