"""Ordinary JPEG files, decoded a third faster: the same library and pixels without Pillow's way in.

Pillow opens a file through Python and decodes it into four bytes a pixel, to be copied into three.
``simplejpeg`` hands the bytes to libjpeg-turbo and gets an array. It is asked only for files whose
headers say that both must do the same (:func:`plain_size`), and believed only when it has not the
slightest complaint. Everything else, and a machine without it, is left to Pillow, whose verdict on
damaged files stays the only one.

>>> plain_size(b"GIF89a")
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imagegram.records import Images

try:
    from simplejpeg import decode_jpeg
except ImportError:  # no wheel for this machine: Pillow decodes, the pixels are the same
    decode_jpeg = None

_START, _SCAN = b"\xff\xd8", 0xDA
_FRAMES: Final = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_COLOURS: Final = (1, 3)
#: Segments that do not change pixels: JFIF, tables, restart interval, comment. APP1 may hold an
#: orientation, APP14 another colour model.
_HARMLESS: Final = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE))


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG file without peculiarities; None for any other file.

    Plain are 8-bit grey and YCbCr files, baseline or progressive, whose headers hold nothing but
    what is needed: no EXIF or XMP (they may turn the picture), no Adobe segment, no second picture.

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
            known = identifiers == b"\x01\x02\x03"[:components]  # letters would mean RGB
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
    """Pixels of a file that :func:`plain_size` knows; None when the decoder complains.

    Args:
        data: the encoded file.
        size: what ``plain_size`` said.

    Returns:
        (H, W, 3) uint8, the pixels that Pillow decodes.
    """
    if decode_jpeg is None:
        return None
    try:
        pixels: Images = decode_jpeg(data, "RGB")
    except ValueError:  # also for what Pillow reads all the same
        return None
    return pixels if pixels.shape == (*size, 3) and pixels.dtype == np.uint8 else None
