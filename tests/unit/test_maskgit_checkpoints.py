"""Published files of masked generators: taken over name by name, refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imagegram.conditions.label import LabelCondition
from imagegram.errors import ConfigError
from imagegram.generators.maskgit.backbones import make_fresh
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.models.cores import one_core
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked import MaskedSampler
from imagegram.training.optimization import Optimization
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

RECORDED = json.loads((Path(__file__).parents[1] / "recorded/maskgit.json").read_text())
#: FakeTokens have 256 ids, 3 a document.
SIZES = {"vocab_size": 256, "num_tokens": 3, "width": 8, "num_heads": 2}
DEPTHS = {"bert": 2, "uvit": 3, "transformer": 2}
LABEL = LabelCondition(name="label")
LAYOUT: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(3)
PUBLISHED = ("bert", "uvit")


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def weights(backbone: str, **sizes: int) -> dict[str, torch.Tensor]:
    given = {**SIZES, "depth": DEPTHS[backbone], "num_classes": 2, **sizes}
    state = make_fresh(backbone, seed=3, **given).state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def written(path: Path, tensors: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def imported(root: Path, backbone: str, checkpoint: Path, **fields: Any) -> Any:
    labels = ("b", "a", "b")
    rows = tuple((i, i + 1, i + 2) for i in range(3))
    shard = FakeTokenShard(rows=rows, labels=labels)
    tokens, index = context(root).make(FakeTokens(parts=(shard,))), None
    how = Optimization(steps=1, batch_size=1, learning_rate=1.0)
    sizes = {"width": 8, "depth": DEPTHS[backbone], "num_heads": 2, "labels": "label"}
    given = MaskGitGenerator(
        optimization=how, checkpoint=str(checkpoint), backbone=backbone, **{**sizes, **fields}
    )
    given.check_machine()
    return context(root).make(given.fit(tokens, index=index))


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_our_networks_have_the_published_names_and_shapes(backbone: str) -> None:
    sizes = {**RECORDED["sizes"], "depth": RECORDED["depth"][backbone]}
    ours = {name: list(t.shape) for name, t in weights(backbone, **sizes).items()}
    assert ours == RECORDED[backbone]["shapes"]


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("backbone", DEPTHS)
def test_weights_are_taken_over(tmp_path: Path, backbone: str, suffix: str) -> None:
    tensors = weights(backbone)
    model = imported(tmp_path, backbone, written(tmp_path / f"file{suffix}", tensors))
    assert model.classes == ("a", "b")
    state = model.network.state_dict()
    assert state.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(state[name], tensor), name
    how = MaskedSampler(name="masked", guidance=Guidance(scale=3.0, schedule="linear"))
    samples = np.arange(5, dtype=np.uint64)
    ids, _ = model.generate(samples, sampler=how, layout=LAYOUT, seed=0, condition=LABEL)
    assert ids.shape == (5, 3)


def test_a_file_without_labels_of_ours_is_sampled_without_a_label(tmp_path: Path) -> None:
    path = written(tmp_path / "file.bin", weights("bert"))
    model = imported(tmp_path, "bert", path, labels=None)
    how = MaskedSampler(name="masked")
    samples = np.arange(2, dtype=np.uint64)
    assert model.generate(samples, sampler=how, layout=LAYOUT, seed=0)[0].shape == (2, 3)


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_weights_of_another_network_are_refused(tmp_path: Path, backbone: str) -> None:
    whole = weights(backbone)
    other = "uvit" if backbone == "bert" else "bert"
    names = {"bert": "ImageBert", "uvit": "UViT"}
    some, *_ = (name for name in whole if name.endswith("bias"))
    for tensors, words in (
        ({key: t for key, t in whole.items() if key != some}, rf"{some} is missing"),
        ({**whole, "more": torch.zeros(1)}, r"more is left over"),
        ({**whole, some: torch.zeros(7)}, rf"{some} is \(7,\), not \({len(whole[some])},\)"),
        (weights(other), rf"{names[backbone]} were asked for, .* weights of {names[other]}"),
        (weights("transformer"), r"weights of maskgit of this package"),
        ({"latent_tokens": torch.zeros(1)}, r"weights of TiTok"),
        (weights(backbone, width=4), r"type generator\.width=4$"),
        (weights(backbone, depth=5), r"type generator\.depth=5$"),
        (
            weights(backbone, vocab_size=128, num_tokens=5),
            r"write 5 tokens of 128 ids, but the tokenizer makes 3 of 256",
        ),
        (weights(backbone, num_classes=4), r"has 2 labels .* knows 4 classes"),
    ):
        with pytest.raises(ConfigError, match=words):
            imported(tmp_path, backbone, written(tmp_path / "other.bin", tensors))
    assert list((tmp_path / "artifacts").glob("generator/[!.]*")) == []


def test_a_cut_file_and_one_of_nothing_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.bin", weights("uvit"))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ConfigError, match=r"the file is cut or damaged"):
        imported(tmp_path, "uvit", path)
    with pytest.raises(ConfigError, match=r"there is no such file, and it is none of the hub"):
        imported(tmp_path, "uvit", tmp_path / "nowhere.bin")
