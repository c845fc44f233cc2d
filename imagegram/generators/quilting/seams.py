"""Seams: where a patch is cut, so that it differs least from what lies below it.

The minimum error boundary cut of Efros and Freeman, "Image quilting for texture synthesis and
transfer", SIGGRAPH 2001: the path through a strip, from end to end, on which the squared
differences are least.

>>> seam = least_seams(np.array([[[5, 1, 9], [9, 5, 1], [5, 1, 9]]]))
>>> seam[0].astype(int).tolist()  # 1: of the patch
[[0, 1, 1], [0, 0, 1], [0, 1, 1]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def least_seams(errors_BLW: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return what of (B, L, W) strips belongs to the patch: the seam, and all behind it.

    A seam goes through all L lines and moves by one place at most from line to line; of equal ones
    that which begins, seen from the last line, farther in front.

    Args:
        errors_BLW: squared differences at every place, W in front of the patch to inside it.
    """
    count, lines, width = errors_BLW.shape
    costs = errors_BLW.astype(np.int64)
    far = np.iinfo(np.int64).max // 4
    for line in range(1, lines):
        before = np.pad(costs[:, line - 1], ((0, 0), (1, 1)), constant_values=far)
        least = np.minimum(np.minimum(before[:, :-2], before[:, 1:-1]), before[:, 2:])
        costs[:, line] += least
    rows, places = np.arange(count), np.arange(width)
    taken = np.empty((count, lines, width), dtype=np.bool_)
    at_B = costs[:, -1].argmin(axis=1)
    taken[:, -1] = places >= at_B[:, None]
    for line in range(lines - 2, -1, -1):
        before = np.pad(costs[:, line], ((0, 0), (1, 1)), constant_values=far)
        three = before[rows[:, None], at_B[:, None] + np.arange(3)]
        at_B = at_B + three.argmin(axis=1) - 1
        taken[:, line] = places >= at_B[:, None]
    return taken
