"""Read JPEG files with libjpeg-turbo called directly, and listen to its warnings.

Pillow opens a file through Python, decodes it into four bytes a pixel to be copied into three, and
throws the warnings of libjpeg away: half a picture becomes a whole one with a grey half.
``simplejpeg`` hands the bytes to libjpeg-turbo, gets an array, and passes the warnings on. Files
with plain headers (:func:`plain_size`) are not even opened by Pillow.

>>> plain_size(b"GIF89a")
"""

from __future__ import annotations

from typing import Final

import numpy as np
from simplejpeg import decode_jpeg

from imagegram.errors import Unreadable
from imagegram.records import Images

_START, _SCAN = b"\xff\xd8", 0xDA
_FRAMES: Final = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_COLOURS: Final = (1, 3)
#: Segments that do not change pixels: JFIF, tables, restart interval, comment. APP1 may hold an
#: orientation, APP14 another colour model.
_HARMLESS: Final = frozenset((0xE0, 0xDB, 0xC4, 0xDD, 0xFE))

#: How libjpeg's warnings about the picture begin, and their reasons. Its other warnings are about
#: headers, and turbojpeg's own messages about what it does not do.
_WARNINGS: Final = {
    "Premature end of JPEG file": "truncated",
    "Corrupt JPEG data": "corrupt",
    "Inconsistent progression sequence": "corrupt",
}


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
    try:
        pixels: Images = decode_jpeg(data, "RGB")
    except ValueError:  # the caller asks again, to count the reason
        return None
    return pixels if pixels.shape == (*size, 3) and pixels.dtype == np.uint8 else None


def decode_checked(data: bytes, colours: str = "RGB") -> Images | None:
    """Decode any JPEG file; None for the few kinds that only Pillow can decode.

    Args:
        data: the encoded file.
        colours: ``RGB``, or ``CMYK`` for files of four colours.

    Returns:
        (H, W, 3 or 4) uint8, not turned upright.

    Raises:
        Unreadable: with the reason that libjpeg's warning is counted under.
    """
    try:
        pixels: Images = decode_jpeg(data, colours)
    except ValueError as warning:
        for beginning, reason in _WARNINGS.items():
            if str(warning).startswith(beginning):
                raise Unreadable(reason) from None
        return None
    return pixels
