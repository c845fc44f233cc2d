"""Training of generators: what it will need, gradient checkpointing, and what a divergence says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from imagegram.errors import StageError
from imagegram.generators.autoregressive.generator import AutoregressiveGenerator
from imagegram.generators.autoregressive.rar import Rar
from imagegram.models.cores import one_core
from imagegram.plan.planner import StoreSurroundings
from imagegram.plan.rates import Rates
from imagegram.store.artifacts import fingerprint
from imagegram.store.cost import PROCESS_BYTES
from imagegram.training.module import checkpoint_blocks
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

OPTIMIZATION = Optimization(steps=4, batch_size=8, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


def stage(
    root: Path, *, trainer: dict[str, Any] | None = None, labelled: Any = (), **fields: Any
) -> Any:
    rows = tuple((i % 9, i % 7, i % 5) for i in range(24))
    shard = FakeTokenShard(rows=rows, labels=labelled)
    tokens = context(root).make(FakeTokens(parts=(shard,)))
    given = {"optimization": OPTIMIZATION, "width": 16, "depth": 2, "num_heads": 2, **fields}
    generator = AutoregressiveGenerator(trainer=TrainerOptions(**(trainer or {})), **given)
    index: Any = None
    return generator.fit(tokens, index=index)


# ------------------------------------------------------------------------------------ the forecast


def test_weights_and_states_are_foreseen(tmp_path: Path) -> None:
    fit, ctx = stage(tmp_path, trainer={"segment_steps": 2}, width=64), context(tmp_path)
    at = StoreSurroundings(store=ctx.store, rates=Rates(ctx.store), workers=1, memory_bytes=10**10)
    cost = fit.forecast(at)
    assert (cost.known, cost.source) == (True, "time not foreseen")
    assert cost.handle.identity() == f"generator/{fingerprint(fit)[0]}"
    ctx.make(fit)
    files = [
        file
        for kind in ("generator", "training_state")
        for file in (tmp_path / "artifacts" / kind).glob("[!.]*/*.safetensors")
    ]
    assert len(files) == 3
    written = sum(file.stat().st_size for file in files)
    assert cost.disk_bytes == pytest.approx(written, rel=0.03)
    assert cost.memory_bytes - PROCESS_BYTES == cost.disk_bytes / 9 * 5
    rest = dataclasses.replace(OPTIMIZATION, seed=1)
    other = stage(tmp_path, trainer={"segment_steps": 2}, width=64, optimization=rest)
    states = [other.forecast(at).disk_bytes]
    whole = other._whole(other.component, other.data.prepare(ctx))
    ctx.make(dataclasses.replace(whole, last_step=2))
    states.append(other.forecast(at).disk_bytes)
    assert states == [cost.disk_bytes, cost.disk_bytes / 9 * 5]  # one state of two is left
    found = fit.forecast(at)
    assert (found.cached, found.disk_bytes) == (1, 0)


# ------------------------------------------------------------------------------------ checkpointing


@pytest.mark.parametrize("fields", [{}, {"backbone": "rar", "dropout": 0.2}], ids=["gpt", "rar"])
def test_checkpointing_changes_no_bit(tmp_path: Path, fields: dict[str, Any]) -> None:
    files = []
    for checkpointing in (False, True):
        root = tmp_path / str(checkpointing)
        trainer = {"gradient_checkpointing": checkpointing, "accelerator": "cpu"}
        model = context(root).make(stage(root, trainer=trainer, **fields))
        files.append(load_file(model.artifact.path / "model.safetensors"))
    assert files[0].keys() == files[1].keys()
    for name, tensor in files[0].items():
        assert torch.equal(tensor, files[1][name]), name


def test_blocks_are_computed_twice() -> None:
    network = Rar(vocab_size=5, num_tokens=3, width=8, depth=2, num_heads=2, hidden=16, dropout=0.0)
    calls: list[int] = []
    for number, block in enumerate(network.blocks):
        block.attn.register_forward_hook(lambda *_, n=number: calls.append(n))
    checkpoint_blocks(network)
    ids = torch.zeros(1, 3, dtype=torch.int64)
    network.to_logits(network(ids)).sum().backward()
    assert calls == [0, 1, 1, 0]
    calls.clear()
    with torch.no_grad():
        network(ids)
    assert calls == [0, 1]


# --------------------------------------------------------------------------------------- divergence


def test_a_divergence_names_the_fields_to_change(tmp_path: Path) -> None:
    wild = dataclasses.replace(
        OPTIMIZATION, learning_rate=1e30, gradient_clip_val=None, precision="bf16-mixed"
    )
    words = (
        r"training diverged: train/\w+ is (nan|inf); before step 4, at a learning rate of .*; type "
        r"a smaller generator\.optimization\.learning_rate=1e\+29 or more "
        r"generator\.optimization\.warmup_steps or generator\.optimization\.gradient_clip_val=1 or "
        r"generator\.optimization\.precision=32-true$"
    )
    with pytest.raises(StageError, match=words):
        context(tmp_path).make(stage(tmp_path, optimization=wild))


# ----------------------------------------------------------------------------------------- the cuts


def test_any_cut_of_a_training_under_labels_gives_the_same_weights(tmp_path: Path) -> None:
    """Orders, hidden labels and dropout are functions of (seed, step)."""
    labels = tuple(("a", "b", None)[i % 3] for i in range(24))
    fields = {"backbone": "rar", "dropout": 0.2, "labels": "label", "anneal": (0.5, 1.0)}
    files = []
    for steps in (1, 3, 4):
        trainer = {"segment_steps": steps, "accelerator": "cpu"}
        root = tmp_path / str(steps)
        model = context(root).make(stage(root, trainer=trainer, labelled=labels, **fields))
        files.append((model.artifact.path / "model.safetensors").read_bytes())
        assert model.classes == ("a", "b")
    assert files[0] == files[1] == files[2]
