"""Randomness as a pure function of (seed, sample, position).

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by the
seed and counted by sample and position: batch size, worker count and engine never change a
picture. This module is the readable definition; ``ngram/philox.py`` compiles the same bits.

>>> uniforms(seed=1, sample=2, position=3) == uniforms(seed=1, sample=2, position=3)
True
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

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


def uniforms(*, seed: int, sample: int, position: int, step: int = 0) -> tuple[float, float]:
    """Two independent uniforms in [0, 1) of 53 bits: to choose the token, and its source.

    Args:
        seed: 0 ... 2**64 - 1.
        sample: index of the sample, 0 ... 2**64 - 1.
        position: position of the token, 0 ... 2**32 - 1.
        step: pass over the same positions, 0 ... 2**32 - 1.
    """
    words = philox4x32(
        (position & _MASK, sample & _MASK, sample >> 32, step), (seed & _MASK, seed >> 32)
    )
    first, second = words[0] << 32 | words[1], words[2] << 32 | words[3]
    return (first >> 11) * 2.0**-53, (second >> 11) * 2.0**-53


def uniform_rows(
    *, seed: int, samples_B: NDArray[np.uint64], num_tokens: int, step: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same two uniforms for whole rows, each (B, T).

    Args:
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) indices of the samples.
        num_tokens: positions 0 ... T - 1.
        step: pass over the same positions.

    >>> first, second = uniform_rows(
    ...     seed=1, samples_B=np.array([2], np.uint64), num_tokens=4, step=5
    ... )
    >>> (first[0, 3], second[0, 3]) == uniforms(seed=1, sample=2, position=3, step=5)
    True
    """
    mask, half = np.uint64(_MASK), np.uint64(32)
    shape = (len(samples_B), num_tokens)
    c0 = np.broadcast_to(np.arange(num_tokens, dtype=np.uint64), shape)
    c1 = np.broadcast_to((samples_B & mask)[:, None], shape)
    c2 = np.broadcast_to((samples_B >> half)[:, None], shape)
    c3 = np.full(shape, step, dtype=np.uint64)
    k0, k1 = seed & _MASK, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(_M0) * c0, np.uint64(_M1) * c2
        c0, c2 = (p1 >> half) ^ c1 ^ np.uint64(k0), (p0 >> half) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & mask, p0 & mask
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    first, second = c0 << half | c1, c2 << half | c3
    return _to_unit(first), _to_unit(second)


def _to_unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The upper 53 of 64 bits as a number in [0, 1)."""
    upper: NDArray[np.float64] = (words >> np.uint64(11)).astype(np.float64)
    return upper * 2.0**-53


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


def in_turn(samples: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """Return which of ``count`` things each of (B,) sample ids takes: the i-th, again and again.

    >>> in_turn(np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64), 2).tolist()
    [0, 1, 0, 1]
    """
    return (samples.astype(np.uint64) % np.uint64(count)).astype(np.int64)


def document_order(num_documents: int, seed: int) -> NDArray[np.int64]:
    """Return all document ids in the order of a seed, a permutation.

    Real documents are measured in this order, and captions are drawn in it.

    Args:
        num_documents: number of documents.
        seed: 0 ... 2**64 - 1.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    return generator.permutation(num_documents).astype(np.int64)
