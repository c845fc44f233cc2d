"""Files of pictures: nothing is lost in them, and their bytes are counted right."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from imagegram.metrics import codecs
from imagegram.metrics.codecs import CODECS, CodecMetric, content_order, missing_codecs
from imagegram.records import Images
from imagegram.store.fingerprint import identity
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace, random_tokens

#: JPEG XL has no wheel on some machines.
NAMES = [name for name in CODECS if name not in missing_codecs()]
REFERENCE = MemoryReference(MemoryTokens(shards=[random_tokens(3, seed=0)]))
PICTURES = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
    elements=st.integers(0, 255),
)


def decode(name: str, data: bytes) -> Images:
    if name == "jxl":
        import pylibjxl

        return np.asarray(pylibjxl.decode(data))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "RGB"
        return np.asarray(picture)


def image_set(images: Images) -> MemoryImages:
    tokens = random_tokens(len(images), seed=0)
    return MemoryImages(tokens=tokens, trace=free_trace(tokens), images=images)


def scores(images: Images) -> dict[str, float]:
    measurement = CodecMetric().measure(generated=image_set(images), reference=REFERENCE)
    values = {name: measured.value for name, measured in measurement.scalars.items()}
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=40)
@given(image=PICTURES)
def test_what_was_encoded_is_decoded_bit_for_bit(name: str, image: Images) -> None:
    np.testing.assert_array_equal(decode(name, CODECS[name](image)), image)


@pytest.mark.parametrize("name", NAMES)
def test_noise_gradients_and_views_are_lossless(name: str) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 48, 3)).astype(np.uint8)
    ramp = np.add.outer(np.arange(64), np.arange(48))[..., None] * np.ones(3)
    for image in (noise, ramp.astype(np.uint8), noise[::2, ::-1]):
        np.testing.assert_array_equal(decode(name, CODECS[name](image)), image)


def test_scores_are_the_bytes_of_the_files() -> None:
    images = np.random.default_rng(1).integers(256, size=(11, 8, 8, 3)).astype(np.uint8)
    values = scores(images)
    order = content_order(images)
    sheet = np.full((3 * 8, 4 * 8, 3), 255, np.uint8)
    for cell, image in enumerate(images[order]):
        row, column = divmod(cell, 4)
        sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = image
    for name, encode in [(name, CODECS[name]) for name in NAMES]:
        bits = [8 * len(encode(image)) / 192 for image in images]
        assert values[f"{name}_bits_per_dim"] == pytest.approx(np.mean(bits))
        assert values[f"{name}_sheet_bits_per_dim"] == 8 * len(encode(sheet)) / (11 * 192)


def test_several_sheets_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_SHEET_PIXELS", 2 * 8 * 8 + 1)
    images = np.random.default_rng(1).integers(256, size=(5, 8, 8, 3)).astype(np.uint8)
    ordered = images[content_order(images)]
    sheets = [np.concatenate(ordered[k : k + 2], axis=1) for k in (0, 2, 4)]
    values = scores(images)
    for name, encode in [(name, CODECS[name]) for name in NAMES]:
        bits = 8 * sum(len(encode(sheet)) for sheet in sheets) / images.size
        assert values[f"{name}_sheet_bits_per_dim"] == bits


def test_flat_pictures_take_little_and_noise_all_it_has() -> None:
    flat = np.full((16, 32, 32, 3), 77, np.uint8)
    noise = np.random.default_rng(2).integers(256, size=flat.shape).astype(np.uint8)
    for name in NAMES:
        few, many = scores(flat), scores(noise)
        assert few[f"{name}_sheet_bits_per_dim"] < few[f"{name}_bits_per_dim"] < 0.3
        assert 8 < many[f"{name}_sheet_bits_per_dim"] < many[f"{name}_bits_per_dim"] < 10


def test_a_codec_that_is_not_installed_has_a_note_and_another_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complete = identity(CodecMetric())
    monkeypatch.setattr(codecs, "find_spec", lambda name: None)
    assert identity(CodecMetric()) != complete
    images = image_set(np.zeros((3, 4, 4, 3), np.uint8))
    scalars = CodecMetric().measure(generated=images, reference=REFERENCE).scalars
    for name in ("jxl_bits_per_dim", "jxl_sheet_bits_per_dim"):
        assert scalars[name].value is None
        assert "pip install pylibjxl" in scalars[name].note
    assert scalars["png_bits_per_dim"].value is not None
    assert len(scalars) == 6
