"""Callbacks around every step: seeds and rates before it, averages, curves and bars after it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from imagegram.errors import StageError
from imagegram.training.course import HISTORY, STATE
from imagegram.training.draws import DROPOUT, torch_seed
from imagegram.training.module import TrainingModule

#: Number of steps that one point of a curve averages.
POINT_STEPS: Final = 20

Point = Callable[[int, dict[str, float]], None]


class StepNumbers(Callback):
    """Callback that makes a step a function of its number: sets its rates and its random seed."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Limit torch to one core in worker processes too; see ``loop.py``."""
        if trainer.world_size > 1:
            torch.set_num_threads(1)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the rates; seed torch by (seed, batch, rank)."""
        course = pl_module.course
        pl_module.set_rates()
        batch_number = course.first_step * course.batches_per_step + pl_module.batches_done
        number = batch_number * trainer.world_size + trainer.global_rank
        torch.manual_seed(torch_seed(seed=course.optimization.seed, purpose=DROPOUT, number=number))


class Averages(Callback):
    """Callback that counts batches and averages the networks after the last batch of a step."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Count a batch; average the networks when its step is complete."""
        module: TrainingModule = pl_module
        module.batches_done += 1
        if module.batches_done % module.course.batches_per_step == 0:
            module.after_step()
            module.update_averages()


class Curves(Callback):
    """Callback that records logged values as curves, and writes state and history at the end.

    Args:
        point: called with every point at once; None in a worker process, whose parent reads the
            history instead.
    """

    def __init__(self, point: Point | None) -> None:
        self.point = point
        self.history: list[dict[str, float]] = []
        self._noted: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Collect the logged values; write a point of each curve every few steps."""
        module: TrainingModule = pl_module
        self._noted.append({k: v.detach().float() for k, v in trainer.callback_metrics.items()})
        if module.batches_done % module.course.batches_per_step:
            return
        step = module.steps_done
        if step % POINT_STEPS == 0 or step == module.course.last_step:
            self._draw(step, self._means(trainer, module, step) | module.rates())
        if step in module.optimization.look_steps and not trainer.global_rank:
            self._draw(step, module.look())

    def _means(self, trainer: Trainer, module: TrainingModule, step: int) -> dict[str, float]:
        """Return the means since the last point, over all devices.

        Raises:
            StageError: when a mean is not finite.
        """
        names = sorted({name for noted in self._noted for name in noted})
        if not names:
            return {}
        means = [torch.stack([n[k] for n in self._noted if k in n]).mean() for k in names]
        self._noted.clear()
        reduced: Any = trainer.strategy.reduce(torch.stack(means))
        values = dict(zip(names, reduced.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise StageError(f"training diverged: {name} is {value}; {_remedy(module, step)}")
        return values

    def _draw(self, step: int, values: dict[str, float]) -> None:
        self.history.append({"step": step, **values})
        if self.point is not None:
            self.point(step, values)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Validate, then write state and history; with several devices, only on rank 0."""
        module: TrainingModule = pl_module
        if trainer.global_rank or module.steps_done < module.course.last_step:
            return  # interrupted: the stage then reports the missing files
        looked = module.steps_done in module.optimization.look_steps
        if not looked and (scores := module.scores()):
            self._draw(module.steps_done, scores)
        folder = module.course.folder
        module.state().write(folder / STATE)
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        (folder / HISTORY).write_text(lines)


def _remedy(module: TrainingModule, step: int) -> str:
    """Say where a training was when it diverged, and which fields to change."""
    how, prefix = module.optimization, f"{module.course.setting}optimization."
    rate = how.rate(step - 1)
    words = [f"a smaller {prefix}learning_rate={how.learning_rate / 10:g}"]
    if how.warmup_steps < how.steps:
        words.append(f"more {prefix}warmup_steps")
    if how.gradient_clip_val is None:
        words.append(f"{prefix}gradient_clip_val=1")
    if how.precision != "32-true":
        words.append(f"{prefix}precision=32-true")
    return f"before step {step}, at a learning rate of {rate:g}; type {' or '.join(words)}"


class MoveBar(Callback):
    """Callback that reports every step to a progress bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Report a step when its last batch is done."""
        if pl_module.batches_done % pl_module.course.batches_per_step == 0:
            self.advance(1)
