"""The pyramid equals its definition, is exact at the finest level, and never wraps an id.

Its variants too: other planes, another order of them, fewer values of a residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagegram.errors import ConfigError, TokenError
from imagegram.experiment import build
from imagegram.store.fingerprint import digest, identity
from imagegram.tokenizers.colors import to_pixels, to_planes
from imagegram.tokenizers.pyramid import PyramidTokenizer, encode_reference
from tests.conftest import compose

SEEDS_TOTALS = {
    (8, 16): 960,
    (8, 16, 32): 4032,
    (8, 16, 32, 64): 16320,
    (8, 16, 32, 64, 128): 65472,
    (4, 8, 16, 32, 64, 128): 65520,
}


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


ALL = range(-128, 128)


def by_definition(
    image: np.ndarray, sizes: tuple[int, ...], held: Sequence[int] = ALL
) -> tuple[list[int], np.ndarray, int]:
    """Tokens, finest reconstruction and finest clips, pixel by pixel with Python integers.

    Args:
        image: planes.
        sizes: of the levels.
        held: the values that a residual may have, ascending.
    """
    tokens: list[int] = []
    recon = resize(image, sizes[0])
    tokens += recon.ravel().tolist()
    clipped = 0
    for size in sizes[1:]:
        clipped = 0
        target, above = resize(image, size), resize(recon, size)
        recon = np.zeros((size, size, 3), np.uint8)
        for place in np.ndindex(size, size, 3):
            wanted = int(target[place]) - int(above[place])
            value = min(held, key=lambda v: (abs(v - wanted), abs(v)))
            clipped += not held[0] <= wanted <= held[-1]
            recon[place] = min(max(int(above[place]) + value, 0), 255)
            tokens.append(128 - held.index(0) + held.index(value))
    return tokens, recon, clipped


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    """Images of any shape, smooth to black and white, with any ascending sizes."""
    sizes = sorted(draw(st.sets(st.integers(1, 14), min_size=1, max_size=4)))
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([2, 3, 256]))
    pixels = rng.integers(0, levels, (height, width, 3)) * 255 // (levels - 1)
    return pixels.astype(np.uint8), tuple(sizes)


@given(pyramids())
@settings(max_examples=150, deadline=None)
def test_encode_and_decode_are_the_definition(case: tuple[np.ndarray, tuple[int, ...]]) -> None:
    image, sizes = case
    tokenizer = PyramidTokenizer(sizes=sizes)
    encoded = tokenizer.encode([tokenizer.prepare(image)])
    (tokens,), num_clipped = encoded.documents, encoded.counts["clipped"]
    expected, recon, clipped = by_definition(image, sizes)
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == expected
    assert num_clipped == clipped
    decoded = tokenizer.decode(tokens[None])[0]
    np.testing.assert_array_equal(decoded, recon)
    # What is not exact was clipped, and with nothing clipped all is exact.
    assert np.count_nonzero(decoded != resize(image, sizes[-1])) == num_clipped


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(0, 5),
    output_size=st.sampled_from([None, 1, 7, 16, 40]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int64]),
)
@settings(deadline=None)
def test_any_bytes_decode_and_batches_do_not_matter(
    seed: int, batch: int, output_size: int | None, dtype: type
) -> None:
    tokenizer = PyramidTokenizer(sizes=(2, 4, 16))
    tokens = np.random.default_rng(seed).integers(0, 256, (batch, tokenizer.spec.length))
    images = tokenizer.decode(tokens.astype(dtype), output_size=output_size)
    side = output_size or 16
    assert images.shape == (batch, side, side, 3)
    for row in range(batch):
        (alone,) = tokenizer.decode(tokens[row : row + 1].astype(np.uint16))
        np.testing.assert_array_equal(images[row], resize(alone, side))


@pytest.mark.parametrize(("sizes", "total"), SEEDS_TOTALS.items())
def test_totals_of_the_seeds(sizes: tuple[int, ...], total: int) -> None:
    tokenizer = PyramidTokenizer(sizes=sizes)
    assert tokenizer.spec.length == total
    assert tokenizer.spec.layout.num_levels == len(sizes)
    assert tokenizer.spec.vocab_size == 256


def test_clipping_is_counted_at_the_finest_level() -> None:
    tokenizer = PyramidTokenizer(sizes=(2, 8))
    corner = np.zeros((8, 8, 3), np.uint8)
    corner[0, 0] = 255
    num_clipped = tokenizer.encode([corner]).counts["clipped"]
    assert num_clipped == 3  # 255 needs +239 above a dark base


@pytest.mark.parametrize("bad", [256, 65535, -1])
def test_ids_are_never_wrapped(bad: int) -> None:
    tokenizer = PyramidTokenizer(sizes=(1, 2))
    tokens = np.zeros((2, 15), np.int64)
    tokens[1, 7] = bad
    place = r"image 1 at position 7 \(level 1 \(2x2\), row 0, column 1, channel 1\)"
    with pytest.raises(TokenError, match=f"id {bad} of {place}"):
        tokenizer.decode(tokens)


@pytest.mark.parametrize(
    "tokens", [np.zeros(15, np.uint16), np.zeros((1, 14), np.uint16), np.zeros((1, 15))]
)
def test_other_shapes_and_dtypes_are_refused(tokens: np.ndarray) -> None:
    with pytest.raises(TokenError, match=r"decode needs \(B, 15\) integer ids"):
        PyramidTokenizer(sizes=(1, 2)).decode(tokens)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_encode_refuses_what_is_no_rgb_image(image: np.ndarray) -> None:
    with pytest.raises(TokenError, match="one RGB image"):
        PyramidTokenizer().prepare(image)


@pytest.mark.parametrize("sizes", [(), (0, 4), (8, 8), (16, 8), (8, 16.0), (True, 4), ("8",)])
def test_sizes_that_are_no_pyramid(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.sizes=\[8,16,32\]"):
        PyramidTokenizer(sizes=sizes)


def test_the_readable_reference_is_the_definition() -> None:
    for seed, sizes in enumerate([(1, 2), (3, 7, 8), (8, 16, 32), (5,)]):
        image = np.random.default_rng(seed).integers(0, 256, (40 - seed, 9 + seed, 3), np.uint8)
        tokens, num_clipped = encode_reference(image, PyramidTokenizer(sizes=sizes))
        expected, _, clipped = by_definition(image, sizes)
        assert (tokens.tolist(), num_clipped) == (expected, clipped)


def values_of(number: int, spacing: str) -> list[int]:
    """The values of a residual, one after the other."""
    half = [127 * k / (number // 2) for k in range(1, number // 2 + 1)]
    if spacing == "companded":
        half = [127 * (256 ** (value / 127) - 1) / 255 for value in half]
    rounded: list[int] = []
    for value in half:
        rounded.append(max(round(value), rounded[-1] + 1 if rounded else 1))
    return [-value for value in reversed(rounded)] + [0] + rounded


@given(
    pyramids(),
    st.sampled_from(["rgb", "ycocg"]),
    st.permutations([0, 1, 2]),
    st.integers(1, 127).map(lambda half: 2 * half + 1),
    st.sampled_from(["uniform", "companded"]),
)
@settings(max_examples=60, deadline=None)
def test_variants_are_the_definition_over_their_planes_and_values(
    case: tuple[np.ndarray, tuple[int, ...]],
    colors: str,
    order: list[int],
    number: int,
    spacing: str,
) -> None:
    image, sizes = case
    tokenizer = PyramidTokenizer(
        sizes=sizes,
        colors=colors,
        channel_order=tuple(order),
        residual_levels=number,
        residual_spacing=spacing,
    )
    planes = to_planes(image, colors, (0, 1, 2))[..., order]
    expected, recon, clipped = by_definition(planes, sizes, values_of(number, spacing))
    encoded = tokenizer.encode([tokenizer.prepare(image)])
    assert encoded.documents[0].tolist() == expected
    assert encoded.counts == {"clipped": clipped}
    tokens, num_clipped = encode_reference(image, tokenizer)
    assert (tokens.tolist(), num_clipped) == (expected, clipped)
    decoded = tokenizer.decode(tokens[None])[0]
    back = np.empty_like(recon)
    back[..., order] = recon
    np.testing.assert_array_equal(decoded, to_pixels(back, colors, (0, 1, 2)))


def test_a_colour_that_goes_to_ycocg_and_back_is_off_by_one_level_at_most() -> None:
    some = np.arange(0, 256, 5, dtype=np.uint8)
    pixels = np.stack(np.meshgrid(some, some, some), axis=-1)
    planes = to_planes(pixels, "ycocg", (0, 1, 2))
    red, green, blue = np.moveaxis(pixels.astype(int), -1, 0)
    assert (np.abs(4 * planes[..., 0].astype(int) - (red + 2 * green + blue)) <= 2).all()
    again = to_pixels(planes, "ycocg", (0, 1, 2))
    assert np.abs(again.astype(int) - pixels).max() == 1


def test_fewer_values_are_corrected_on_finer_levels() -> None:
    """A level is coded against what the tokens before it decode to, so errors do not add up."""
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)

    def error(sizes: tuple[int, ...]) -> float:
        few = PyramidTokenizer(sizes=sizes, residual_levels=17, residual_spacing="companded")
        decoded = few.decode(np.stack(few.encode([ramp]).documents))[0]
        return float(np.abs(decoded.astype(int) - resize(ramp, sizes[-1])).max())

    assert error((2, 4, 8, 16, 32)) <= error((2, 32))


@pytest.mark.parametrize(
    ("knobs", "hint"),
    [
        ({"colors": "yuv"}, "tokenizer.colors='yuv'.*ycocg"),
        ({"channel_order": (0, 1)}, r"tokenizer\.channel_order=\[1,0,2\]"),
        ({"channel_order": (0, 1, 1)}, r"tokenizer\.channel_order=\[1,0,2\]"),
        ({"residual_levels": 16}, "must be odd, 3 to 255"),
        ({"residual_levels": 1}, "must be odd, 3 to 255"),
        ({"residual_levels": 257}, "must be odd, 3 to 255"),
        ({"residual_spacing": "log"}, "tokenizer.residual_spacing='log'.*companded"),
    ],
)
def test_variants_that_are_none(knobs: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        PyramidTokenizer(**knobs)


@pytest.mark.parametrize("generator", ["spatial", "smoothed_spatial"])
def test_generators_that_add_residuals_refuse_fewer_values(generator: str) -> None:
    words = ("debug=tiny", f"generator={generator}", "tokenizer=pyramid2")
    with pytest.raises(ConfigError, match=r"tokenizer\.residual_levels=null"):
        build(compose(*words, "tokenizer.residual_levels=17"))
    build(compose(*words, "tokenizer.colors=ycocg", "tokenizer.channel_order=[1,0,2]"))


def test_output_size_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="output_size"):
        PyramidTokenizer(sizes=(1,)).decode(np.zeros((1, 3), np.uint16), output_size=0)


def test_identity_is_what_tokens_depend_on() -> None:
    one = PyramidTokenizer(name="pyramid3", sizes=(8, 16, 32))
    other = PyramidTokenizer(name="mine", sizes=[8, 16, 32])  # type: ignore[arg-type]
    assert digest(identity(one)) == digest(identity(other))
    assert digest(identity(one)) != digest(identity(PyramidTokenizer(sizes=(8, 16))))
    variants = [{"colors": "ycocg"}, {"channel_order": (1, 0, 2)}, {"residual_levels": 17}]
    found = {digest(identity(PyramidTokenizer(**knobs))) for knobs in [{}, *variants]}
    assert len(found) == 4
