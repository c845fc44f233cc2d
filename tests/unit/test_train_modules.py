"""What a module may be: several optimizers, frozen parts, buffers, dropout, tied weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagegram.errors import ConfigError
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import SegmentHandle, TrainSegment, train_in_segments
from imagegram.training.state import TrainingState
from tests.pictures import context
from tests.toy_training import bytes_of, optimization

WIDTH = 6


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Rows of numbers from their row's number."""

    count: int = 48

    def __len__(self) -> int:
        return self.count

    def identity(self) -> Any:
        return self.count

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        return np.stack(
            [np.random.default_rng(row).normal(size=WIDTH).astype(np.float32) for row in rows]
        )


@dataclass(frozen=True, kw_only=True)
class Toy:
    """An objective of a module by name."""

    VERSION: ClassVar[int] = 1

    which: str

    def module(self) -> TrainingModule:
        return MODULES[self.which](self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        return items, rng.normal(size=items.shape).astype(np.float32)


class Parts(nn.Module):
    """Dropout, a frozen layer, a buffer that training moves, tied weights, a forgotten layer."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.frozen = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.last = nn.Linear(WIDTH, WIDTH)
        self.last.weight = self.first.weight
        self.forgotten = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.count += 1
        hidden = self.norm(self.frozen(torch.tanh(self.first(x))))
        out: Tensor = self.last(self.dropout(hidden))
        return out


class Plain(TrainingModule):
    def make_networks(self) -> dict[str, nn.Module]:
        return {"main": Parts()}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        clean, noise = batch
        loss = (self.networks["main"](clean + noise) - clean).square().mean()
        self.log("train/loss", loss)
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        assert not networks["main"].training
        clean = torch.from_numpy(items.gather(np.arange(len(items))))
        return {"val/mse": float((networks["main"](clean) - clean).square().mean())}


class Adversaries(TrainingModule):
    """A generator and a discriminator that take turns within a batch."""

    averaged = ("generator",)

    def __init__(self, objective: Any) -> None:
        super().__init__(objective)
        self.automatic_optimization = False

    def make_networks(self) -> dict[str, nn.Module]:
        return {"generator": nn.Linear(WIDTH, WIDTH), "discriminator": nn.Linear(WIDTH, 1)}

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "generator": self.adamw(self.networks["generator"]),
            "discriminator": torch.optim.SGD(
                self.networks["discriminator"].parameters(), lr=0.1, momentum=0.9
            ),
        }

    def learning_rate(self, optimizer: str, step: int) -> float:
        scale = 0.1 if optimizer == "discriminator" else 1.0
        return scale * super().learning_rate(optimizer, step)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        real, noise = batch
        generator, judge = self.networks["generator"], self.networks["discriminator"]
        loss = -judge(generator(noise)).mean()
        self.descend("generator", loss)
        judged = judge(generator(noise).detach()).relu().mean() + (1 - judge(real)).relu().mean()
        self.descend("discriminator", judged)
        self.log_dict({"train/generator": loss, "train/discriminator": judged})


class Loud(Plain):
    """Revives a code after every step."""

    def after_step(self) -> None:
        with torch.no_grad():
            self.networks["main"].forgotten.bias.fill_(self.steps_done)  # type: ignore[union-attr]


MODULES = {"plain": Plain, "adversaries": Adversaries, "loud": Loud}


def train(root: Path, which: str, **options: Any) -> SegmentHandle:
    steps = options.pop("steps", 10)
    how = optimization(steps=steps, **options.pop("optimization", {}))
    whole = TrainSegment(
        objective=Toy(which=which),
        optimization=how,
        items=Vectors(),
        validation=Vectors(count=7),
        last_step=steps,
        trainer=TrainerOptions(**{"accelerator": "cpu", "segment_steps": steps} | options),
    )
    return train_in_segments(context(root), whole, description="toy")


@pytest.mark.parametrize("which", ["plain", "adversaries"])
def test_any_cut_gives_the_same_state(which: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", which)
    cut = train(tmp_path / "cut", which, segment_steps=3)
    assert bytes_of(cut.artifact.path) == bytes_of(whole.artifact.path)


def test_dropout_draws_by_seed_and_step(tmp_path: Path) -> None:
    def last(name: str, **changes: Any) -> dict[str, Tensor]:
        torch.manual_seed(len(name))  # what was drawn before changes nothing
        handle = train(tmp_path / name, "plain", optimization=changes)
        return TrainingState.read(handle.state).networks["main"]

    before = torch.get_rng_state()
    one, two, other = last("a"), last("bb"), last("ccc", seed=1)
    assert all(one[key].equal(two[key]) for key in one)
    assert not one["first.weight"].equal(other["first.weight"])
    torch.set_rng_state(before)
    train(tmp_path / "d", "plain")
    assert torch.get_rng_state().equal(before)


def test_every_batch_counts_once_whatever_optimizers_do(tmp_path: Path) -> None:
    handle = train(tmp_path, "adversaries")
    state = TrainingState.read(handle.state)
    assert state.step == 10
    steps = state.optimizers["generator"]["step"]
    assert {float(step) for step in steps.values()} == {10.0}
    assert set(state.averages) == {"generator"}
    assert set(state.optimizers["discriminator"]) == {"momentum_buffer"}
    assert handle.history[0] == pytest.approx(
        {
            "step": 10,
            "train/learning_rate_generator": optimization(steps=10).rate(9),
            "train/learning_rate_discriminator": optimization(steps=10).rate(9) / 10,
        }
        | {key: value for key, value in handle.history[0].items() if "rate" not in key}
    )
    assert {
        "train/generator",
        "train/discriminator",
        "train/gradient_norm_generator",
        "train/gradient_norm_discriminator",
    } < set(handle.history[0])


def test_frozen_and_forgotten_parts_have_no_moments_and_do_not_move(tmp_path: Path) -> None:
    one, ten = (
        TrainingState.read(train(tmp_path / f"{steps}", "plain", steps=steps).state)
        for steps in (3, 10)
    )
    for part in ("frozen", "forgotten"):
        for key in (f"{part}.weight", f"{part}.bias"):
            assert one.networks["main"][key].equal(ten.networks["main"][key])
            assert f"main.{key}" not in ten.optimizers["main"]["exp_avg"]
    assert not one.networks["main"]["first.bias"].equal(ten.networks["main"]["first.bias"])
    assert ten.networks["main"]["last.weight"].equal(ten.networks["main"]["first.weight"])


def test_buffers_belong_to_the_state(tmp_path: Path) -> None:
    state = TrainingState.read(train(tmp_path, "plain", segment_steps=4).state)
    assert int(state.networks["main"]["count"]) == 10
    assert int(state.networks["main"]["norm.num_batches_tracked"]) == 10
    average, network = state.averages["main"], state.networks["main"]
    assert average["norm.running_mean"].equal(network["norm.running_mean"])


def test_what_a_module_does_after_a_step_is_averaged(tmp_path: Path) -> None:
    state = TrainingState.read(
        train(tmp_path, "loud", steps=4, optimization={"warmup_steps": 0}).state
    )
    assert state.networks["main"]["forgotten.bias"].tolist() == [4.0] * WIDTH
    expected = 1.0
    for value in (2.0, 3.0, 4.0):
        expected = 0.8 * expected + 0.2 * value
    assert state.averages["main"]["forgotten.bias"].tolist() == pytest.approx([expected] * WIDTH)


def test_accumulated_batches_are_one_step_of_the_whole_batch(tmp_path: Path) -> None:
    class Steady(Plain):
        """Without what depends on how a batch is cut: dropout and batch statistics."""

        def make_networks(self) -> dict[str, nn.Module]:
            return {"main": nn.Linear(WIDTH, WIDTH)}

    MODULES["steady"] = Steady
    whole, cut = (
        train(tmp_path / f"{count}", "steady", accumulate_grad_batches=count, segment_steps=4)
        for count in (1, 4)
    )
    ours, theirs = (TrainingState.read(handle.state) for handle in (whole, cut))
    assert theirs.step == ours.step == 10
    for key, weights in ours.networks["main"].items():
        torch.testing.assert_close(theirs.networks["main"][key], weights)
    losses = [[p["train/loss"] for p in h.history if "train/loss" in p] for h in (whole, cut)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(losses[0]) == 3


def test_several_optimizers_do_not_accumulate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"type trainer\.accumulate_grad_batches=1"):
        train(tmp_path, "adversaries", accumulate_grad_batches=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu.*type trainer=cpu"):
        train(tmp_path, "plain", accelerator="gpu")
