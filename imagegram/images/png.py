"""What Pillow passes over in PNG files: rows that are missing, and colours that are transparent."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Samples of a pixel by colour type: grey, RGB, palette, grey and alpha, RGB and alpha.
_SAMPLES: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: First column, first row, step across and step down of the passes of an interlaced file.
_PASSES: Final = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
_SIGNATURE_BYTES: Final = 8


def lacks_rows(picture: Image.Image, data: bytes) -> bool:
    """Tell whether the compressed data of a PNG file end before its last row does.

    Pillow leaves the missing rows zero. So only a file whose last row is all zero is looked into.

    Args:
        picture: the opened and loaded file.
        data: the file.
    """
    width, height = picture.size
    is_interlaced = bool(picture.info.get("interlace"))
    if not is_interlaced:
        last: Any = picture.getpixel((width - 1, height - 1))
        if any(last) if isinstance(last, tuple) else last:  # as almost always
            return False
        last_row = (0, height - 1, width, height)
        if picture.crop(last_row).getbbox(alpha_only=False) is not None:
            return False
    inflate, missing = zlib.decompressobj(), _raw_bytes(data, width, height, is_interlaced)
    for body in _image_data(data):
        rest = body
        while rest and missing > 0:
            missing -= len(inflate.decompress(rest, min(missing, 1 << 20)))
            rest = inflate.unconsumed_tail
    return missing > 0


def named_colour(picture: Image.Image, data: bytes) -> NDArray[np.bool_] | None:
    """Return the (H, W) pixels of the one colour that a file without alpha names as transparent.

    Compared are all bits of a sample: of 16-bit RGB, Pillow keeps the high bytes only.

    Args:
        picture: the opened and loaded file.
        data: the file.

    Returns:
        None when the file names no colour, or has a palette or alpha.
    """
    colour: Any = picture.info.get("transparency")
    if colour is None or picture.mode not in ("1", "L", "I;16", "RGB"):
        return None
    depth, pixels = data[24], np.asarray(picture)
    mask = (1 << depth) - 1
    if picture.mode == "1":
        return np.asarray(pixels == bool(colour))
    if picture.mode == "L":  # samples of 1 to 8 bits, stretched to 0 ... 255
        return np.asarray(pixels == (colour & mask) * 255 // mask)
    if picture.mode == "I;16":
        return np.asarray(pixels == colour)
    wanted = np.array(colour) & mask
    if depth == 16:
        low_match = (_low_bytes(data) == wanted & 0xFF).all(axis=2)
        return np.asarray((pixels == wanted >> 8).all(axis=2) & low_match)
    return np.asarray((pixels == wanted).all(axis=2))


def _low_bytes(data: bytes) -> NDArray[np.uint8]:
    """Decode the low bytes of 16-bit RGB: the samples read in the other byte order."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        picture.tile = [tile._replace(args="RGB;16L") for tile in picture.tile]
        return np.asarray(picture)


def _image_data(data: bytes) -> Iterator[bytes]:
    """Yield the bodies of the IDAT chunks."""
    at = _SIGNATURE_BYTES
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length


def _raw_bytes(data: bytes, width: int, height: int, is_interlaced: bool) -> int:
    """Count the bytes of the decompressed rows, each with its filter type before it."""
    bits = data[24] * _SAMPLES[data[25]]
    total = 0
    for left, top, across, down in _PASSES if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total
