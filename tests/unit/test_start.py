"""Trainings that begin with the weights of a file: what is kept, refused, and cut into segments."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.maskgen.generator import MaskGenGenerator
from imagegram.generators.maskgit.generator import MaskGitGenerator
from imagegram.models.cores import one_core
from imagegram.plan.planner import StoreSurroundings
from imagegram.plan.rates import Rates
from imagegram.store.artifacts import fingerprint
from imagegram.training.options import TrainerOptions
from tests.captioned import NAMES, text_encoder
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard
from tests.toy_training import optimization

STILL = optimization(steps=2, learning_rate=0.0, warmup_steps=0)
LEARNS = optimization(steps=6, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    return text_encoder(tmp_path_factory.mktemp("encoder"), max_tokens=5)


def generator(cls: Any, embedder: SentenceEmbedder, **fields: Any) -> Any:
    sizes = {"width": 16, "depth": 1, "num_heads": 2, "trainer": TrainerOptions(accelerator="cpu")}
    if cls is MaskGenGenerator:
        sizes |= {"embedder": embedder, "captions": "label"}
    return cls(**{"name": "toy", "optimization": LEARNS, **sizes, **fields})


def fit(root: Path, how: Any, *, shift: int = 0, names: Any = NAMES, ragged: bool = False) -> Any:
    """The stage that trains on some documents; ``shift`` makes another corpus of them."""
    rows = tuple((i + shift, i % 3, i % 5) for i in range(len(names)))
    if ragged:
        rows = tuple(row[: 1 + (place + shift) % 3] for place, row in enumerate(rows))  # type: ignore[misc]
    shard = FakeTokenShard(rows=rows, labels=names, length=None if ragged else 3)
    tokens: Any = context(root).make(FakeTokens(parts=(shard,)))
    tokens = dataclasses.replace(tokens, window=3) if ragged else tokens
    how.check_machine()
    return how.fit(tokens, index=None)


def trained(root: Path, how: Any, **corpus: Any) -> Path:
    """The file of weights of a finished training."""
    path: Path = context(root).make(fit(root, how, **corpus)).artifact.path / "model.safetensors"
    return path


@pytest.mark.parametrize("cls", [MaskGenGenerator, MaskGitGenerator, AutoregressiveGenerator])
def test_a_training_that_learns_nothing_keeps_the_weights_that_it_begins_with(
    cls: Any, embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    first = trained(tmp_path / "a", generator(cls, embedder))
    for name in ("file", "folder"):
        given = first if name == "file" else first.parent
        still = generator(cls, embedder, start=str(given), optimization=STILL)
        kept = load_file(trained(tmp_path / name, still, shift=9))
        assert kept.keys() == load_file(first).keys()
        for key, tensor in load_file(first).items():
            assert torch.equal(kept[key], tensor), key
    again = trained(tmp_path / "c", dataclasses.replace(still, optimization=LEARNS), shift=9)
    fresh = trained(tmp_path / "d", generator(cls, embedder), shift=9)
    assert len({path.read_bytes() for path in (first, again, fresh)}) == 3


def test_lengths_are_those_of_the_new_documents(tmp_path: Path, embedder: Any) -> None:
    first = trained(tmp_path / "a", generator(MaskGitGenerator, embedder), ragged=True)
    still = generator(MaskGitGenerator, embedder, start=str(first), optimization=STILL)
    found = load_file(trained(tmp_path / "b", still, ragged=True, names=NAMES[:2]))
    fresh = generator(MaskGitGenerator, embedder, optimization=STILL)
    expected = load_file(trained(tmp_path / "c", fresh, ragged=True, names=NAMES[:2]))
    assert torch.equal(found["lengths"], expected["lengths"])
    assert not torch.equal(found["lengths"], load_file(first)["lengths"])
    assert torch.equal(found["ids"], load_file(first)["ids"])


def test_a_training_is_known_by_the_content_of_the_file(embedder: Any, tmp_path: Path) -> None:
    first, other = (
        trained(tmp_path / name, generator(MaskGenGenerator, embedder), shift=shift)
        for name, shift in (("a", 0), ("b", 1))
    )
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(first.read_bytes())
    starts = (None, first, copy, other)
    plain, own, same, another = (
        fit(tmp_path / "c", generator(MaskGenGenerator, embedder, start=start and str(start)))
        for start in starts
    )
    digests = [fingerprint(each)[0] for each in (plain, own, same, another)]
    assert digests[1] == digests[2]
    assert len(set(digests)) == 3
    made_in = context(tmp_path / "c")
    prepared = own.data.prepare(made_in)
    segments = [
        fingerprint(each._whole(each._for(each.component, prepared), prepared))[0]
        for each in (plain, own, same, another)
    ]
    assert segments[1] == segments[2]
    assert len(set(segments)) == 3


def test_a_killed_training_goes_on_as_if_undisturbed(embedder: Any, tmp_path: Path) -> None:
    """Only the last two of three segments are left to train: they do not begin anew."""
    first = trained(tmp_path / "a", generator(MaskGenGenerator, embedder))
    whole, parts = (
        generator(
            MaskGenGenerator,
            embedder,
            start=str(first),
            trainer=TrainerOptions(accelerator="cpu", segment_steps=steps),
        )
        for steps in (6, 2)
    )
    expected = trained(tmp_path / "whole", whole, shift=9)
    stage, made_in = fit(tmp_path / "parts", parts, shift=9), context(tmp_path / "parts")
    prepared = stage.data.prepare(made_in)
    begun = stage._whole(stage._for(stage.begun(made_in), prepared), prepared)
    made_in.make(dataclasses.replace(begun, last_step=2))
    rates = Rates(made_in.store)
    at = StoreSurroundings(store=made_in.store, rates=rates, workers=1, memory_bytes=10**10)
    assert stage._missing_states(at) == 2  # a plan finds the first one too
    assert trained(tmp_path / "parts", parts, shift=9).read_bytes() == expected.read_bytes()


def test_what_a_training_cannot_begin_with_is_refused(embedder: Any, tmp_path: Path) -> None:
    first = trained(tmp_path / "a", generator(MaskGenGenerator, embedder))
    whole = load_file(first)
    files = {
        "cut": first.read_bytes()[:900],
        "pickle": pickle.dumps({"ids": Path("x")}),
    }
    for name, content in files.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
    (tmp_path / "cut.safetensors").write_bytes(files["cut"])
    save_file({"latent_tokens": torch.zeros(1)}, tmp_path / "family.safetensors")
    save_file({k: v for k, v in whole.items() if "norm" not in k}, tmp_path / "part.safetensors")
    for start, fields, words in (
        ("nowhere.safetensors", {}, "there is no such file"),
        ("cut.safetensors", {}, "the file is cut or damaged"),
        ("pickle.pt", {}, "asks for more than tensors, which could run programs"),
        ("family.safetensors", {}, "weights of maskgen of this package were asked for, .* TiTok"),
        (first, {"width": 24}, r"network of width 16, .* type generator\.width=16$"),
        (first, {"checkpoint": str(first)}, "leave one of them out"),
        ("part.safetensors", {}, "lack|is missing"),
    ):
        how = {"start": str(tmp_path / start), **fields}
        with pytest.raises(ConfigError, match=rf"generator\.start.*{words}") as error:
            trained(tmp_path, generator(MaskGenGenerator, embedder, **how))
        if "checkpoint" not in fields:
            assert "generator.checkpoint" not in str(error.value)
        assert "\n" not in str(error.value)


def test_weights_of_other_labels_are_refused(embedder: Any, tmp_path: Path) -> None:
    learns = generator(MaskGitGenerator, embedder, labels="label")
    first = trained(tmp_path / "a", learns)
    begins = dataclasses.replace(learns, start=str(first), optimization=STILL)
    trained(tmp_path / "b", begins)
    some = r"know 6 labels \(black, blue, green \.\.\.\), but 5 labels .* are to be learned"
    with pytest.raises(ConfigError, match=rf"generator\.start: the weights {some}"):
        trained(tmp_path / "c", begins, names=NAMES[:5])
    with pytest.raises(ConfigError, match=r"but no labels are to be learned"):
        trained(tmp_path / "d", dataclasses.replace(begins, labels=None))
