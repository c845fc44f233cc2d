from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagegram.images import grids


@given(
    count=st.integers(1, 12),
    columns=st.none() | st.integers(1, 15),
    scale=st.integers(1, 3),
    gap=st.integers(0, 2),
)
def test_every_image_is_in_its_cell(count: int, columns: int | None, scale: int, gap: int) -> None:
    images = np.arange(count * 2 * 3 * 3, dtype=np.uint8).reshape(count, 2, 3, 3)
    canvas = grids.grid(images, columns=columns, scale=scale, gap=gap)
    height, width = 2 * scale, 3 * scale
    across = (canvas.shape[1] + gap) // (width + gap)
    assert across == min(columns or int(np.ceil(np.sqrt(count))), count)
    assert canvas.shape[0] == -(-count // across) * (height + gap) - gap
    white = np.full(canvas.shape, 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // across * (height + gap), index % across * (width + gap)
        cell = canvas[top : top + height, left : left + width]
        np.testing.assert_array_equal(cell[::scale, ::scale], image)
        np.testing.assert_array_equal(
            cell, cell[::scale, ::scale].repeat(scale, 0).repeat(scale, 1)
        )
        white[top : top + height, left : left + width] = cell
    np.testing.assert_array_equal(canvas, white)


def test_png_keeps_every_pixel(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(grids.png_bytes(image))))
    np.testing.assert_array_equal(decoded, image)
    grids.save_png(tmp_path / "x.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), image)


def test_a_grid_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        grids.grid(np.empty((0, 2, 2, 3), np.uint8))
