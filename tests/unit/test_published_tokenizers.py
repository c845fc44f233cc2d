"""Published tokenizers: our networks are theirs, by sizes, names and outputs; other files are not.

``recorded/tokenizers.json`` holds names, shapes and outputs of the authors' classes
(bytedance/1d-tokenizer at 942a96f) at a small size, with weights that follow from their names.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.models.cores import one_core
from imagegram.models.pictures import to_float
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.conv_vq.sizes import ConvSizes
from imagegram.tokenizers.conv_vq.tokenizer import ConvVqTokenizer
from imagegram.tokenizers.imports import read_published
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.ta_titok.tokenizer import TaTiTokTokenizer
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer
from tests.conftest import compose
from tests.pictures import context
from tests.sentence_encoders import write_encoder

RECORDED = json.loads((Path(__file__).parents[1] / "recorded/tokenizers.json").read_text())
PROXY = ConvSizes(
    image_size=16,
    patch_size=1,
    channels=32,
    multipliers=(1, 1, 2),
    num_blocks=1,
    vocab_size=10,
    code_dim=6,
    normalized=False,
    levels=(),
)
VIT: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "num_latents": 3,
    **{f"{part}coder_width": 16 for part in ("en", "de")},
    **{f"{part}coder_depth": 2 for part in ("en", "de")},
    **{f"{part}coder_heads": 2 for part in ("en", "de")},
}
SMALL: dict[str, Any] = {
    "legacy": TiTokTokenizer(
        standardized=False,
        **VIT,
        legacy=True,
        proxy=PROXY,
        quantizer=Quantization(kind="gradient", vocab_size=8, dim=4, normalized=True),
    ),
    "pixels": TiTokTokenizer(
        standardized=False,
        **VIT,
        quantizer=Quantization(kind="gradient", vocab_size=8, dim=5, normalized=False),
    ),
    "vqgan": ConvVqTokenizer(
        image_size=16,
        patch_size=1,
        channels=32,
        multipliers=(1, 1, 2),
        num_blocks=1,
        quantizer=Quantization(kind="gradient", vocab_size=10, dim=6, normalized=False),
    ),
}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def filled(name: str, shape: list[int]) -> Tensor:
    """Weights that follow from a name, of a size that keeps features of deviation one."""
    rng = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    values = rng.normal(size=shape)
    if re.search(r"(ln_\w+|norm\w*)\.weight$", name):
        values = 1 + 0.1 * values
    elif name.endswith("bias"):
        values = 0.1 * values
    elif not re.search(r"embedding|latent_tokens|mask_token", name):
        values = values / math.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32))


def published(which: str) -> dict[str, Tensor]:
    return {name: filled(name, shape) for name, shape in RECORDED[which]["shapes"].items()}


def pictures() -> np.ndarray[Any, Any]:
    rng = np.random.Generator(np.random.Philox(key=5))
    return rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def with_file(which: str, path: Path, **changes: Any) -> Any:
    return replace(SMALL[which], checkpoint=str(path), **changes)


@pytest.mark.parametrize("which", SMALL)
def test_published_weights_give_the_published_outputs(which: str, tmp_path: Path) -> None:
    recorded = RECORDED[which]
    tokenizer = with_file(which, written(tmp_path / "file.bin", published(which)))
    sizes = tokenizer.architecture
    network = sizes.network()(**sizes.as_dict()).eval()
    network.load_state_dict(
        read_published(tokenizer, tmp_path / "file.bin", setting="tokenizer.checkpoint")
    )
    with torch.no_grad():
        vectors = network.encode(to_float(torch.from_numpy(pictures())))
        expected = torch.tensor(recorded["vectors"])
        torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
        ids = network.ids(to_float(torch.from_numpy(pictures())))
        assert ids.tolist() == recorded["ids"]
        assert len(ids.unique()) > 1
        painted = (network.paint(ids)[:, ::3, ::3] + 1) / 2
        expected = torch.tensor(recorded["pixels"])
        torch.testing.assert_close(painted, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("which", SMALL)
def test_a_run_takes_them_over(which: str, suffix: str, tmp_path: Path) -> None:
    tokenizer = with_file(which, written(tmp_path / f"file{suffix}", published(which)))
    tokenizer.check_machine()
    stage = tokenizer.fit(None)
    ready = context(tmp_path).make(stage)
    assert ready.fit(None) == Ready(ready)
    assert ready.architecture == tokenizer.architecture
    ids = np.asarray(ready.encode(pictures()).documents)
    assert ids.tolist() == RECORDED[which]["ids"]
    assert ready.decode(ids).shape == (2, 16, 16, 3)
    elsewhere = tmp_path / f"copy{suffix}"
    shutil.copyfile(tmp_path / f"file{suffix}", elsewhere)
    assert identity(with_file(which, elsewhere)) == identity(tokenizer)
    assert context(tmp_path).make(with_file(which, elsewhere).fit(None)) == ready
    assert identity(replace(tokenizer, flips=False)) == identity(tokenizer)
    with pytest.raises(ConfigError, match="has no weights yet"):
        tokenizer.encode(pictures())


def test_a_buffer_of_training_may_be_there(tmp_path: Path) -> None:
    tensors = published("pixels") | {"quantize.embed_prob": torch.zeros(8)}
    with_file("pixels", written(tmp_path / "file.bin", tensors)).check_machine()


@pytest.mark.parametrize("which", SMALL)
def test_weights_of_another_network_are_refused(which: str, tmp_path: Path) -> None:
    whole = published(which)
    family = {"vqgan": "MaskGIT-VQGAN"}.get(which, "TiTok")
    other = "pixels" if which == "vqgan" else "vqgan"
    for number, (tensors, words) in enumerate(
        (
            ({k: t for k, t in whole.items() if k != "encoder.conv_out.bias"}, "to_codes.bias is"),
            ({**whole, "more": torch.zeros(1)}, "more is left over"),
            (
                {**whole, "quantize.embedding.weight": torch.zeros(9, 4)},
                r"quantizer.vectors is \(9",
            ),
            ({"x": torch.zeros(1)}, f"weights of {family} were asked for, but the file holds unkn"),
        )
    ):
        tokenizer = with_file(which, written(tmp_path / f"{number}.bin", tensors))
        with pytest.raises(ConfigError, match=words):
            tokenizer.check_machine()
    tokenizer = with_file(which, written(tmp_path / "other.bin", published(other)))
    with pytest.raises(ConfigError, match=r"^tokenizer\.checkpoint: "):
        tokenizer.check_machine()


def test_legacy_weights_and_new_ones_do_not_fit_each_other(tmp_path: Path) -> None:
    path = written(tmp_path / "legacy.bin", published("legacy"))
    with pytest.raises(ConfigError, match=r"head\.to_patches\.weight .*is missing|is left over"):
        replace(SMALL["pixels"], checkpoint=str(path)).check_machine()


def test_a_pickle_that_asks_for_more_than_tensors_is_not_read(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps({"latent_tokens": Path}))
    with pytest.raises(ConfigError, match="could run programs"):
        with_file("legacy", path).check_machine()


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "file.safetensors", published("legacy"))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ConfigError, match="cut or damaged"):
        with_file("legacy", path).check_machine()


def test_a_legacy_token_mixes_the_channels_of_all_latents() -> None:
    sizes = SMALL["legacy"].architecture
    network: Any = sizes.network()(**sizes.as_dict())
    latents = torch.randn(1, 3, 16, requires_grad=True)
    for token in range(3):
        (gradient,) = torch.autograd.grad(network.encoder.project(latents)[0, token].sum(), latents)
        assert ((gradient.abs() > 0).sum(-1) > 0).all()
        assert int((gradient.abs() > 0).sum()) == 16


#: What the decoder of TA-TiTok has besides, of a text of 5 states of 7 numbers.
TEXT = {
    "decoder.text_guidance_proj.weight": [16, 7],
    "decoder.text_guidance_proj.bias": [16],
    "decoder.text_guidance_positional_embedding": [5, 16],
}


def text_aware(root: Path, *, width: int = 7, **changes: Any) -> TaTiTokTokenizer:
    """A small TA-TiTok with a text encoder of random weights."""
    folder = write_encoder(root / "encoder", width=width, num_heads=1)
    embedder = SentenceEmbedder(folder=str(folder), max_tokens=5, padded=True, dtype="float32")
    own = {**VIT, "standardized": False, "quantizer": SMALL["pixels"].quantizer, **changes}
    return TaTiTokTokenizer(**own, embedder=embedder)


def published_text_aware() -> dict[str, Tensor]:
    return published("pixels") | {name: filled(name, shape) for name, shape in TEXT.items()}


def painted_by(tensors: dict[str, Tensor], codes: Tensor, text_BLD: Tensor | None) -> Tensor:
    """Paint as the published decoder does, step by step under its own names."""
    part = {name[8:]: tensor for name, tensor in tensors.items() if name.startswith("decoder.")}

    def linear(x: Tensor, name: str, end: str = "") -> Tensor:
        weight, bias = part[f"{name}{end or '.'}weight"], part[f"{name}{end or '.'}bias"]
        return F.linear(x, weight.flatten(1), bias)

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], part[f"{name}.weight"], part[f"{name}.bias"])

    first = torch.cat((part["class_embedding"], part["mask_token"].view(1, -1).expand(16, -1)))
    image = (first + part["positional_embedding"]).expand(len(codes), -1, -1)
    latents = linear(codes, "decoder_embed") + part["latent_token_positional_embedding"]
    sequence = [image, latents]
    if text_BLD is not None:
        text = linear(text_BLD, "text_guidance_proj") + part["text_guidance_positional_embedding"]
        sequence.append(text)
    x = norm(torch.cat(sequence, dim=1), "ln_pre")
    for block in ("transformer.0", "transformer.1"):
        split = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.in_proj", "_").unflatten(
            -1, (3, 2, 8)
        )
        query, key, value = split.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + linear(seen, f"{block}.attn.out_proj")
        hidden = F.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
        x = x + linear(hidden, f"{block}.mlp.c_proj")
    patches = linear(norm(x[:, 1:17], "ln_post"), "ffn.0").view(-1, 4, 4, 4, 4, 3)
    pixels = patches.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, 16, 16)
    smooth = F.conv2d(pixels, part["conv_out.weight"], part["conv_out.bias"], padding=1)
    return smooth.permute(0, 2, 3, 1)


def test_published_text_aware_weights_paint_as_published(tmp_path: Path) -> None:
    ids = torch.tensor(RECORDED["pixels"]["ids"])
    codes = published("pixels")["quantize.embedding.weight"][ids]
    without = painted_by(published("pixels"), codes, None)[:, ::3, ::3]
    torch.testing.assert_close(
        without, torch.tensor(RECORDED["pixels"]["pixels"]), rtol=1e-5, atol=1e-5
    )  # so this is the authors' decoder
    path = written(tmp_path / "file.bin", published_text_aware())
    ready = replace(text_aware(tmp_path), checkpoint=str(path))
    ready.check_machine()
    tokenizer = context(tmp_path).make(ready.fit(None))
    np.testing.assert_array_equal(tokenizer.encode(pictures()).documents, ids.numpy())
    captions = ["a dog", None]
    states = np.stack(tokenizer.embedder.states(["a dog", ""])[0]).astype(np.float32)
    assert states.shape == (2, 5, 7)
    expected = painted_by(published_text_aware(), codes, torch.from_numpy(states))
    wanted = (255 * expected.clamp(0, 1)).numpy()
    painted = tokenizer.decode(ids.numpy(), captions=captions)
    assert np.abs(painted - wanted).max() <= 1.0
    other = tokenizer.decode(ids.numpy(), captions=["the wolf", "the wolf"])
    assert (other != painted).any(axis=(1, 2, 3)).all()
    again = replace(text_aware(tmp_path), checkpoint=tokenizer.checkpoint)  # brings its sizes
    np.testing.assert_array_equal(again.decode(ids.numpy(), captions=captions), painted)


def test_text_aware_weights_are_for_their_text_encoder_and_tokenizer(tmp_path: Path) -> None:
    path = written(tmp_path / "file.bin", published_text_aware())
    with pytest.raises(ConfigError, match=r"vectors of 7 numbers, but .* gives 8; give"):
        replace(text_aware(tmp_path, width=8), checkpoint=str(path)).check_machine()
    with pytest.raises(ConfigError, match=r"TiTok were asked for, .* holds weights of TA-TiTok"):
        with_file("pixels", path).check_machine()
    path = written(tmp_path / "plain.bin", published("pixels"))
    with pytest.raises(ConfigError, match=r"TA-TiTok were asked for, .* holds weights of TiTok"):
        replace(text_aware(tmp_path), checkpoint=str(path)).check_machine()


#: Sizes of the published networks: millions of weights, tensors, ids, tokens.
PUBLISHED = {
    "titok_l32": (641.1, 692, 4096, 32),
    "titok_b64": (204.8, 404, 4096, 64),
    "titok_s128": (83.7, 308, 4096, 128),
    "titok_bl64": (390.0, 459, 8192, 64),
    "titok_bl128": (390.2, 459, 8192, 128),
    "titok_sl256": (330.3, 411, 8192, 256),
    "ta_titok_bl32": (390.8, 462, 8192, 32),
    "ta_titok_bl64": (390.9, 462, 8192, 64),
    "ta_titok_bl128": (391.0, 462, 8192, 128),
    "maskgit_vqgan": (54.5, 168, 1024, 256),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_sizes(name: str, tmp_path: Path) -> None:
    words = [f"tokenizer={name}"]
    if name.startswith("ta_"):  # the text encoder is CLIP ViT-L/14's, whose weights are not read
        (tmp_path / "config.json").write_text('{"model_type": "clip", "hidden_size": 768}')
        for file in ("model.safetensors", "tokenizer.json"):
            (tmp_path / file).touch()
        words.append(f"tokenizer.embedder.folder={tmp_path}")
    tokenizer = instantiate(compose(*words).tokenizer, _convert_="all")
    sizes = tokenizer.architecture
    with torch.device("meta"):
        network = sizes.network()(**sizes.as_dict())
    weights, tensors, vocab_size, length = PUBLISHED[name]
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert round(millions, 1) == weights
    assert len(network.state_dict()) == tensors
    assert (tokenizer.spec.vocab_size, tokenizer.spec.length) == (vocab_size, length)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 2}, "4 x 4 codes of an image of 16 pixels, but there are 8 x 8 patches"),
        ({"proxy": {"channels": 32}}, "tokenizer.proxy: code_dim, image_size"),
        ({"proxy": replace(PROXY, channels=33)}, "channels=33 must be a multiple of 32"),
    ],
)
def test_a_proxy_that_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        replace(SMALL["legacy"], **changes)
    assert message in str(error.value)
