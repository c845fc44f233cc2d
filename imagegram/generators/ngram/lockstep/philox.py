"""Philox4x32-10 on a device: the bits of ``imagegram/seeding.py``, which explains them.

>>> from imagegram import seeding
>>> samples = torch.tensor([2])
>>> first, second = uniforms(seed=1, samples_B=samples, positions_P=torch.tensor([3]))
>>> (first.item(), second.item()) == seeding.uniforms(seed=1, sample=2, position=3)
True
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_M0: Final = 0xD2511F53
_M1: Final = 0xCD9E8D57
_W0: Final = 0x9E3779B9
_W1: Final = 0xBB67AE85
_MASK: Final = 0xFFFFFFFF


def uniforms(*, seed: int, samples_B: Tensor, positions_P: Tensor) -> tuple[Tensor, Tensor]:
    """Return two uniforms in [0, 1) of 53 bits for every position and sample.

    Args:
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) int64 tensor of the bits of uint64 sample ids.
        positions_P: (P,) int64.

    Returns:
        Two (P, B) float64 tensors: one chooses the token, one its source.
    """
    shape = (positions_P.numel(), samples_B.numel())
    c0 = (positions_P & _MASK)[:, None].expand(shape)
    c1 = (samples_B & _MASK).expand(shape)
    c2 = (samples_B >> 32 & _MASK).expand(shape)
    c3 = torch.zeros_like(c0)
    k0, k1 = seed & _MASK, seed >> 32
    for _ in range(10):
        p0, p1 = _multiply(_M0, c0), _multiply(_M1, c2)
        c0, c1, c2, c3 = p1[0] ^ c1 ^ k0, p1[1], p0[0] ^ c3 ^ k1, p0[1]
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    # The upper 53 of the 64 bits, put together without the sign bit.
    first, second = c0 << 21 | c1 >> 11, c2 << 21 | c3 >> 11
    return first.double() * 2.0**-53, second.double() * 2.0**-53


def _multiply(factor: int, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return upper and lower half of the 64-bit product of two unsigned 32-bit numbers."""
    low = words * (factor & 0xFFFF)
    high = words * (factor >> 16) + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | (low & 0xFFFF)
