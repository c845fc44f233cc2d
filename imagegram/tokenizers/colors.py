"""The three planes of a picture that a pyramid writes: red, green and blue, or brightness first.

YCoCg (Malvar and Sullivan 2003, JVT-I014) in bytes: brightness, orange against blue, green against
purple, each of which is coarser than a byte by what its sum is divided by. So a colour that goes
there and back is off by one level at most.

>>> planes = to_planes(np.array([[[200, 100, 50]]], dtype=np.uint8), "ycocg", (0, 1, 2))
>>> planes.tolist(), to_pixels(planes, "ycocg", (0, 1, 2)).tolist()
([[[113, 203, 115]]], [[[201, 100, 51]]])
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.records import Images

#: What the planes hold.
COLORS: Final = ("rgb", "ycocg")
#: A difference of 0.
_MIDDLE: Final = 128


def to_planes(pixels: Images, colors: str, order: tuple[int, ...]) -> Images:
    """Return the (..., 3) uint8 planes of (..., 3) uint8 pixels, in an order of the planes."""
    planes = _to_ycocg(pixels) if colors == "ycocg" else pixels
    return planes if order == (0, 1, 2) else np.ascontiguousarray(planes[..., list(order)])


def to_pixels(planes: Images, colors: str, order: tuple[int, ...]) -> Images:
    """Return the (..., 3) uint8 pixels of planes, see :func:`to_planes`."""
    if order != (0, 1, 2):
        planes = np.ascontiguousarray(planes[..., np.argsort(order)])
    return _from_ycocg(planes) if colors == "ycocg" else planes


def _to_ycocg(pixels: Images) -> Images:
    red, green, blue = np.moveaxis(pixels.astype(np.int16), -1, 0)
    brightness = (red + 2 * green + blue + 2) >> 2
    orange = ((red - blue) >> 1) + _MIDDLE
    greenish = ((2 * green - red - blue) >> 2) + _MIDDLE
    planes = np.stack((brightness, orange, greenish), axis=-1)
    return np.asarray(planes, dtype=np.uint8)


def _from_ycocg(planes: Images) -> Images:
    brightness, orange, greenish = np.moveaxis(planes.astype(np.int16), -1, 0)
    orange, greenish = orange - _MIDDLE, greenish - _MIDDLE
    rest = brightness - greenish
    pixels = np.stack((rest + orange, brightness + greenish, rest - orange), axis=-1)
    return np.asarray(np.clip(pixels, 0, 255), dtype=np.uint8)
