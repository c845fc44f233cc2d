"""Training on several devices: two processes on this CPU, by Lightning's DDP."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imagegram.training.state import TrainingState
from tests.pictures import context
from tests.toy_training import segment
from tests.unit.test_train_modules import train


def test_processes_share_a_training(tmp_path: Path) -> None:
    alone, together = (
        context(tmp_path / f"{devices}").make(segment(trainer={"devices": devices}))
        for devices in (1, 2)
    )
    assert together.artifact.digest == alone.artifact.digest
    ours, theirs = (TrainingState.read(handle.state) for handle in (alone, together))
    assert theirs.step == 12
    for name, weights in ours.networks["autoencoder"].items():
        # Sums are added in another order, and rounding to codes makes a little of it a little more.
        torch.testing.assert_close(
            theirs.networks["autoencoder"][name], weights, rtol=1e-3, atol=2e-3
        )
    losses = [handle.history[0]["train/loss"] for handle in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_processes_share_a_training_of_several_optimizers(tmp_path: Path) -> None:
    handle = train(
        tmp_path,
        "adversaries",
        steps=4,
        devices=2,
        strategy="ddp_find_unused_parameters_true",
        optimization={"warmup_steps": 0},
    )
    state = TrainingState.read(handle.state)
    assert state.step == 4
    assert {float(step) for step in state.optimizers["generator"]["step"].values()} == {4.0}
    assert {"train/generator", "train/discriminator"} < set(handle.history[0])
