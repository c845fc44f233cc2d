"""Ordinary JPEG files, decoded a third faster: the same library and pixels without Pillow's way in.

Pillow opens a file through Python and decodes it into four bytes a pixel, to be copied into three.
``simplejpeg`` hands the bytes to libjpeg-turbo and gets an array. It is asked only for files whose
headers say that both must do the same (:func:`plain_size`), and believed only when it has not the
slightest complaint. Everything else, and a machine without it, is left to Pillow, whose verdict on
damaged files stays the only one.

>>> plain_size(b"GIF89a")
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from imagegram.records import Images

try:
    from simplejpeg import decode_jpeg
except ImportError:  # no wheel for this machine: Pillow decodes, the pixels are the same
    decode_jpeg = None

#: Sizes that libjpeg scales to while it decodes, as denominators.
SCALES: Final = (8, 4, 2)

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


def decode_plain(data: bytes, size: tuple[int, int], *, scale: int = 1) -> Images | None:
    """Pixels of a file that :func:`plain_size` knows; None when the decoder complains.

    Args:
        data: the encoded file.
        size: what ``plain_size`` said.
        scale: 1, or one of :data:`SCALES` to decode to 1/8, 1/4 or 1/2 of the size, rounded up.

    Returns:
        (H, W, 3) uint8, the pixels that Pillow decodes.
    """
    if decode_jpeg is None:
        return None
    height, width = (-(-side // scale) for side in size)
    options: dict[str, Any] = {}
    if scale > 1:
        if _is_ambiguous(size, scale):
            return None
        options = {"min_height": height, "min_width": width, "min_factor": 1}
    try:
        pixels: Images = decode_jpeg(data, "RGB", **options)
    except ValueError:  # also for what Pillow reads all the same
        return None
    return pixels if pixels.shape == (height, width, 3) and pixels.dtype == np.uint8 else None


def _is_ambiguous(size: tuple[int, int], scale: int) -> bool:
    """Whether decoding at another number of eighths gives as many pixels: of tiny pictures.

    The decoder is told a size, not a scale; Pillow is told a scale.

    >>> _is_ambiguous((5, 5), 4), _is_ambiguous((256, 5), 4)  # 2/8 and 3/8 of 5 are 2 pixels
    (True, False)
    """
    wanted = [-(-side // scale) for side in size]
    others = (eighths for eighths in range(1, 17) if eighths * scale != 8)
    return any([-(-side * eighths // 8) for side in size] == wanted for eighths in others)


def scale_for(size: tuple[int, int], at_least: int | None) -> int:
    """The denominator, 1 ... 8, that leaves both sides of ``size`` at ``at_least`` pixels or more.

    >>> scale_for((256, 300), 128), scale_for((256, 127), 128), scale_for((9000, 9000), 128)
    (2, 1, 8)
    """
    if at_least is None:
        return 1
    room = min(size) // at_least
    return next((scale for scale in SCALES if room >= scale), 1)
