"""The pyramid's recursion, compiled: all levels of an image from one transposed copy of it.

What it computes is defined by :func:`imagegram.tokenizers.pyramid.encode_reference` and by the
decoding of ``PyramidTokenizer``; here it is done without a copy an array and a pass a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from imagegram.compiled import njit
from imagegram.images.resampling import (
    Taps,
    columns_first,
    resize_turned,
    resize_upright,
    transpose,
)

#: Largest residual; the id of residual r is at r + 255.
_MOST = 255


@njit(cache=True, nogil=True)
def encode_image(
    matrix: Any, rows: Taps, columns: Taps, doubling: Taps, residuals: Any, tokens: Any
) -> Any:
    """Encode one image.

    Args:
        matrix: (H, W * 3) uint8, contiguous.
        rows: taps from H to every level.
        columns: taps from W to every level.
        doubling: taps from every level to the next.
        residuals: a ``ResidualValues``.
        tokens: (T,) uint16, written.

    Returns:
        Clipped residuals of the finest level.
    """
    side = rows.sizes[-1]
    turned = np.empty((matrix.shape[1], matrix.shape[0]), dtype=np.uint8)
    transpose(matrix, turned)
    sums = np.empty(max(3 * matrix.shape[0], matrix.shape[1], 3 * side), dtype=np.int32)
    target = np.empty(side * side * 3, dtype=np.uint8)
    above, recon = np.empty_like(target), np.empty_like(target)
    done = at = at_doubling = clipped = 0
    for level in range(len(rows.sizes)):
        size = rows.sizes[level]
        n = size * size * 3
        square = target[:n].reshape(size, size * 3)
        if columns_first(matrix.shape[0], matrix.shape[1] // 3, size, size):
            resize_upright(matrix, rows, columns, level, at, sums, square)
        else:
            resize_turned(turned, rows, columns, level, at, sums, square)
        if level == 0:
            for j in range(n):
                recon[j] = target[j]
                tokens[j] = target[j]
        else:
            _enlarge(recon, rows.sizes[level - 1], doubling, at_doubling, level - 1, sums, above)
            clipped = _residuals(target[:n], above, residuals, tokens[done : done + n], recon)
            at_doubling += size
        done += n
        at += size
    return clipped


@njit(cache=True, nogil=True)
def decode_images(tokens: Any, base: Any, doubling: Taps, values: Any, images: Any) -> None:
    """Decode token sequences to images.

    Args:
        tokens: (B, T) uint16 below 256.
        base: side of the coarsest level.
        doubling: taps from every level to the next.
        values: (256,) int16, the residual of every id.
        images: (B, S, S, 3) uint8, written.
    """
    side = images.shape[1]
    sums = np.empty(3 * side, dtype=np.int32)
    above, recon = np.empty(side * side * 3, np.uint8), np.empty(side * side * 3, np.uint8)
    for b in range(len(tokens)):
        row = tokens[b]
        size, done = base, base * base * 3
        for j in range(done):
            recon[j] = row[j]
        at = 0
        for level in range(len(doubling.sizes)):
            _enlarge(recon, size, doubling, at, level, sums, above)
            size = doubling.sizes[level]
            n = size * size * 3
            own = row[done : done + n]
            for j in range(n):
                value = np.int32(above[j]) + np.int32(values[own[j]])
                recon[j] = min(max(value, 0), 255)
            done += n
            at += size
        images[b].reshape(side * side * 3)[:] = recon


@njit(cache=True, nogil=True)
def _enlarge(
    recon: Any, size: Any, doubling: Taps, at: Any, level: Any, sums: Any, out: Any
) -> None:
    """Resize a reconstruction to the next level, into the first bytes of ``out``."""
    matrix = recon[: size * size * 3].reshape(size, size * 3)
    turned = np.empty((size * 3, size), dtype=np.uint8)
    transpose(matrix, turned)
    next_size = doubling.sizes[level]
    square = out[: next_size * next_size * 3].reshape(next_size, next_size * 3)
    resize_turned(turned, doubling, doubling, level, at, sums, square)  # a square: never upright


@njit(cache=True, nogil=True)
def _residuals(target: Any, above: Any, residuals: Any, tokens: Any, recon: Any) -> Any:
    """Write one level's tokens and what they decode to; return how many were clipped."""
    values, nearest = residuals
    lowest, highest = np.int32(values[0]), np.int32(values[255])
    clipped = 0
    for j in range(len(target)):
        wanted: Any = np.int32(target[j]) - np.int32(above[j])
        token: Any = nearest[wanted + _MOST]
        clipped += wanted < lowest or wanted > highest
        tokens[j] = token
        recon[j] = min(max(np.int32(above[j]) + np.int32(values[token]), 0), 255)
    return clipped
