"""Weights of others: read without running anything, matched name by name, refused in a sentence."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from imagegram.conditions.label import LabelCondition
from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.autoregressive.sizes import RarSizes, make, make_fresh
from imagegram.generators.learned import Architecture
from imagegram.generators.weights import classes_of, refuse_other_fields, source_of
from imagegram.models.checkpoints import read_tensors, shapes_of
from imagegram.models.cores import one_core
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.sequential import SequentialSampler
from imagegram.store.artifacts import fingerprint
from imagegram.store.weights import Source
from imagegram.training.optimization import Optimization
from tests.hub_server import COMMIT, Hub, serving
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

#: FakeTokens have 256 ids, 3 a document.
SIZES = RarSizes(
    vocab_size=256,
    num_tokens=3,
    width=8,
    depth=2,
    num_heads=2,
    hidden=24,
    dropout=0.0,
    num_classes=2,
)
LABEL = LabelCondition(name="label")
LAYOUT: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(3)
PAGE = "someone/RAR"


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def weights(sizes: Architecture = SIZES, seed: int = 3) -> dict[str, torch.Tensor]:
    state = make_fresh(sizes, seed=seed).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(t.shape, generator=generator) for name, t in state.items()}


def written(path: Path, tensors: Any) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def token_set(root: Path, *labels: str | None) -> Any:
    rows = tuple((i, i + 1, i + 2) for i in range(len(labels)))
    return context(root).make(FakeTokens(parts=(FakeTokenShard(rows=rows, labels=labels),)))


def generator(checkpoint: Any, **fields: Any) -> AutoregressiveGenerator:
    how = Optimization(steps=1, batch_size=1, learning_rate=1.0)
    given = {"backbone": "rar", "width": 8, "depth": 2, "num_heads": 2, "hidden": 24}
    return AutoregressiveGenerator(
        optimization=how, checkpoint=str(checkpoint), **{**given, "labels": "label", **fields}
    )


def imported(root: Path, given: AutoregressiveGenerator, *labels: str | None) -> Any:
    index: Any = None
    tokens = token_set(root, *(labels or ("b", "a", "b")))
    given.check_machine()
    return context(root).make(given.fit(tokens, index=index))


# ------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_weights_are_taken_over(tmp_path: Path, suffix: str) -> None:
    tensors = weights()
    model = imported(tmp_path, generator(written(tmp_path / f"rar{suffix}", tensors)))
    assert model.classes == ("a", "b")
    state = model.network.state_dict()
    assert state.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(state[name], tensor), name
    guided = SequentialSampler(name="raster", guidance=Guidance(scale=3.0))
    ids, trace = model.generate(
        np.arange(5, dtype=np.uint64), sampler=guided, layout=LAYOUT, seed=0, condition=LABEL
    )
    assert ids.shape == trace["log_prob"].shape == (5, 3)


def test_files_of_a_network_that_was_trained_here_are_read_too(tmp_path: Path) -> None:
    sizes = Architecture(vocab_size=256, num_tokens=3, width=8, depth=1, num_heads=2)
    tensors = weights(sizes)
    path = written(tmp_path / "model.safetensors", tensors)
    fields = {"backbone": "gpt", "depth": 1, "hidden": None, "labels": None}
    model = imported(tmp_path, generator(path, **fields))
    assert model.classes == ()
    assert torch.equal(model.network.state_dict()["ids"], tensors["ids"])


def test_half_precision_becomes_single(tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in weights().items()}
    model = imported(tmp_path, generator(written(tmp_path / "rar.bin", tensors)))
    assert model.network.lm_head.weight.dtype == torch.float32
    assert torch.equal(model.network.lm_head.weight, tensors["lm_head.weight"].float())


def test_other_bytes_are_another_model(tmp_path: Path) -> None:
    index: Any = None
    tokens = token_set(tmp_path, "a", "b")
    files = [written(tmp_path / f"{seed}.bin", weights(seed=seed)) for seed in (3, 4)]
    copy = tmp_path / "copy.bin"
    copy.write_bytes(files[0].read_bytes())
    digests = [fingerprint(generator(path).fit(tokens, index=index))[0] for path in (*files, copy)]
    assert digests[0] == digests[2] != digests[1]


# ------------------------------------------------------------------------------------ from the hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    data = written(tmp_path / "served.bin", weights()).read_bytes()
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving({PAGE: {"rar_b.bin": data}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_weights_are_fetched_from_the_hub_once(hub: Hub, tmp_path: Path) -> None:
    given = generator(f"{PAGE}/rar_b.bin")
    model = imported(tmp_path, given)
    assert torch.equal(model.network.lm_head.weight, weights()["lm_head.weight"])
    (fetched,) = (tmp_path / "artifacts" / "weights").glob("[!.]*")
    assert (fetched / "rar_b.bin").read_bytes() == hub.pages[PAGE]["rar_b.bin"]
    assert COMMIT in (fetched / "manifest.json").read_text()
    hub.requests.clear()
    imported(tmp_path, given)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        (f"{PAGE}/rar_m.bin", r"the page has no such file"),
        ("nobody/RAR/rar_b.bin", r"generator\.checkpoint=nobody/RAR: the hub has no such page"),
        (f"{PAGE}/rar_b.bin@v9", r"no such branch, tag or commit"),
    ],
)
def test_what_the_hub_does_not_have_is_refused(
    hub: Hub, tmp_path: Path, checkpoint: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        imported(tmp_path, generator(checkpoint))


def test_a_checkpoint_says_where_it_is(tmp_path: Path) -> None:
    assert source_of(checkpoint="a/b/c/d.safetensors@v1", start=None) == Source(
        repo="a/b", file="c/d.safetensors", revision="v1", setting="generator.checkpoint"
    )
    whole = source_of(checkpoint=None, start="a/b@v1")
    assert (whole.repo, whole.file, whole.revision) == ("a/b", "model.safetensors", "v1")
    (tmp_path / "model.safetensors").touch()
    assert source_of(checkpoint=str(tmp_path), start=None).path == tmp_path / "model.safetensors"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"the folder has no model\.safetensors; type gen"):
        source_of(checkpoint=str(tmp_path / "empty"), start=None)
    for nowhere in ("rar_b.bin", "a/b.bin", "./a/b/c.bin", "/a/b/c.bin", "a/b/c.txt", "./a/b"):
        with pytest.raises(ConfigError, match=r"there is no such file, and it is none of the hub"):
            source_of(checkpoint=nowhere, start=None)


# -------------------------------------------------------------------------------- what is not taken


class Evil:
    """A pickle that would run a program."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran-by-a-pickle",)


