"""The grid tokenizer: places of a picture, weights that bring their sizes, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imagegram.errors import ConfigError, TokenError
from imagegram.models.transformer import build
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.conv_vq.model import Blocks, ConvVq
from imagegram.tokenizers.conv_vq.tokenizer import ConvVqTokenizer
from imagegram.tokenizers.quantization import Quantization

SIZES: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 2,
    "channels": 32,
    "multipliers": (1, 2),
    "num_blocks": 1,
}
QUANTIZER = Quantization(vocab_size=20, dim=4, normalized=False)
RECIPE = ConvVqTokenizer(**SIZES, quantizer=QUANTIZER)


def write_weights(path: Path, recipe: ConvVqTokenizer = RECIPE) -> Path:
    sizes = recipe.architecture
    network = build(sizes.network(), seed=0, **sizes.as_dict())
    save_file(network.state_dict(), path, metadata={"conv_vq": json.dumps(sizes.as_dict())})
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ConvVqTokenizer:
    path = write_weights(tmp_path_factory.mktemp("weights") / "model.safetensors")
    return ConvVqTokenizer(checkpoint=str(path))


def pictures(count: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_a_checkpoint_brings_its_sizes(tokenizer: ConvVqTokenizer) -> None:
    assert tokenizer.architecture == RECIPE.architecture
    assert tokenizer.spec.vocab_size == 20
    layout = tokenizer.spec.layout
    assert (layout.heights, layout.widths, layout.num_channels) == ((4,), (4,), 1)
    assert layout.is_picture
    assert layout.order == "raster"
    assert layout.describe(6) == "level 0 (4x4), row 1, column 2, channel 0"
    assert tokenizer.fit(None) == Ready(tokenizer)  # type: ignore[arg-type]
    assert tokenizer.encoder == tokenizer


def test_ids_of_rounded_numbers_have_digits(tmp_path: Path) -> None:
    recipe = replace(RECIPE, quantizer=Quantization(kind="fsq", levels=(4, 3)))
    path = write_weights(tmp_path / "model.safetensors", recipe)
    tokenizer = ConvVqTokenizer(checkpoint=str(path))
    assert tokenizer.quantizer.kind == "fsq"
    assert tokenizer.spec.vocab_size == 12
    assert tokenizer.spec.layout.digits == (4, 3)
    ids = tokenizer.encode(pictures(4)).documents
    assert int(np.max(ids)) < 12
    assert tokenizer.decode(np.asarray(ids)).shape == (4, 16, 16, 3)


def test_tokens_are_places_in_raster_order() -> None:
    """Without what mixes places - neighbours and groups - a token is the 4 x 4 pixels there."""
    network = ConvVq(**RECIPE.architecture.as_dict())
    for layer in network.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            layer.forward = lambda x: x  # type: ignore[method-assign,assignment]
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            alone = torch.zeros(3, 3)
            alone[1, 1] = 1.0
            layer.weight.data.mul_(alone)
    ids = torch.zeros(1, 16, dtype=torch.int64)
    other = ids.clone()
    other[0, 4 * 2 + 1] = 7
    changed = (network.paint(ids) != network.paint(other)).any(-1)[0]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[8:12, 4:8] = True
    assert changed.equal(expected)
    images = torch.zeros(1, 16, 16, 3)
    moved = images.clone()
    moved[0, 9, 6] = 1.0
    differs = (network.encode(images) != network.encode(moved)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [4 * 2 + 1]


def test_rows_do_not_depend_on_the_rows_beside_them(tokenizer: ConvVqTokenizer) -> None:
    images = pictures(21)
    together = np.asarray(tokenizer.encode(images).documents)
    parts = [tokenizer.encode(images[i : i + 5]).documents for i in range(0, 21, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    painted = tokenizer.decode(together)
    np.testing.assert_array_equal(tokenizer.decode(together[::-1]), painted[::-1])


def test_a_part_of_an_image_is_refused(tokenizer: ConvVqTokenizer) -> None:
    with pytest.raises(TokenError, match=r"\(B, 16\) integer ids, got \(1, 3\).*no prefix"):
        tokenizer.decode(np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(TokenError, match="id 20 of image 0 at position 1"):
        tokenizer.decode(np.full((1, 16), 20) * (np.arange(16) == 1))


def test_what_decides_a_recipe() -> None:
    known = identity(RECIPE)
    for same in ({"device": "cuda"}, {"name": "y"}, {"dtype": "bfloat16"}):
        assert identity(replace(RECIPE, **same)) == known
    for other in ({"num_blocks": 2}, {"quantizer": replace(QUANTIZER, decay=0.9)}):
        assert identity(replace(RECIPE, **other)) != known  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 48}, "tokenizer.channels=48 must be a multiple of 32; type"),
        ({"multipliers": ()}, "type for example tokenizer.multipliers=[1,2]"),
        ({"multipliers": [1, 0]}, "tokenizer.multipliers=[1, 0]"),
        ({"patch_size": 3}, "places of 6 pixels, which must divide tokenizer.image_size=16"),
        ({"num_blocks": 0}, "tokenizer.num_blocks=0 must be at least 1"),
        ({"quantizer": replace(QUANTIZER, kind="vq")}, "tokenizer.quantizer.kind=vq is unknown"),
        ({"checkpoint": "nowhere.safetensors"}, "there is no such file, and it is none of the hub"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(RECIPE, **changes)
    assert message in str(error.value)


def test_fresh_branches_are_small_and_norms_neutral() -> None:
    network = build(Blocks, seed=0, channels_in=32, channels=64, count=2)
    found = dict(network.named_parameters())
    assert found["blocks.0.norm_1.weight"].eq(1).all()
    assert found["blocks.0.norm_1.bias"].eq(0).all()
    first, last = (found[f"blocks.1.conv_{part}.weight"].std().item() for part in (1, 2))
    assert first == pytest.approx((64 * 9) ** -0.5, rel=0.05)
    assert last == pytest.approx(first / 2, rel=0.05)
