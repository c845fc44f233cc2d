"""Ordinary JPEG files, decoded a third faster: libjpeg-turbo called directly, the same pixels.

Pillow opens a file through Python and decodes it into four bytes a pixel, to be copied into three.
``simplejpeg`` hands the bytes to libjpeg-turbo and gets an array. It is asked only for files whose
headers guarantee the same result (:func:`plain_size`), and its result is used only when it reports
no warning. All other files are decoded by Pillow, as is every file where ``simplejpeg`` is missing;
so only Pillow decides which files are damaged.

>>> plain_size(b"GIF89a")
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.records import Images

try:
    from simplejpeg import decode_jpeg
except ImportError:  # no wheel for this machine: Pillow decodes to the same pixels
    decode_jpeg = None

_START, _SCAN = b"\xff\xd8", 0xDA
_FRAMES: Final = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_COLOURS: Final = (1, 3)
#: Segments that do not change pixels: JFIF, tables, restart interval, comment. APP1 may hold an
#: orientation, APP14 another colour model.
_HARMLESS: Final = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE))


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a plain JPEG file; None for any other file.

    Plain files are 8-bit grey or YCbCr, baseline or progressive, and their headers hold only what
    is needed: no EXIF or XMP (they may rotate the picture), no Adobe segment, no second picture.

    Args:
        data: the encoded file.
    """
    if not data.startswith(_START):
        return None
    size, at, end = None, 2, len(data) - 9
    while at < end and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN:
            return size
        if marker in _FRAMES:
            components = data[at + 9]
            identifiers = data[at + 10 : at + 10 + 3 * components : 3]
            known = identifiers == b"\x01\x02\x03"[:components]  # the ids "RGB" mean RGB pixels
            if data[at + 4] != 8 or components not in _COLOURS or not known:
                return None
            height, width = (int.from_bytes(data[at + k : at + k + 2], "big") for k in (5, 7))
            size = (height, width) if height and width and size is None else None
            if size is None:
                return None
        elif marker not in _HARMLESS:
            return None
        at += 2 + length
    return None


def decode_plain(data: bytes, size: tuple[int, int]) -> Images | None:
    """Decode a file that :func:`plain_size` accepts; None when the decoder reports a problem.

    Args:
        data: the encoded file.
        size: height and width from ``plain_size``.

    Returns:
        (H, W, 3) uint8, the pixels that Pillow decodes.
    """
    if decode_jpeg is None:
        return None
    try:
        pixels: Images = decode_jpeg(data, "RGB")
    except ValueError:  # raised also for some files that Pillow can read
        return None
    return pixels if pixels.shape == (*size, 3) and pixels.dtype == np.uint8 else None
