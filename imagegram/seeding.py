"""Randomness as a pure function of (seed, sample, position).

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by the
seed and counted by sample and position: batch size, worker count and engine never change a
picture. This module is the readable definition; ``ngram/philox.py`` compiles the same bits.

>>> uniforms(seed=1, sample=2, position=3) == uniforms(seed=1, sample=2, position=3)
True
"""

from __future__ import annotations

from typing import Final

from imagegram.errors import ConfigError

_M0: Final = 0xD2511F53
_M1: Final = 0xCD9E8D57
_W0: Final = 0x9E3779B9
_W1: Final = 0xBB67AE85
_MASK: Final = 0xFFFFFFFF
MAX_SEED: Final = 2**64 - 1


def philox4x32(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32; every word is an unsigned 32-bit integer.

    Known answers of the authors' Random123 test suite:

    >>> [hex(word) for word in philox4x32((0, 0, 0, 0), (0, 0))]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def uniforms(*, seed: int, sample: int, position: int) -> tuple[float, float]:
    """Two independent uniforms in [0, 1) of 53 bits: to choose the token, and its source.

    Args:
        seed: 0 ... 2**64 - 1.
        sample: index of the sample, 0 ... 2**64 - 1.
        position: position of the token, 0 ... 2**32 - 1.
    """
    words = philox4x32(
        (position & _MASK, sample & _MASK, sample >> 32, 0), (seed & _MASK, seed >> 32)
    )
    first, second = words[0] << 32 | words[1], words[2] << 32 | words[3]
    return (first >> 11) * 2.0**-53, (second >> 11) * 2.0**-53


def check_counts(num_images: int, seed: int) -> None:
    """Refuse a count or a seed that no stage can have.

    Raises:
        ConfigError: saying what is allowed and what to type.
    """
    if num_images < 1:
        raise ConfigError(
            f"num_samples must be at least 1, received {num_images}: there is nothing to evaluate "
            "in no image. To stop before generation, use stages=[tokenize,index]"
        )
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed must lie in 0 ... 2**64 - 1, received {seed}; type seed=0")
