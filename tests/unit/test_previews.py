"""Samples while a generator is trained: shown at each state, without a part in its result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from imagegram.callbacks.sample_grid import SampleGrid
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.images.modality import IMAGES
from imagegram.models.cores import one_core
from imagegram.samplers.sequential import SequentialSampler
from imagegram.texts.modality import TEXTS
from imagegram.training import previews
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

LAYOUT: Any = SimpleNamespace(num_tokens=3)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def train(root: Path, look: Callable[[Any, int], None] | None = None) -> Any:
    """Six steps in three segments, with somebody who looks at each state."""
    rows = tuple((i % 9, i % 7, i % 5) for i in range(24))
    ctx = dataclasses.replace(context(root), previews=look)
    tokens = ctx.make(FakeTokens(parts=(FakeTokenShard(rows=rows),)))
    generator = AutoregressiveGenerator(
        width=16,
        depth=1,
        num_heads=2,
        optimization=Optimization(steps=6, batch_size=8, learning_rate=1e-2),
        trainer=TrainerOptions(segment_steps=2, accelerator="cpu"),
    )
    index: Any = None
    return ctx.make(generator.fit(tokens, index=index))


def exp(modality: Any) -> Any:
    """An experiment whose tokenizer paints a token as a grey picture."""

    def decode(tokens_BT: Any, *, output_size: int | None) -> list[Any]:
        return [np.full((2, 2, 3), row[0], np.uint8) for row in tokens_BT]

    tokenizer = SimpleNamespace(
        modality=modality, spec=SimpleNamespace(layout=LAYOUT), decode=decode
    )
    sampler = SequentialSampler(name="raster")
    return SimpleNamespace(
        tokenizer=tokenizer, sampler=sampler, condition=None, seed=0, output_size=None
    )


def test_each_state_is_shown_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "_SHARE", 100.0)
    pictures: list[tuple[str, tuple[int, ...], list[str], int]] = []

    def images(key: str, grid: Any, captions: list[str], *, step: int) -> None:
        pictures.append((key, grid.shape, captions, step))

    mirror = SimpleNamespace(images=images)
    run = SimpleNamespace(exp=exp(IMAGES), context=context(tmp_path), mirror=mirror)
    callback = SampleGrid(max_training_images=4)
    shown = train(tmp_path / "shown", lambda opens, s: callback.on_training_state(run, opens, s))
    assert pictures == [
        ("train/samples", (1, 6, 6, 3), [f"step {step}"], step) for step in (2, 4, 6)
    ]
    assert list((tmp_path / "shown/artifacts/training_state").glob(".*")) == []
    alone = train(tmp_path / "alone")
    weights = [load_file(each.artifact.path / "model.safetensors") for each in (shown, alone)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    train(tmp_path / "shown", lambda *_: pictures.clear())  # found: nothing is shown again
    assert len(pictures) == 3


def test_weights_are_those_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "_SHARE", 100.0)
    seen = []

    def look(opens: Any, step: int) -> None:
        with opens() as model:
            seen.append({name: t.clone() for name, t in model.network.state_dict().items()})

    last = train(tmp_path, look).network.state_dict()
    assert len(seen) == 3
    assert all(torch.equal(tensor, last[name]) for name, tensor in seen[-1].items())
    assert not torch.equal(seen[0]["ids"], seen[1]["ids"])


def test_previews_that_take_long_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr(previews.time, "monotonic", lambda: float(next(now)))
    steps: list[int] = []
    train(tmp_path, lambda _, step: steps.append(step))
    assert steps == [2]


def test_texts_are_shown_as_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "_SHARE", 100.0)
    told: list[tuple[str, str, int]] = []

    def page(key: str, html: Any, text: str, *, step: int) -> None:
        assert "&lt;0&gt;" in html
        told.append((key, text, step))

    writes = exp(TEXTS)
    writes.tokenizer.decode = lambda tokens_BT: [f"<{row}>" for row in range(len(tokens_BT))]
    run = SimpleNamespace(exp=writes, context=context(tmp_path), mirror=SimpleNamespace(page=page))
    callback = SampleGrid(max_training_images=2)
    train(tmp_path, lambda opens, step: callback.on_training_state(run, opens, step))
    assert [(key, step) for key, _, step in told] == [("train/samples", step) for step in (2, 4, 6)]
    assert all("<1>" in text and "<2>" not in text for _, text, _ in told)


def test_nothing_is_shown_where_nobody_asks(tmp_path: Path) -> None:
    def opens() -> Any:
        raise AssertionError("nobody asked for it")

    run = SimpleNamespace(exp=exp(TEXTS), context=context(tmp_path), mirror=None)
    SampleGrid(max_training_images=0).on_training_state(run, opens, 1)
