"""TiTok: who sees whom, tokens without order, weights that bring their sizes, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imagegram.errors import ConfigError, TokenError
from imagegram.layout import TokenLayout
from imagegram.metrics.aligned import prefix_ends
from imagegram.models.latents import PlainTransformer
from imagegram.models.transformer import build
from imagegram.report.ordered import ordered_sections
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.titok.model import TiTok
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer

SIZES: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "num_latents": 5,
    "encoder_width": 32,
    "encoder_depth": 2,
    "encoder_heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 4,
}
QUANTIZER = Quantization(vocab_size=20, dim=4, normalized=True)
RECIPE = TiTokTokenizer(**SIZES, quantizer=QUANTIZER)


def network(recipe: TiTokTokenizer = RECIPE) -> TiTok:
    made = build(TiTok, seed=0, **recipe.architecture.as_dict())
    assert isinstance(made, TiTok)
    return made.eval()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TiTokTokenizer:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    metadata = {"titok": json.dumps(RECIPE.architecture.as_dict())}
    save_file(network().state_dict(), path, metadata=metadata)
    return TiTokTokenizer(checkpoint=str(path))


def pictures(count: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_token_k_has_no_gradient_from_latent_j() -> None:
    """What the transformer has read stays apart: no channel of a latent reaches another token."""
    made = network()
    latents = torch.randn(2, 5, 32, requires_grad=True)
    for token in range(5):
        (gradient,) = torch.autograd.grad(
            made.quantizer.quantize(made.encoder.project(latents)).codes[:, token].sum(),
            latents,
        )
        moved = gradient.abs().sum((0, 2)) > 0
        assert moved.nonzero().flatten().tolist() == [token]


def test_every_latent_reads_all_patches_and_every_patch_is_painted_from_all_tokens() -> None:
    made = network()
    images = torch.zeros(1, 16, 16, 3, requires_grad=True)
    for token in range(5):
        (gradient,) = torch.autograd.grad(made.encode(images)[0, token].sum(), images)
        assert (gradient.abs().sum(-1) > 0).all()
    codes = torch.randn(1, 5, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(made.decode(codes)[0, 9, 14].sum(), codes)
    assert (gradient.abs().sum(-1) > 0).all()


def test_blocks_are_those_of_their_equation() -> None:
    """Pre-norm attention and a GELU MLP, written out."""
    made = PlainTransformer(width=8, depth=1, num_heads=2)
    x = torch.randn(1, 4, 8)
    block: Any = made.blocks[0]
    start = made.norm_before(x)
    normal = block.norm1(start)
    project = torch.nn.functional.linear(
        normal, block.self_attn.in_proj_weight, block.self_attn.in_proj_bias
    )
    heads = []
    for head in range(2):
        q, k, v = (project[0, :, part * 8 + head * 4 :][:, :4] for part in range(3))
        heads.append((q @ k.T / 2).softmax(-1) @ v)
    attended = start + block.self_attn.out_proj(torch.cat(heads, dim=-1))
    hidden = torch.nn.functional.gelu(block.linear1(block.norm2(attended)))
    expected = made.norm(attended + block.linear2(hidden))
    torch.testing.assert_close(made(x, read=slice(None)), expected)


def test_a_fresh_network_knows_what_lies_beside_what_and_its_codes_are_seen() -> None:
    made = network()
    drawn = made.decoder.embed_codes.weight.detach().clone()
    made.begin()
    places = made.encoder.positions[1:].view(4, 4, 32)
    apart = (places[:, :, None, None] - places).norm(dim=-1)
    assert apart[1, 1, 1, 2] < apart[1, 1, 1, 3] < apart[1, 1, 3, 3]
    torch.testing.assert_close(apart[0, 0, 0, 1], apart[0, 0, 1, 0])
    assert places.std().item() == pytest.approx(1.0, abs=0.35)
    torch.testing.assert_close(made.decoder.embed_codes.weight, 2 * drawn)
    images = torch.rand(1, 16, 16, 3)
    unchanged = made.head.smooth(images.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(unchanged, images)


def test_a_checkpoint_brings_its_sizes(tokenizer: TiTokTokenizer) -> None:
    assert tokenizer.architecture == RECIPE.architecture
    assert tokenizer.spec.vocab_size == 20
    layout = tokenizer.spec.layout
    assert (layout.order, layout.is_picture, layout.is_ranked) == ("none", False, False)
    assert layout.describe(2) == "token 3 of 5"
    assert tokenizer.fit(None) == Ready(tokenizer)  # type: ignore[arg-type]
    assert tokenizer.encoder == tokenizer


def test_the_published_shape_of_the_default() -> None:
    """The default at 64 pixels has 1.28 million weights."""
    with torch.device("meta"):
        made = TiTok(**TiTokTokenizer().architecture.as_dict())
    assert sum(p.numel() for p in made.parameters()) == pytest.approx(1.285e6, rel=1e-3)


def test_rows_do_not_depend_on_the_rows_beside_them(tokenizer: TiTokTokenizer) -> None:
    images = pictures(21)
    together = np.asarray(tokenizer.encode(images).documents)
    parts = [tokenizer.encode(images[i : i + 5]).documents for i in range(0, 21, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), together)
    painted = tokenizer.decode(together)
    np.testing.assert_array_equal(tokenizer.decode(together[::-1]), painted[::-1])


def test_a_part_of_an_image_is_refused(tokenizer: TiTokTokenizer) -> None:
    with pytest.raises(TokenError, match=r"\(B, 5\) integer ids, got \(1, 3\).*no prefix"):
        tokenizer.decode(np.zeros((1, 3), dtype=np.int64))


def test_what_decides_a_recipe() -> None:
    assert identity(replace(RECIPE, device="cuda", name="y")) == identity(RECIPE)
    assert identity(replace(RECIPE, decoder_depth=2)) != identity(RECIPE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 5}, "tokenizer.patch_size=5 must divide tokenizer.image_size=16"),
        ({"encoder_heads": 3}, "tokenizer.encoder_heads=3 must divide tokenizer.encoder_width=32"),
        ({"decoder_heads": 3}, "tokenizer.decoder_heads=3 must divide"),
        ({"num_latents": 0}, "tokenizer.num_latents=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(RECIPE, **changes)
    assert message in str(error.value)


# ------------------------------------------------------------------------ what has no order says so


def test_no_beginning_is_measured_and_no_report_speaks_of_prefixes() -> None:
    layout = TokenLayout.sequence(16, order="none")
    assert prefix_ends(layout) == {"k16": 16}
    curves = {"generated": {"source_share_by_position": np.linspace(0, 1, 16)}}
    section, _ = ordered_sections(curves, layout)
    assert section["title"] == "By position"
    assert "order of these tokens says nothing" in section["text"]
    ranked, _ = ordered_sections(curves, TokenLayout.sequence(16))
    assert ranked["title"] == "By prefix position"
