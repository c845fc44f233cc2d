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

from imagegram.errors import ConfigError
from imagegram.models.cores import one_core
from imagegram.models.pictures import to_float
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Ready
from imagegram.tokenizers.conv_vq.sizes import ConvSizes
from imagegram.tokenizers.conv_vq.tokenizer import ConvVqTokenizer
from imagegram.tokenizers.imports import read_published
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer
from tests.conftest import compose
from tests.pictures import context

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


#: Sizes of the published networks: millions of weights, tensors, ids, tokens.
PUBLISHED = {
    "titok_l32": (641.1, 692, 4096, 32),
    "titok_b64": (204.8, 404, 4096, 64),
    "titok_s128": (83.7, 308, 4096, 128),
    "titok_bl64": (390.0, 459, 8192, 64),
    "titok_bl128": (390.2, 459, 8192, 128),
    "titok_sl256": (330.3, 411, 8192, 256),
    "maskgit_vqgan": (54.5, 168, 1024, 256),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_sizes(name: str) -> None:
    tokenizer = instantiate(compose(f"tokenizer={name}").tokenizer, _convert_="all")
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