def test_a_pickle_that_runs_programs_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "evil.bin", {**weights(), "evil": Evil()})
    with pytest.raises(ConfigError, match=r"could run programs, so it is not read"):
        generator(path).check_machine()
    assert not (tmp_path / "ran-by-a-pickle").exists()


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_cut_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = written(tmp_path / f"cut{suffix}", weights())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match=r"the file is cut or damaged .*fetch it again"):
        read_tensors(path, setting="generator.checkpoint")


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in weights().items() if key != name}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (without("blocks.1.norm2.bias"), r"blocks\.1\.norm2\.bias is missing"),
        ({**weights(), "more": torch.zeros(1)}, r"more is left over"),
        ({**weights(), "lm_head.bias": torch.zeros(7)}, r"lm_head\.bias is \(7,\), not \(256,\)"),
        (without("cls_token"), r"lack 'cls_token'"),
        (
            {"latent_tokens": torch.zeros(1)},
            r"RAR were asked for, but .* weights of TiTok",
        ),
        ({"a": torch.zeros(1)}, r"but the file holds unknown ones \(a\)"),
        ({"model": weights()}, r"but this one holds model; give the state dict"),
        ([torch.zeros(1)], r"but this one holds list"),
        (
            weights(dataclasses.replace(SIZES, depth=1, hidden=32)),
            r"of width 8, depth 1, num_heads 2, hidden 32, not of generator\.depth=2 .*; type "
            r"generator\.depth=1 generator\.hidden=32$",
        ),
        (
            weights(dataclasses.replace(SIZES, vocab_size=128, num_tokens=5)),
            r"write 5 tokens of 128 ids, but the tokenizer makes 3 of 256",
        ),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else "file",
)
def test_weights_of_another_network_are_refused(tmp_path: Path, tensors: Any, words: str) -> None:
    path = written(tmp_path / "other.bin", tensors)
    with pytest.raises(ConfigError, match=words):
        imported(tmp_path, generator(path))
    assert list((tmp_path / "artifacts").glob("generator/[!.]*")) == []


def test_the_configuration_that_fits_is_named(tmp_path: Path) -> None:
    base = RarSizes(
        **{**dataclasses.asdict(SIZES), "width": 768, "depth": 24, "num_heads": 16, "hidden": 3072}
    )
    with torch.device("meta"):
        shapes = shapes_of(make(base).state_dict())
    large = generator("a/b", name="rar_l", width=1024, depth=24, num_heads=16, hidden=4096)
    words = (
        r"of a network of width 768, depth 24, num_heads 16, hidden 3072, not of generator\.width="
        r"1024 generator\.hidden=4096; type generator=rar_b or generator\.width=768 gen"
    )
    with pytest.raises(ConfigError, match=words):
        refuse_other_fields(
            large.sizes_in(shapes, setting="x"),
            large.sizes(vocab_size=256, num_tokens=3),
            generator=large,
        )


def test_classes_are_numbers_or_as_many_labels_in_order(tmp_path: Path) -> None:
    assert classes_of((), 3, key="label") == ("0", "1", "2")
    path = written(tmp_path / "rar.bin", weights())
    assert imported(tmp_path, generator(path), "1", "0", "1").classes == ("0", "1")
    assert imported(tmp_path, generator(path), "n2", "n1").classes == ("n1", "n2")
    with pytest.raises(ConfigError, match=r"the corpus has 3 labels .* knows 2 classes"):
        imported(tmp_path, generator(path), "a", "b", "c")
    with pytest.raises(ConfigError, match=r"the corpus has 1 labels \(2\), but"):
        imported(tmp_path, generator(path), "2", "2")
    blind = imported(tmp_path, generator(path, labels=None), "a", "b", "c")
    samples = np.arange(2, dtype=np.uint64)
    plain = SequentialSampler(name="raster")
    assert blind.generate(samples, sampler=plain, layout=LAYOUT, seed=0)[0].shape == (2, 3)
