"""Screens, compiled: which runs of some lengths a stream may hold.

A screen is a Bloom filter whose four bits for a run lie in one line of 64 bytes, so a look costs
one cache miss. "No" is certain; "yes" is wrong for about one run in a hundred. Runs that begin at
one place of their documents share few lines, where places are told apart: images that are written
in step find them in the cache.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import load_u16, load_u64
from imagegram.indexes.kernels.search import Int
from imagegram.records import EOS_TOKEN_ID

_EOS: Final = EOS_TOKEN_ID
#: Bits of a run.
_BITS: Final = 4
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_PLACE: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_HALF: Final = np.uint64(32)
_SIX: Final = np.uint64(6)
_SEVEN: Final = np.uint64(7)
_EIGHT: Final = np.uint64(8)
_NINE: Final = np.uint64(9)
_LOW: Final = np.uint64(63)
_ONE: Final = np.uint64(1)


@njit(inline="always", cache=True, counts=False)
def mix_run(value: np.uint64, place: Int) -> np.uint64:
    """Mix the polynomial of a run, and the place in its document where it begins (0: any)."""
    mixed = (value ^ (np.uint64(place) * _PLACE)) * _MIX
    mixed = (mixed ^ (mixed >> _HALF)) * _BASE
    return mixed ^ (mixed >> np.uint64(29))


@njit(inline="always", cache=True, counts=False)
def hash_run(ids: NDArray[np.uint16], start: Int, end: Int, placed: bool) -> np.uint64:
    """Return the hash of ``ids[start:end]``, where ``ids`` is a document after its separator."""
    value = np.uint64(0)
    for i in range(start, end):
        value = value * _BASE + np.uint64(ids[i]) + _ONE
    return mix_run(value, start if placed else 0)


@njit(inline="always", cache=True, counts=False)
def line_of(mixed: np.uint64, place: Int, num_words: Int, pitch: Int) -> Int:
    """Return the first word of the line that holds the bits of a run.

    Args:
        mixed: hash of the run.
        place: index of its beginning in its document.
        num_words: words of the screen.
        pitch: lines of a place in units of 2^-32; 0: runs of all places share all lines.
    """
    first, lines = np.uint64(0), np.uint64(num_words >> 3)
    if pitch > 0:
        first = (np.uint64(place) * np.uint64(pitch)) >> _HALF
        lines = max((np.uint64(place + 1) * np.uint64(pitch) >> _HALF) - first, _ONE)
    return np.int64(first + (((mixed >> _HALF) * lines) >> _HALF)) << 3


@njit(inline="always", cache=True, counts=False)
def may_hold(line: np.uint64, mixed: np.uint64) -> bool:
    """Whether the stream of a screen may hold a run, whose bits lie in the line at an address."""
    for _ in range(_BITS):
        word = load_u64(line + _EIGHT * ((mixed >> _SIX) & _SEVEN))
        if (word >> (mixed & _LOW)) & _ONE == 0:
            return False
        mixed >>= _NINE
    return True


@njit(cache=True, nogil=True, counts=False)
def fill_screen(
    stream: np.uint64,
    num_tokens: Int,
    length: Int,
    stride: Int,
    words: NDArray[np.uint64],
    pitch: Int,
) -> None:
    """Set the bits of every run of ``length`` tokens with no separator but at its beginning.

    Args:
        stream: address of the uint16 tokens.
        num_tokens: of the stream.
        length: k, at least 1.
        stride: tokens of a document and its separator, where runs are told apart by the place in
            the document where they begin; 0: runs are the same everywhere.
        words: (W,) written, W a multiple of 8.
        pitch: see :func:`line_of`; 0 without a stride.
    """
    value, oldest, since = np.uint64(0), np.uint64(1), 0
    for _ in range(length - 1):
        oldest *= _BASE
    for i in range(num_tokens):
        token = np.uint64(load_u16(stream + np.uint64(2 * i)))
        if i >= length:
            gone = np.uint64(load_u16(stream + np.uint64(2 * (i - length))))
            value -= (gone + _ONE) * oldest
        value = value * _BASE + token + _ONE
        since = 1 if token == np.uint64(_EOS) else since + 1
        if since >= length:
            first = i - length + 1
            place = first % stride if stride > 0 else 0
            mixed = mix_run(value, place)
            line = line_of(mixed, place, words.size, pitch)
            for _ in range(_BITS):
                word = line + np.int64((mixed >> _SIX) & _SEVEN)
                words[word] |= _ONE << (mixed & _LOW)
                mixed >>= _NINE
