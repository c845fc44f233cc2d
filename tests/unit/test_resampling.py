"""The compiled resize is Pillow's, bit for bit, for every shape and on every kind of memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagegram.images.resampling import columns_first, resize, transpose

sides = st.one_of(st.integers(1, 40), st.integers(1, 300))


def by_pillow(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1), st.sampled_from([2, 256]))
@example(15, 11, 8, 8, 0, 256)  # the first height at which Pillow turns to columns first
@example(300, 3, 2, 2, 0, 2)
@example(1, 1, 300, 1, 0, 256)
@example(256, 256, 256, 256, 0, 256)
@settings(max_examples=300)
def test_resize_is_pillows(
    height: int, width: int, new_height: int, new_width: int, seed: int, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.integers(0, levels, (height, width, 3)) * 255 // (levels - 1)).astype(np.uint8)
    resized = resize(image, new_height, new_width)
    np.testing.assert_array_equal(resized, by_pillow(image, new_height, new_width))


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (3, 40001)])
@pytest.mark.parametrize("side", [1, 2, 9])
def test_thousands_of_taps_clip_as_pillows(shape: tuple[int, int], side: int) -> None:
    white = np.full((*shape, 3), 255, np.uint8)
    np.testing.assert_array_equal(resize(white, side), by_pillow(white, side, side))


def test_read_only_and_strided_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    expected = by_pillow(image, 7, 7)
    frozen = image.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(resize(frozen, 7), expected)
    np.testing.assert_array_equal(frozen, image)
    spread = np.zeros((60, 50, 6), np.uint8)
    spread[::2, :, :3] = image
    np.testing.assert_array_equal(resize(spread[::2, :, :3], 7), expected)
    turned = resize(image.transpose(1, 0, 2), 7)
    np.testing.assert_array_equal(turned, by_pillow(image.transpose(1, 0, 2).copy(), 7, 7))


@given(st.integers(1, 40), st.integers(1, 40))
def test_transpose(rows: int, columns: int) -> None:
    matrix = np.random.default_rng(rows).integers(0, 256, (rows, columns), dtype=np.uint8)
    # A row on either side of the output shows what is written outside of it.
    room = np.full((columns + 2, rows), 7, np.uint8)
    transpose(matrix, room[1:-1])
    np.testing.assert_array_equal(room[1:-1], matrix.T)
    assert (room[[0, -1]] == 7).all()


def test_squares_always_begin_with_their_rows() -> None:
    """So that no reconstruction's enlargement depends on a version of Pillow."""
    assert not any(columns_first(n, n, m, m) for n in range(1, 300) for m in range(1, 300))
