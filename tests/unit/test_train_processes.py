"""Training on several devices: two processes on this CPU, by Lightning's DDP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imagegram.training.state import TrainingState
from tests.conftest import REPOSITORY
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


#: A long training on two devices; its workers write their process ids.
PROGRAM = """
import os, sys
from pathlib import Path
from imagegram.executors.commands import exit_cleanly
from tests import toy_training
from tests.pictures import context

class Watched(toy_training.Quarters):
    def gather(self, rows):
        Path(sys.argv[1], f"{os.getpid()}.pid").touch()
        return super().gather(rows)

if __name__ == "__main__":
    toy_training.Quarters = Watched
    whole = toy_training.segment(steps=100_000, trainer={"devices": 2, "segment_steps": None})
    sys.exit(exit_cleanly(lambda: context(Path(sys.argv[1])).make(whole)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_its_training(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    parent = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, seconds=120)
    parent.kill()
    parent.wait()
    workers = [Path("/proc", path.stem) for path in tmp_path.glob("*.pid")]
    wait_until(lambda: not any(path.exists() for path in workers), seconds=5)


def wait_until(what: Callable[[], object], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)
