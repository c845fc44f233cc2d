"""Seams: where a patch is cut, so that it differs least from what lies below it.

The minimum error boundary cut of Efros and Freeman, "Image quilting for texture synthesis and
transfer", SIGGRAPH 2001: the path through a strip, from end to end, on which the squared
differences are least.

>>> seam = least_seams(np.array([[[5, 1, 9], [9, 5, 1], [5, 1, 9]]]))
>>> seam[0].astype(int).tolist()  # 1: of the patch
[[0, 1, 1], [0, 0, 1], [0, 1, 1]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Views of (..., H, W) arrays in which a side lies on the left, and lines are rows: left, right,
#: top, bottom.
SIDES: Final[tuple[Callable[[NDArray[Any]], NDArray[Any]], ...]] = (
    lambda array: array,
    lambda array: array[..., ::-1],
    lambda array: array.swapaxes(-1, -2),
    lambda array: array[..., ::-1, :].swapaxes(-1, -2),
)


class Cut(NamedTuple):
    """Where a patch is cut: lines ``first ... last - 1`` of one of the :data:`SIDES`."""

    side: int
    first: int
    last: int


def runs(lines: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where each run of true values begins, and what is behind its end.

    >>> runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    padded = np.concatenate(([False], lines, [False]))
    changes = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(changes[::2], changes[1::2], strict=True))


def cut_patches(
    errors_BHW: NDArray[np.integer], cuts: Iterable[Cut], strip: int
) -> NDArray[np.bool_]:
    """Return what of (B, H, W) patches is painted over what lies below them.

    Args:
        errors_BHW: squared differences of the patches from what is painted.
        cuts: where they are cut, each along its own seam.
        strip: pixels of a line, from outside in, that a seam may go through.
    """
    taken = np.ones(errors_BHW.shape, dtype=np.bool_)
    for side, first, last in cuts:
        lines = np.s_[:, first:last, :strip]
        kept = SIDES[side](taken)[lines]  # a view
        kept &= least_seams(SIDES[side](errors_BHW)[lines])
    return taken


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
