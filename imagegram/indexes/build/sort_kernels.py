"""Compiled steps of building a table: tokens to code words, sorted bytes back to pointers.

Where words of one and two bytes mix, a *directory* leads from coded bytes to tokens: for every 64
coded bytes two uint64, a bit map of those that are the second of their word, and how many second
bytes come before (both from one cache line). It takes the place of the coded bytes, once they are
sorted, and no memory of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import count_ones, store_packed

_LOG_WORD = np.uint64(6)
_IN_WORD = np.uint64(63)
_ONE = np.uint64(1)


@njit(cache=True, nogil=True)
def encode(
    tokens: NDArray[np.uint16],
    lead: NDArray[np.uint8],
    second: NDArray[np.int16],
    coded: NDArray[np.uint8],
    start: int,
) -> int:
    """Write the words of a block of tokens to ``coded`` from ``start`` on; return their end.

    Args:
        tokens: (B,) block.
        lead: (65536,) first bytes.
        second: (65536,) second bytes, or -1.
        coded: the whole coded stream.
        start: where the block's first word begins.
    """
    end = start
    for token in tokens:
        coded[end] = lead[token]
        end += 1
        if second[token] >= 0:
            coded[end] = second[token]
            end += 1
    return end


@njit(cache=True, nogil=True)
def to_directory(coded: NDArray[np.uint8], long_lead: int) -> NDArray[np.uint64]:
    """Turn a coded stream, in its own memory, into the directory of its second bytes.

    Args:
        coded: (64 * W,) words and, behind them, anything; overwritten.
        long_lead: the one lead byte of words of two bytes.

    Returns:
        (2 * W,) a view of the first quarter of ``coded``, every part of which was read before.
    """
    directory = coded[: coded.size // 4].view(np.uint64)
    total, inside = np.uint64(0), False
    for word in range(coded.size // 64):
        bits = np.uint64(0)
        for k in range(64):
            if inside:
                bits |= _ONE << np.uint64(k)
                inside = False
            else:
                inside = coded[word * 64 + k] == long_lead
        directory[2 * word] = bits
        directory[2 * word + 1] = total
        total += count_ones(bits)
    return directory


@njit(cache=True, nogil=True)
def pointers(
    suffixes: Any, step: int, directory: NDArray[np.uint64], width: int, packed: np.uint64
) -> int:
    """Convert a block of sorted coded suffixes to byte positions in the token stream.

    Args:
        suffixes: (B,) positions in the coded stream, int32 or int64.
        step: bytes of every word, 1 or 2; 0: some have two.
        directory: read with ``step`` 0.
        width: bytes of a pointer.
        packed: address of the result: one pointer for every suffix that begins at a word.

    Returns:
        Pointers written.
    """
    count = 0
    for suffix in suffixes:
        place = np.uint64(suffix)
        if step == 0:
            cell, bit = 2 * (place >> _LOG_WORD), place & _IN_WORD
            bits, before = directory[cell], directory[cell + _ONE]
            if (bits >> bit) & _ONE:
                continue
            place -= before + count_ones(bits & ((_ONE << bit) - _ONE))
        elif step == 2:
            if place & _ONE:
                continue
            place >>= _ONE
        store_packed(packed, width, count, np.int64(place << _ONE))
        count += 1
    return count
