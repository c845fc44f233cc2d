"""The search for near-duplicates, compiled: one query against all thumbnails, many at a time."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from imagegram.compiled import njit

_SIDE: Final = 16
_BLOCK: Final = 4
#: Sums of 4x4 blocks: 4 x 4 blocks of 3 colours.
NUM_SUMS: Final = (_SIDE // _BLOCK) ** 2 * 3
#: Thumbnails that are compared as one block.
_TOGETHER: Final = 512


@njit(cache=True, nogil=True)
def block_sums(thumbnails: Any, sums: Any) -> None:
    """Sum the 4x4 blocks of (N, 768) uint8 thumbnails into (48, N) int32."""
    sums[:] = 0
    for n in range(len(thumbnails)):
        for y in range(_SIDE):
            for x in range(_SIDE):
                block = ((y // _BLOCK) * (_SIDE // _BLOCK) + x // _BLOCK) * 3
                for c in range(3):
                    sums[block + c, n] += thumbnails[n, (y * _SIDE + x) * 3 + c]


@njit(cache=True, nogil=True)
def find_near(
    thumbnails: Any, sums: Any, queries: Any, first: Any, end: Any, limit: Any, found: Any
) -> Any:
    """Find thumbnails whose summed squared difference to a query is at most ``limit``.

    Args:
        thumbnails: (N, 768) uint8.
        sums: (48, N) int32, their :func:`block_sums`.
        queries: (1, 768) uint8.
        first: lowest index to look at.
        end: one more than the highest.
        limit: float64.
        found: (N,) int64, filled with indices in ascending order.

    Returns:
        How many were found.
    """
    wanted = np.empty((NUM_SUMS, 1), dtype=np.int32)
    block_sums(queries, wanted)
    squares = np.empty(_TOGETHER, dtype=np.int32)  # at most 48 * 4080**2
    count = 0
    for start in range(first, end, _TOGETHER):
        n = min(_TOGETHER, end - start)
        for j in range(n):
            squares[j] = 0
        for d in range(NUM_SUMS):
            row, centre = sums[d, start : start + n], wanted[d, 0]
            for j in range(n):
                squares[j] += (row[j] - centre) * (row[j] - centre)
        for j in range(n):
            # A block's sum differs by 16 times its mean difference, so its square by at most 16
            # times the squares of the block (Jensen): sums too far apart rule the pair out.
            if (
                squares[j] <= limit * (_BLOCK * _BLOCK)
                and _square(thumbnails[start + j], queries[0]) <= limit
            ):
                found[count] = start + j
                count += 1
    return count


@njit(cache=True, nogil=True)
def _square(a: Any, b: Any) -> Any:
    """Return the summed squared difference of two thumbnails."""
    total: Any = 0
    for d in range(len(a)):
        step = np.int32(a[d]) - np.int32(b[d])
        total += step * step
    return total
