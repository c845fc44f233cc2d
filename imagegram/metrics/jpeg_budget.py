"""The best JPEG of a picture within a given number of bits.

It is the baseline for reconstructions from a few tokens (``metrics/prefix.py``). A picture is
shrunk, saved, read and enlarged again, for every side, quality and colour resolution; among the
files that fit, the one with the smallest error is used. Only the entropy-coded scan is counted:
headers, tables and the choice of settings are free, in JPEG's favour. The standard Huffman tables
are used, because tables made for one picture would contain a part of the picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagegram.records import Images

#: Sides in pixels to which pictures are shrunk; the original side is also tried.
SIDES: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
QUALITIES: Final = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 55, 70, 85, 95)
#: Pillow's names of full and half colour resolution.
_SUBSAMPLINGS: Final = ("4:4:4", "4:2:0")
_START_OF_SCAN: Final = b"\xff\xda"
_STUFFED: Final = b"\xff\x00"


def best_errors(image_HWC: Images, num_bytes: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean squared errors of the best JPEGs whose scans fit.

    Args:
        image_HWC: a square picture, uint8.
        num_bytes: (K,) largest number of bytes of a scan.

    Returns:
        (K,) of all colour values; infinite where not even the smallest scan fits.
    """
    side, budgets = len(image_HWC), np.asarray(num_bytes)
    best_K = np.full(len(budgets), np.inf)
    picture, original = Image.fromarray(image_HWC), image_HWC.astype(np.float64)
    for small in sorted({*(s for s in SIDES if s < side), side}):
        shrunk = picture.resize((small, small), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            for subsampling in _SUBSAMPLINGS:
                data = encode_jpeg(shrunk, quality=quality, subsampling=subsampling)
                fits_K = scan_bytes(data) <= budgets
                if fits_K.any():
                    error = float(((_read(data, side) - original) ** 2).mean())
                    best_K[fits_K] = np.minimum(best_K[fits_K], error)
    return best_K


def encode_jpeg(picture: Image.Image, *, quality: int, subsampling: str) -> bytes:
    """Encode a baseline JPEG file with the standard Huffman tables."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def scan_bytes(data: bytes) -> int:
    """Return the bytes of the entropy-coded data of a baseline JPEG file with one scan.

    The zero bytes that are stuffed after each byte 255 are not counted.
    """
    start = data.rindex(_START_OF_SCAN)  # no scan holds a marker: its 255s are stuffed
    start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    scan = data[start:-2]  # the last two bytes end the image
    return len(scan) - scan.count(_STUFFED)


def _read(data: bytes, side: int) -> NDArray[np.float64]:
    """Read the (side, side, 3) pixels of a file, enlarged."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        enlarged = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(enlarged, dtype=np.float64)
