"""Networks as folders and pages of the hub: saved, exported, pushed, read again the same."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from imagegram.errors import ConfigError, StageError
from imagegram.generators.autoregressive.chunked import ChunkTransformer
from imagegram.generators.autoregressive.network import Autoregressive
from imagegram.generators.autoregressive.rar import Rar
from imagegram.generators.maskgit.backbones import Bert, UVit
from imagegram.generators.maskgit.network import LocalMaskGit, MaskGit
from imagegram.generators.planner.network import Planner
from imagegram.models.cores import one_core
from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import build
from imagegram.store.fingerprint import identity
from imagegram.tokenizers.conv_vq.model import ConvVq
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq
from imagegram.tokenizers.titok.model import TiTok
from imagegram.tools import export
from imagegram.tools.networks import read_network
from tests.conftest import compose
from tests.hub_server import Hub, serving_alone
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

PAGE = "someone/network"
SECRET = "hf_nobody_may_see_this"
GENERATOR = {"vocab_size": 256, "num_tokens": 3, "width": 8, "depth": 3, "num_heads": 2}
NETWORKS: dict[type[HubNetwork], dict[str, Any]] = {
    Autoregressive: {**GENERATOR, "num_classes": 2},
    Rar: {**GENERATOR, "hidden": 24, "dropout": 0.1, "num_classes": 2},
    MaskGit: {**GENERATOR, "num_classes": 2},
    Bert: {**GENERATOR, "num_classes": 2},
    UVit: {**GENERATOR, "num_classes": 2},
    Planner: {**GENERATOR, "stages": 3, "codebooks": 1, "ends": False, "num_classes": 2},
}
TOKENIZERS = {OrderedFsq: "ordered_fsq_tiny", ConvVq: "conv_vq_tiny", TiTok: "titok_tiny"}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with serving_alone(monkeypatch, tmp_path / "cache", token=SECRET) as server:
        yield server


@functools.cache
def component(group: str, *words: str) -> Any:
    return instantiate(compose(*words)[group], _convert_="all")


def recipe(cls: type[HubNetwork], **fields: Any) -> Any:
    """The tokenizer of a small configuration."""
    return replace(component("tokenizer", f"tokenizer={TOKENIZERS[cls]}"), **fields)


def network(cls: type[HubNetwork]) -> Any:
    sizes = NETWORKS[cls] if cls in NETWORKS else recipe(cls).architecture.as_dict()
    made = build(cls, seed=3, **sizes)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return made.eval()


def outputs(made: Any) -> torch.Tensor:
    """What a network says of its input: logits, or the pixels of ids."""
    with torch.no_grad():
        if made.FAMILY in ("gpt", "rar", "chunk"):
            ids_BT, classes_B = torch.arange(6).view(2, 3), torch.tensor([0, 2])
            return made.to_logits(made(ids_BT, classes_B=classes_B))
        if made.FAMILY == "planner":
            return made(torch.arange(6).view(2, 3), torch.tensor([0, 2]))
        if made.FAMILY in ("maskgit", "local", "bert", "uvit"):
            return made(torch.tensor([[0, 256, 5], [256, 256, 7]]), torch.tensor([0, 2]))
        return made.paint(torch.arange(made.num_tokens)[None])


@pytest.mark.parametrize("cls", [*NETWORKS, *TOKENIZERS], ids=lambda cls: cls.__name__)
def test_a_saved_network_is_the_same_when_it_is_read(cls: Any, tmp_path: Path) -> None:
    made = network(cls)
    made.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("family") == cls.FAMILY
    assert set(config) >= set(made.sizes)
    assert "imagegram" in (tmp_path / "README.md").read_text()
    for again in (cls.from_pretrained(tmp_path), read_network(tmp_path / "model.safetensors")):
        assert type(again) is cls
        assert not again.training
        assert torch.equal(outputs(again), outputs(made))
        assert json.loads(json.dumps(again.sizes)) == json.loads(json.dumps(made.sizes))
    other = Bert if cls is UVit else UVit
    with pytest.raises(ConfigError, match=rf"reads family '{other.FAMILY}', .* '{cls.FAMILY}'"):
        other.from_pretrained(tmp_path)
    config["family"] = cls.FAMILY
    name = "num_tokens" if cls in NETWORKS else "image_size"
    (tmp_path / "config.json").write_text(json.dumps({**config, name: 2 * config[name]}))
    if cls is not ConvVq:  # whose weights do not depend on it
        with pytest.raises(ConfigError, match=r"the weights are not those of the network"):
            cls.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        cls.from_pretrained(tmp_path)


@pytest.mark.parametrize("cls", [Rar, TiTok], ids=lambda cls: cls.__name__)
def test_a_network_is_pushed_and_read_by_name(cls: Any, hub: Hub) -> None:
    made = network(cls)
    made.push_to_hub(PAGE)
    assert set(hub.pages[PAGE]) == {"README.md", "config.json", "model.safetensors"}
    assert torch.equal(outputs(cls.from_pretrained(PAGE)), outputs(made))


# --------------------------------------------------------------------------------- a tokenizer's


def pictures(size: int) -> Any:
    rng = np.random.Generator(np.random.Philox(key=5))
    return rng.integers(0, 256, (3, size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("cls", TOKENIZERS, ids=lambda cls: cls.__name__)
def test_a_tokenizer_is_the_same_from_a_file_a_folder_and_a_page(
    cls: Any, hub: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = network(cls)
    weights = tmp_path / "model.safetensors"
    recipe(cls).write_weights(weights, made.state_dict())
    out = tmp_path / "folder"
    assert export.main([f"weights={weights}", f"out={out}", f"push={PAGE}", "private=true"]) == 0
    assert (out / "model.safetensors").read_bytes() == weights.read_bytes()
    card = (out / "README.md").read_text()
    assert f"tokenizer.checkpoint={PAGE}" in card
    assert "How it was trained was not beside the weights." in card
    said = capfd.readouterr()
    assert f"{hub.url}/{PAGE}" in said.out
    assert SECRET not in said.out + said.err + card

    # A page brings its sizes, whatever the configuration has.
    other = {"ordered_fsq": "num_registers", "conv_vq": "channels", "titok": "num_latents"}
    fields = {other[cls.FAMILY]: 32}
    ids = []
    for checkpoint in (str(weights), str(out), PAGE):
        asked = recipe(cls, checkpoint=checkpoint, **fields)
        asked.check_machine()
        fit = asked.fit(None)
        found = context(tmp_path).make(fit) if checkpoint == PAGE else fit.value
        assert found.architecture == recipe(cls).architecture
        ids.append((identity(found), np.asarray(found.encode(pictures(32)).documents).tolist()))
    assert ids[0] == ids[1] == ids[2]
    hub.requests.clear()
    context(tmp_path).make(recipe(cls, checkpoint=PAGE, **fields).fit(None))
    assert hub.requests == []


def test_a_page_of_another_network_is_refused(hub: Hub, tmp_path: Path) -> None:
    network(TiTok).push_to_hub(PAGE)
    for cls, words in ((OrderedFsq, r"has the entry ordered_fsq in"), (ConvVq, r"weights of Mas")):
        with pytest.raises(ConfigError, match=words):
            context(tmp_path).make(recipe(cls, checkpoint=PAGE).fit(None))


# --------------------------------------------------------------------------------- a generator's

WORDS = {
    Autoregressive: "generator=ar",
    Rar: "generator=ar generator.backbone=rar generator.hidden=24",
    ChunkTransformer: "generator=ar generator.backbone=chunk generator.chunk_size=2 "
    "generator.local_depth=1",
    MaskGit: "generator=maskgit",
    LocalMaskGit: "generator=maskgit generator.backbone=local",
    Bert: "generator=maskgit generator.backbone=bert",
    UVit: "generator=maskgit generator.backbone=uvit",
}


def generator(cls: type[HubNetwork], **fields: Any) -> Any:
    sizes = [f"generator.{name}={GENERATOR[name]}" for name in ("width", "depth", "num_heads")]
    how = ("trainer=cpu", "trainer.max_steps=2", "generator.labels=label")
    return replace(component("generator", *WORDS[cls].split(), *how, *sizes), **fields)


@pytest.mark.parametrize("cls", WORDS, ids=lambda cls: cls.__name__)
def test_a_generator_is_the_same_from_its_training_and_a_page(
    cls: Any, hub: Hub, tmp_path: Path
) -> None:
    rows = tuple((i % 9, i % 7, i % 5) for i in range(24))
    labels = tuple(("dog", "cat", None)[i % 3] for i in range(24))
    tokens = context(tmp_path).make(FakeTokens(parts=(FakeTokenShard(rows=rows, labels=labels),)))
    trained = context(tmp_path).make(generator(cls).fit(tokens, index=None))
    folder = trained.artifact.path
    page = f"push={PAGE}"
    assert export.main([f"weights={folder}", f"out={tmp_path / 'folder'}", page]) == 0
    card = hub.pages[PAGE]["README.md"].decode()
    assert "Trained for 2 steps of 64 items, from 24 training items" in card
    assert "generator.labels=label" in card
    for checkpoint in (folder, tmp_path / "folder", PAGE):
        # Another corpus, whose labels alone would be other classes.
        some = FakeTokens(parts=(FakeTokenShard(rows=rows[:2], labels=("dog", "owl")),))
        given = generator(cls, checkpoint=str(checkpoint))
        given.check_machine()
        found = context(tmp_path).make(given.fit(context(tmp_path).make(some), index=None))
        assert found.classes == ("cat", "dog")
        assert torch.equal(outputs(found.network), outputs(trained.network))
    strange = FakeTokens(parts=(FakeTokenShard(rows=rows[:2], labels=("emu", "owl")),))
    with pytest.raises(ConfigError, match=r"no label of the corpus \(emu, owl\) is one of .*cat, "):
        context(tmp_path).make(given.fit(context(tmp_path).make(strange), index=None))


# ------------------------------------------------------------------------------------ the command


def test_what_cannot_be_exported_is_refused(hub: Hub, tmp_path: Path) -> None:
    out, weights = f"out={tmp_path / 'out'}", tmp_path / "model.safetensors"
    recipe(TiTok).write_weights(weights, network(TiTok).state_dict())
    published = tmp_path / "published.bin"
    torch.save(network(TiTok).state_dict(), published)
    (tmp_path / "summary.json").write_text('{"stages": {}}')
    for words, message in (
        ([f"weights={published}", out], r"does not say of which network it is"),
        ([f"weights={tmp_path / 'none'}", out], r"weights=.*none: there is no such file"),
        (["weights=a/b", out], r"weights=a/b: there is no such file or folder"),
        ([f"weights={weights}", f"out={tmp_path}"], r"exists already; type another out=FOLDER"),
        ([f"weights={weights}", f"run={tmp_path}", out], r"two ways to say the same"),
        ([f"weights={weights}", out, "private=yes"], r"must be true or false"),
        ([f"run={tmp_path}", "part=tokeniser", out], r"did you mean 'tokenizer'"),
        ([f"run={tmp_path}", "part=generator", out], r"the run has no trained generator"),
        ([f"run={tmp_path}", out, "push=a/b"], r"add part=tokenizer"),
        ([f"weights={weights}", f"out={tmp_path / 'x'}", "push=a//b"], r"push=a//b is no page"),
    ):
        with pytest.raises(ConfigError, match=message):
            export.main(words)
    assert hub.requests == []
    assert not (tmp_path / "out").exists()


def test_who_may_not_write_is_told_so_without_the_token(
    hub: Hub,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / "model.safetensors"
    recipe(TiTok).write_weights(weights, network(TiTok).state_dict())
    hub.token = "another"
    with pytest.raises(ConfigError, match=r"does not let you write .*401.*HF_TOKEN") as refusal:
        export.main([f"weights={weights}", f"out={tmp_path / 'out'}", f"push={PAGE}"])
    said = capfd.readouterr()
    assert SECRET not in str(refusal.value) + said.out + said.err
    assert hub.pages == {}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with pytest.raises(StageError, match=r"was not reached, or failed .*the files are in"):
        export.main([f"weights={weights}", f"out={tmp_path / 'more'}", f"push={PAGE}"])
