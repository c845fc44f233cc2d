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
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.pictures import encode, noise

sides = st.integers(1, 70)


def picture(height: int, width: int, seed: int, *, grey: bool = False) -> np.ndarray:
    """Smooth colours with some noise: chroma and its upsampling matter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([x * 7 + y * s + seed % 50 for s in (1, 5, 9)], axis=2) % 256
    pixels = (waves + rng.integers(0, 40, (height, width, 3))).clip(0, 255).astype(np.uint8)
    return pixels[:, :, 0] if grey else pixels


def by_pillow(data: bytes, scale: int = 1) -> np.ndarray:
    opened = Image.open(io.BytesIO(data))
    if scale > 1:
        opened.draft(None, (opened.width // scale, opened.height // scale))
    return np.asarray(opened.convert("RGB"))


@example(height=5, width=5, seed=0, grey=False, scale=4, options={"quality": 5, "subsampling": 0})
@given(
    height=sides,
    width=sides,
    seed=st.integers(0, 2**16),
    grey=st.booleans(),
    scale=st.sampled_from([1, 1, 2, 4, 8]),
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
    height: int, width: int, seed: int, grey: bool, scale: int, options: dict[str, Any]
) -> None:
    data = encode(picture(height, width, seed, grey=grey), "JPEG", **options)
    assert jpeg.plain_size(data) == (height, width)
    if min(height, width) < scale:
        return
    pixels = jpeg.decode_plain(data, (height, width), scale=scale)
    if pixels is None:  # left to Pillow
        assert scale > 1
        assert min(height, width) <= 8
        return
    np.testing.assert_array_equal(pixels, by_pillow(data, scale))


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
                return images._read_with_pillow(damaged, None, images.MAX_PIXELS).pixels.tolist()
            return decode_image(damaged).tolist()
        except UnreadableImage as refusal:
            return refusal.reason

    with images.quiet():
        assert outcome(pillow=False) == outcome(pillow=True)


def test_without_the_decoder_pillow_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(picture(90, 130, 3), "JPEG")
    exact, draft = read_picture(data), read_picture(data, at_least=40)
    monkeypatch.setattr(jpeg, "decode_jpeg", None)
    np.testing.assert_array_equal(read_picture(data).pixels, exact.pixels)
    np.testing.assert_array_equal(read_picture(data, at_least=40).pixels, draft.pixels)


@pytest.mark.parametrize(
    ("shape", "at_least", "expected"),
    [
        ((256, 300), 128, (128, 150)),
        ((255, 300), 128, (255, 300)),
        ((300, 1200), 32, (38, 150)),
        ((64, 64), 65, (64, 64)),
        ((800, 801), 4, (100, 101)),
    ],
)
def test_a_draft_covers_what_is_wanted_and_remembers_the_size(
    shape: tuple[int, int], at_least: int, expected: tuple[int, int]
) -> None:
    read = read_picture(encode(picture(*shape, 0), "JPEG"), at_least=at_least)
    assert read.pixels.shape == (*expected, 3)
    assert (read.height, read.width) == shape
    lossless = read_picture(encode(picture(*shape, 0)), at_least=at_least)
    assert lossless.pixels.shape == (*shape, 3)


def test_a_draft_on_its_side_is_turned() -> None:
    read = read_picture(with_orientation(6), at_least=20)
    assert read.pixels.shape == (36, 20, 3)
    assert (read.height, read.width) == (72, 40)


def test_a_huge_file_is_refused_by_its_header() -> None:
    data = encode(picture(30, 40, 0), "JPEG")
    assert decode_image(data, max_pixels=1200).shape == (30, 40, 3)
    with pytest.raises(UnreadableImage, match="too_large"):
        decode_image(data, max_pixels=1199)


def test_how_far_a_draft_is_off() -> None:
    """Other tokens, nearly the same picture; nothing else than JPEG is touched."""
    exact = PyramidTokenizer(sizes=(8, 16, 32))
    draft = PyramidTokenizer(sizes=(8, 16, 32), jpeg="draft")
    assert (exact.draft_size, draft.draft_size) == (None, 32)
    differences, shares = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((128, 128), Image.Resampling.BICUBIC))
        for kind in ("JPEG", "PNG"):
            data = encode(smooth, kind)
            one = exact.encode(read_picture(data, at_least=exact.draft_size).pixels)[0]
            other = draft.encode(read_picture(data, at_least=draft.draft_size).pixels)[0]
            if kind == "PNG":
                np.testing.assert_array_equal(one, other)
                continue
            shares.append(float((one != other).mean()))
            decoded = exact.decode(np.stack([one, other])).astype(np.int64)
            differences.append(float(np.abs(decoded[0] - decoded[1]).mean()))
    assert 0.05 < np.mean(shares) < 0.95
    assert 0.05 < np.mean(differences) < 3.0
