"""Philox4x32-10, compiled: the same bits as ``imagegram/seeding.py``, which explains them.

>>> import numpy as np
>>> from imagegram import seeding
>>> uniforms(np.uint64(1), np.uint64(2), 3) == seeding.uniforms(seed=1, sample=2, position=3)
True
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.compiled import njit
from imagegram.indexes.kernels.search import Int

_M0: Final = np.uint64(0xD2511F53)
_M1: Final = np.uint64(0xCD9E8D57)
_W0: Final = np.uint64(0x9E3779B9)
_W1: Final = np.uint64(0xBB67AE85)
_MASK: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_DROPPED: Final = np.uint64(11)


@njit(cache=True, nogil=True)
def uniforms(seed: np.uint64, sample: np.uint64, position: Int) -> tuple[float, float]:
    """Return two uniforms in [0, 1) of 53 bits: one chooses the token, one its source."""
    c0, c1 = np.uint64(position) & _MASK, sample & _MASK
    c2, c3 = sample >> _HALF, np.uint64(0)
    k0, k1 = seed & _MASK, seed >> _HALF
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _MASK, (p0 >> _HALF) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    first, second = (c0 << _HALF) | c1, (c2 << _HALF) | c3
    return (first >> _DROPPED) * 2.0**-53, (second >> _DROPPED) * 2.0**-53
