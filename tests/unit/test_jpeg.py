"""Plain JPEG files decode to Pillow's pixels, whole and scaled; all others are left to Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagegram.images import decode as images
from imagegram.images import jpeg
from imagegram.images.decode import UnreadableImage, decode_image, read_picture
from tests.pictures import encode, noise

sides = st.integers(1, 70)


def picture(height: int, width: int, seed: int, *, grey: bool = False) -> np.ndarray:
    """Smooth colours with some noise: chroma and its upsampling matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([x * 7 + y * s + seed % 50 for s in (1, 5, 9)], axis=2) % 256
    pixels = (waves + rng.integers(0, 40, (height, width, 3))).clip(0, 255).astype(np.uint8)
    return pixels[:, :, 0] if grey else pixels


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@example(height=5, width=5, seed=0, grey=False, options={"quality": 5, "subsampling": 0})
@given(
    height=sides,
    width=sides,
    seed=st.integers(0, 2**16),
    grey=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "quality": st.integers(1, 100),
            "subsampling": st.sampled_from([0, 1, 2]),
            "progressive": st.booleans(),
            "optimize": st.booleans(),
            "restart_marker_rows": st.sampled_from([0, 1]),
            "comment": st.sampled_from([b"", b"a comment"]),
        }
    ),
)
@settings(max_examples=150)
def test_plain_files_have_pillows_pixels(
    height: int, width: int, seed: int, grey: bool, options: dict[str, Any]
) -> None:
    data = encode(picture(height, width, seed, grey=grey), "JPEG", **options)
    assert jpeg.plain_size(data) == (height, width)
    np.testing.assert_array_equal(jpeg.decode_plain(data, (height, width)), by_pillow(data))


def with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(picture(40, 72, 1), "JPEG", exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        with_orientation(6),
        encode(Image.new("CMYK", (9, 9), (0, 200, 255, 0)), "JPEG"),
        encode(picture(20, 20, 0), "JPEG", keep_rgb=True),
        encode(picture(20, 20, 0), "JPEG", xmp=b"<x:xmpmeta/>"),
        encode(noise(0), "PNG"),
        encode(picture(20, 20, 0), "JPEG")[:100],
        b"\xff\xd8",
        b"",
    ],
)
def test_files_with_peculiarities_are_left_to_pillow(data: bytes) -> None:
    assert jpeg.plain_size(data) is None


@given(
    seed=st.integers(0, 10),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=0, max_size=6),
    cut=st.booleans(),
)
@settings(max_examples=300)
def test_damage_is_judged_by_pillow_alone(seed: int, place: float, junk: bytes, cut: bool) -> None:
    data = bytearray(encode(picture(33, 41, seed), "JPEG", progressive=bool(seed % 2)))
    start = int(place * len(data))
    data[start : start + len(junk)] = junk
    damaged = bytes(data[:start] if cut else data)

    def outcome(pillow: bool) -> Any:
        try:
            if pillow and damaged:
                return images._read_with_pillow(damaged, images.MAX_PIXELS).tolist()
            return decode_image(damaged).tolist()
        except UnreadableImage as refusal:
            return refusal.reason

    with images.quiet():
        assert outcome(pillow=False) == outcome(pillow=True)


def test_without_the_decoder_pillow_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(picture(90, 130, 3), "JPEG")
    exact = read_picture(data)
    monkeypatch.setattr(jpeg, "decode_jpeg", None)
    np.testing.assert_array_equal(read_picture(data), exact)


def test_a_huge_file_is_refused_by_its_header() -> None:
    data = encode(picture(30, 40, 0), "JPEG")
    assert decode_image(data, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(UnreadableImage, match="too_large"):
        decode_image(data, max_pixels=1199)
