"""Every colour model is read as a viewer shows it; every damage has its reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagegram.images.decode import MAX_PIXELS, UnreadableImage, decode_image, thumbnail
from tests.pictures import encode, noise, png_header

PIXELS = noise(0, size=40)


def reason(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as refusal:
        decode_image(data)
    return refusal.value.reason


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_rgb_is_exact(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(decode_image(encode(PIXELS, kind, **options)), PIXELS)


def test_cmyk_is_converted() -> None:
    decoded = decode_image(encode(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", quality=100))
    assert decoded.shape == (9, 9, 3)
    np.testing.assert_allclose(decoded[4, 4], [255, 0, 0], atol=2)


def test_palette_is_expanded() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    assert decode_image(encode(picture)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_a_transparent_palette_entry_becomes_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    data = encode(picture, transparency=0)
    assert decode_image(data).tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (200, 100, 0, 0), [255, 255, 255]),
        ("RGBA", (200, 100, 0, 255), [200, 100, 0]),
        ("RGBA", (200, 100, 0, 51), [244, 224, 204]),  # 0.2 of the colour, 0.8 of white
        ("LA", (100, 0), [255, 255, 255]),
        ("LA", (100, 255), [100, 100, 100]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
    ],
)
def test_grey_and_alpha(mode: str, colour: int | tuple[int, ...], expected: list[int]) -> None:
    decoded = decode_image(encode(Image.new(mode, (3, 3), colour)))
    np.testing.assert_allclose(decoded[1, 1], expected, atol=1)


def test_a_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    data = encode(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert (decode_image(data) == 255).all()


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    assert decode_image(encode(values))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + checksum


def png(
    *, depth: int, colours: int, rows: bytes, size: tuple[int, int], named: bytes = b""
) -> bytes:
    """A PNG file of given raw rows, each with its filter type before it."""
    header = struct.pack(">IIBBBBB", *size, depth, colours, 0, 0, 0)
    transparent = chunk(b"tRNS", named) if named else b""
    image = chunk(b"IHDR", header) + transparent + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + image + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "colours", "row", "named", "other"),
    [
        (1, 0, b"\x40", ">H:1", 0),
        (2, 0, b"\x90", ">H:1", 170),
        (4, 0, b"\x21", ">H:1", 34),
        (8, 0, b"\x13\x12", ">H:18", 19),
        (16, 0, b"\x12\x35\x12\x34", ">H:4660", 18),  # the high bytes are equal
        (8, 2, b"\x13\x13\x13\x12\x13\x13", ">3H:18,19,19", 19),
        (16, 2, b"\x12\x35" * 3 + b"\x12\x34\x12\x35\x12\x35", ">3H:4660,4661,4661", 18),
    ],
)
def test_the_colour_that_a_png_names_is_white(
    depth: int, colours: int, row: bytes, named: str, other: int
) -> None:
    """The right pixel has the named colour, the left one differs in its lowest bit."""
    layout, _, values = named.partition(":")
    body = struct.pack(layout, *map(int, values.split(",")))
    data = png(depth=depth, colours=colours, rows=b"\0" + row, size=(2, 1), named=body)
    assert decode_image(data).tolist() == [[[other] * 3, [255] * 3]]
    plain = png(depth=depth, colours=colours, rows=b"\0" + row, size=(2, 1))
    assert decode_image(plain)[0, 1].tolist() != [255] * 3 or depth == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    pixels = np.zeros((24, 16, 3), np.uint8)
    pixels[:8, :8] = 255  # the upright picture: a bright corner at the top left
    upright = Image.fromarray(pixels)
    back = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
            6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = upright
    if orientation in back:
        stored = upright.transpose(Image.Transpose[back[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encode(stored, "JPEG", exif=exif, quality=95))
    assert decoded.shape == (24, 16, 3)
    assert decoded[2:6, 2:6].mean() > 200 > 50 > decoded[-6:, -6:].mean()


def test_an_exif_block_of_garbage_does_not_lose_the_picture() -> None:
    data = encode(PIXELS, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert decode_image(data).shape == PIXELS.shape


def test_a_huge_png_is_refused_by_its_header() -> None:
    assert reason(png_header(50_000, 50_000)) == "too_large"
    assert reason(png_header(MAX_PIXELS // 10_000 + 1, 10_000)) == "too_large"
    with pytest.raises(UnreadableImage, match="too_large"):
        decode_image(encode(PIXELS), max_pixels=PIXELS.shape[0] * PIXELS.shape[1] - 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_truncated(kind: str) -> None:
    # Noise of many pixels: the picture itself is cut, not only its end mark.
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), kind)
    assert reason(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_png_that_is_mended_behind_its_cut(share: float, interlaced: bool) -> None:
    side = 48
    rows = np.full((side, side * 3 + 1), 200, np.uint8)
    rows[:, 0] = 0
    raw = rows.tobytes() if not interlaced else interlaced_rows(side)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, int(interlaced))

    def file(data: bytes) -> bytes:
        parts = (b"IHDR", header), (b"IDAT", data), (b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    assert (decode_image(file(zlib.compress(raw))) == 200).all()
    whole = zlib.compress(raw, 0)
    for end in (int(share * len(raw)), int(share * side) * (len(raw) // side)):
        assert reason(file(zlib.compress(raw[:end]))) == "truncated"  # a whole stream of fewer rows
    assert reason(file(whole[: int(share * len(whole))])) == "truncated"


def interlaced_rows(side: int) -> bytes:
    """Raw rows of the seven passes of a picture of one colour, by the specification of PNG."""
    passes = ((8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2))
    row = [b"\0" + b"\xc8" * (3 * side // across) for across, _ in passes]
    return b"".join(one * (side // down) for one, (_, down) in zip(row, passes, strict=True))


def test_black_rows_at_the_end_are_a_picture() -> None:
    black = np.zeros((9, 9, 3), np.uint8)
    assert not decode_image(encode(black)).any()
    assert not decode_image(encode(Image.new("P", (9, 9)))).any()
    assert not decode_image(encode(np.zeros((9, 9), np.uint16))).any()


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_with_a_mended_header_or_a_reserved_end(lossless: bool) -> None:
    whole = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "WEBP",
                   lossless=lossless)  # fmt: skip
    half = bytearray(whole[: len(whole) // 4 * 2])
    assert reason(bytes(half) + bytes(len(whole) - len(half))) == "truncated"
    half[4:8] = (len(half) - 8).to_bytes(4, "little")
    half[16:20] = (len(half) - 20).to_bytes(4, "little")
    assert reason(bytes(half)) == "corrupt"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
def test_other_formats_are_refused_whole_and_cut(kind: str) -> None:
    data = encode(PIXELS, kind)
    assert {reason(data), reason(data[: len(data) // 2])} == {"unsupported_format"}


def test_other_damage() -> None:
    assert reason(b"") == "empty_file"
    assert reason(b"hello") == "unsupported_format"
    assert reason(encode(PIXELS, "GIF")) == "unsupported_format"
    assert reason(encode(PIXELS, "BMP")) == "unsupported_format"
    data = bytearray(encode(PIXELS))
    data[60] ^= 0xFF
    assert reason(bytes(data)) == "corrupt"
    assert reason(b"\xff\xd8\xff\xe0" + b"\x00" * 200) == "corrupt"


@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=1, max_size=8),
)
def test_damaged_bytes_give_pixels_or_a_reason(kind: str, place: float, junk: bytes) -> None:
    data = bytearray(encode(PIXELS, kind))
    start = int(place * len(data))
    data[start : start + len(junk)] = junk
    try:
        outcome = decode_image(bytes(data)).shape[2:]
    except UnreadableImage as refusal:
        outcome = refusal.reason
    assert outcome in {(3,), "truncated", "corrupt", "too_large", "unsupported_format"}


def test_thumbnail_is_pillows_bilinear() -> None:
    small = thumbnail(PIXELS)
    expected = Image.open(io.BytesIO(encode(PIXELS))).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small, np.asarray(expected))
