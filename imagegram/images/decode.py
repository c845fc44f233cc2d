"""Encoded bytes to RGB pixels: every colour model that a web corpus holds, and stable refusals.

A picture that cannot be read whole is refused with a short reason that the tokenize stage counts;
it is never padded, guessed or replaced.

>>> decode_image(b"")
Traceback (most recent call last):
    ...
imagegram.images.decode.UnreadableImage: empty_file
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from imagegram.errors import Unreadable
from imagegram.images.jpeg import decode_checked, decode_plain, plain_size
from imagegram.images.png import lacks_rows, named_colour
from imagegram.records import Images
from imagegram.store.file_kinds import HEAD_BYTES, PAGE, POINTER, kind_of

#: Largest number of pixels, as stated by the header, of a picture that is decoded: a third of 2**29
#: (0.5 GB of RGB), the size from which Pillow itself calls a file a decompression bomb.
MAX_PIXELS: Final = 178_956_970

THUMBNAIL_SIZE: Final = 16
_FORMATS: Final = ("JPEG", "PNG", "WEBP")
_EXIF_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise for damaged bytes; anything else is a defect that must be seen.
_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    struct.error,
    zlib.error,
    OverflowError,
    TypeError,
)


class UnreadableImage(Unreadable):
    """An image that cannot be decoded whole.

    Reasons are ``empty_file``, ``unsupported_format`` (neither JPEG, PNG nor WebP),
    ``git_lfs_pointer``, ``web_page``, ``truncated`` (the file ends early), ``corrupt`` and
    ``too_large`` (by its header).
    """


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Images:
    """Decode a JPEG, PNG or WebP file to RGB pixels, upright as a viewer would show it.

    EXIF orientation is applied. Transparency is composed on white. CMYK, palette, grey and
    black-and-white pictures become RGB. 16-bit samples keep their high byte (scaled, not clipped).
    Of an animation the first frame is taken. Colour profiles are ignored.

    Args:
        data: the encoded file.
        max_pixels: pictures with more pixels are refused from their header.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UnreadableImage: with its reason; see the class.
    """
    with quiet():
        return read_picture(data, max_pixels=max_pixels)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings: it warns at half of its size limit; our limit refuses instead.

    Warning filters belong to the whole process, not to a thread: the thread that starts the others
    enters this context for all of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Images:
    """Decode like :func:`decode_image`, for loops and threads inside :func:`quiet`."""
    size = plain_size(data)
    if size is not None:
        if size[0] * size[1] > max_pixels:
            raise UnreadableImage("too_large")
        pixels = decode_plain(data, size)
        if pixels is not None:
            return pixels
    if not data:
        raise UnreadableImage("empty_file")
    return _read_with_pillow(data, max_pixels)


def _read_with_pillow(data: bytes, max_pixels: int) -> Images:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise UnreadableImage("too_large")
            pixels = _upright(picture, _whole_pixels(picture, data))
    except Image.DecompressionBombError:
        raise UnreadableImage("too_large") from None
    except UnidentifiedImageError:
        raise UnreadableImage(_unidentified(data)) from None
    except Unreadable as refusal:
        raise UnreadableImage(refusal.reason) from None
    except _DAMAGE as error:
        raise UnreadableImage(_damage(data, str(error))) from None
    if not pixels.size:
        raise UnreadableImage("corrupt")
    return pixels


def _whole_pixels(picture: Image.Image, data: bytes) -> Images:
    """Decode an opened file to RGB; refuse what the decoder fills up in silence."""
    if picture.format in ("JPEG", "MPO"):
        four = picture.mode == "CMYK"
        pixels = decode_checked(data, "CMYK" if four else "RGB")
        if pixels is not None and pixels.shape == (picture.height, picture.width, 3):
            return pixels
        return _to_rgb(picture)
    if picture.format == "PNG":
        picture.load()
        if lacks_rows(picture, data):
            raise UnreadableImage("truncated")
        named = named_colour(picture, data)
        if named is not None:
            pixels = _to_rgb(picture).copy()
            pixels[named] = 255
            return pixels
    elif _ends_in_zeros(data):
        raise UnreadableImage("truncated")
    return _to_rgb(picture)


def _upright(picture: Image.Image, pixels: Images) -> Images:
    turn = _UPRIGHT.get(_orientation(picture))
    return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def _ends_in_zeros(data: bytes) -> bool:
    """Tell a WebP file of which a download has only reserved the end: libwebp decodes zeros too."""
    return data[12:16] in (b"VP8 ", b"VP8L") and data.endswith(bytes(64))


def thumbnail(image: Images) -> Images:
    """Return the (16, 16, 3) uint8 bilinear thumbnail that near-duplicates are found by.

    Args:
        image: (H, W, 3) uint8.
    """
    from imagegram.images.resampling import resize

    return resize(image, THUMBNAIL_SIZE)


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    except _DAMAGE:  # the EXIF block is damaged, not the picture
        return 1
    return orientation if isinstance(orientation, int) else 1


def _to_rgb(picture: Image.Image) -> Images:
    if picture.mode.startswith("I"):  # 16-bit grey; convert() would clip at 255
        high_byte = np.asarray(picture).astype(np.int32) >> 8
        grey = high_byte.clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "RGB":
        return np.asarray(picture)
    if picture.mode in ("P", "LA", "RGBA") and picture.has_transparency_data:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return np.asarray(Image.alpha_composite(white, layered).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def _is_known_format(data: bytes) -> bool:
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return webp or data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def _unidentified(data: bytes) -> str:
    """Return the reason for a file that Pillow does not recognise."""
    if _is_known_format(data):
        return _damage(data, "")
    kind = kind_of(data[:HEAD_BYTES])
    return kind.name if kind in (POINTER, PAGE) else "unsupported_format"


def _damage(data: bytes, message: str) -> str:
    """Return ``truncated`` when the file should be longer by its own header, else ``corrupt``."""
    if data[:4] == b"RIFF" and len(data) >= 8:
        return "truncated" if int.from_bytes(data[4:8], "little") + 8 > len(data) else "corrupt"
    if data.startswith(b"\x89PNG") and b"IEND" not in data[-32:]:
        return "truncated"
    return "truncated" if "truncated" in message else "corrupt"
