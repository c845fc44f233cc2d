"""JPEG files decode to Pillow's pixels, and half pictures are refused; Pillow shows them."""

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
from imagegram.images.decode import UnreadableImage, decode_image
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
def test_files_with_peculiarities_are_opened_by_pillow(data: bytes) -> None:
    assert jpeg.plain_size(data) is None


@given(
    seed=st.integers(0, 10),
    place=st.floats(0, 1, exclude_max=True),
    junk=st.binary(min_size=0, max_size=6),
    cut=st.booleans(),
)
@settings(max_examples=300)
def test_plain_files_are_judged_like_all_others(
    seed: int, place: float, junk: bytes, cut: bool
) -> None:
    data = bytearray(encode(picture(33, 41, seed), "JPEG", progressive=bool(seed % 2)))
    start = int(place * len(data))
    data[start : start + len(junk)] = junk
    damaged = bytes(data[:start] if cut else data)

    def outcome(opened: bool) -> Any:
        try:
            if opened and damaged:
                return images._read_with_pillow(damaged, images.MAX_PIXELS).tolist()
            return decode_image(damaged).tolist()
        except UnreadableImage as refusal:
            return refusal.reason

    with images.quiet():
        assert outcome(opened=False) == outcome(opened=True)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "progressive": {"progressive": True},
    "with restarts": {"restart_marker_rows": 1},
    "turned": {"exif": True},
    "XMP": {"xmp": b"<x:xmpmeta/>"},
    "RGB": {"keep_rgb": True},
    "grey": {"mode": "L"},
    "grey, turned": {"mode": "L", "exif": True},
    "CMYK": {"mode": "CMYK"},
}


def of_kind(kind: str) -> bytes:
    options = dict(KINDS[kind])
    if options.pop("exif", False):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    image = Image.fromarray(picture(96, 160, 4)).convert(options.pop("mode", "RGB"))
    return encode(image, "JPEG", **options)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_picture_is_refused_however_it_ends(kind: str) -> None:
    whole = of_kind(kind)
    half = whole[: len(whole) // 2]
    shown = by_pillow(whole)
    decoded = decode_image(whole)
    np.testing.assert_array_equal(decoded, np.rot90(shown, -1) if "turned" in kind else shown)
    for end, reason in ((b"\xff\xd9", "corrupt"), (b"", "truncated"), (bytes(9999), "truncated")):
        with pytest.raises(UnreadableImage) as refusal:
            decode_image(half + end)
        assert refusal.value.reason == reason, end
    behind = decode_image(whole + b"what a camera writes behind the picture")
    np.testing.assert_array_equal(behind, decoded)


def test_what_turbojpeg_cannot_do_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("Unsupported color conversion request")

    monkeypatch.setattr(jpeg, "decode_jpeg", refuse)
    for kind in KINDS:
        data = of_kind(kind)
        shown = by_pillow(data)
        expected = np.rot90(shown, -1) if "turned" in kind else shown
        np.testing.assert_array_equal(decode_image(data), expected)


def test_a_huge_file_is_refused_by_its_header() -> None:
    data = encode(picture(30, 40, 0), "JPEG")
    assert decode_image(data, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(UnreadableImage, match="too_large"):
        decode_image(data, max_pixels=1199)
