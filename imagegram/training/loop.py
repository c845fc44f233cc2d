"""The loop: Lightning runs the steps from one state to the next.

Every step is a function of the state before it and of its number, so any cut into segments gives
the same weights, to the bit where the device computes the same twice (a CPU does).
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from imagegram.errors import StageError
from imagegram.executors.threads import map_in_order
from imagegram.models.cores import map_on_cores, one_core
from imagegram.training.draws import BATCH, batch_rows, generator
from imagegram.training.objective import Items, Objective
from imagegram.training.optimization import Hardware, Optimization
from imagegram.training.state import TrainingState

STATE: Final = "state.safetensors"
HISTORY: Final = "history.jsonl"
#: Steps that one point of the loss curve is the mean of.
POINT_STEPS: Final = 20
#: Items whose gradient one core finds at a time.
SHARE: Final = 4
_BETAS: Final = (0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is trained, on what, and which of its steps; light enough to travel to processes.

    Attributes:
        objective: network, batches, loss.
        optimization: steps, rates, seed.
        hardware: where.
        items: to train on.
        validation: to validate on, at the end.
        start: state to begin from; None: fresh weights.
        first_step, last_step: steps ``first_step`` ... ``last_step - 1`` are taken.
        folder: where state and history are written.
    """

    objective: Objective
    optimization: Optimization
    hardware: Hardware
    items: Items
    validation: Items
    start: Path | None
    first_step: int
    last_step: int
    folder: Path


class TrainingModule(LightningModule):
    """Takes the steps of a course and writes its end; rank 0 writes, where there are several."""

    def __init__(self, course: Course, *, cores: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.course, self.cores = course, cores
        self.noted: list[Tensor] = []  # loss and gradient norm of the steps since the last point
        self.history: list[dict[str, float]] = []

    def configure_model(self) -> None:
        """Networks are made where they are trained: the average would not travel to a process."""
        if hasattr(self, "network"):
            return
        course = self.course
        state = None if course.start is None else TrainingState.read(course.start)
        with torch.device("cpu"):  # weights are drawn on the CPU; Lightning moves them
            self.network = course.objective.network(course.optimization.seed)
            mean = get_ema_multi_avg_fn(course.optimization.ema_decay)  # type: ignore[no-untyped-call]
            self.average: Any = AveragedModel(self.network, multi_avg_fn=mean)
        self.average.requires_grad_(requires_grad=False)
        if state is not None:
            self.network.load_state_dict(state.network)
            self.average.module.load_state_dict(state.average)
            self.average.n_averaged.fill_(state.step)
        self._moments = state
        fast: Any = torch.compile(self.network) if course.hardware.compiles else self.network
        self._fast = [fast]  # in a list, so that it is no second module of the same weights

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with the moments of the state; matrices decay."""
        named = dict(self.network.named_parameters())
        matrices = [p for name, p in named.items() if name.endswith("weight") and p.ndim > 1]
        chosen = {id(parameter) for parameter in matrices}
        others = [p for p in named.values() if id(p) not in chosen]
        decay = self.course.optimization.weight_decay
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.course.optimization.learning_rate,
            betas=_BETAS,
            fused=True,
        )
        if self._moments is not None:
            for name, parameter in named.items():
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(self._moments.step), device=parameter.device),
                    "exp_avg": self._moments.first[name].to(parameter.device),
                    "exp_avg_sq": self._moments.second[name].to(parameter.device),
                }
            self._moments = None
        return optimizer

    def train_dataloader(self) -> Batches:
        """The batches of this device."""
        return Batches(self.course, rank=self.trainer.global_rank, world=self.trainer.world_size)

    @property
    def steps_done(self) -> int:
        """Optimizer steps behind the weights, earlier segments included."""
        return self.course.first_step + self.trainer.global_step

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the step."""
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self.course.optimization.rate(self.steps_done)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step by hand: Lightning's own could not share a batch among cores."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        if self.device.type == "cpu" and self.trainer.world_size == 1:
            loss = self._share_among_cores(batch)
        else:
            loss = self.course.objective.loss(self._fast[0], batch)
            self.manual_backward(loss)
        limit = self.course.optimization.max_norm
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        optimizer.step()
        self.noted.append(torch.stack((loss.detach().float(), norm.float())))

    def _share_among_cores(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss and gradient as the sum of small shares, each on one core; equal for any cores."""
        network, parameters = self.network, list(self.network.parameters())
        size, total = len(batch[0]), torch.zeros(())

        def work(first: int) -> tuple[Tensor, tuple[Tensor, ...]]:
            share = tuple(array[first : first + SHARE] for array in batch)
            with self.trainer.precision_plugin.train_step_context():
                loss = self.course.objective.loss(network, share) * (len(share[0]) / size)
            return loss.detach(), torch.autograd.grad(loss, parameters)

        firsts = range(0, size, SHARE)
        for loss, gradients in map_on_cores(work, firsts, device=self.device, cores=self.cores):
            total += loss
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Average the weights; note the loss now and then."""
        self.average.update_parameters(self.network)
        if self.steps_done % POINT_STEPS == 0 or self.steps_done == self.course.last_step:
            self._note_point()

    def _note_point(self) -> None:
        """The means since the last point, of all devices."""
        mean: Any = self.trainer.strategy.reduce(torch.stack(self.noted).mean(dim=0))
        (loss, norm), step = mean.tolist(), self.steps_done
        if not math.isfinite(loss):
            raise StageError(
                f"training diverged: the loss is {loss} before step {step}; type a smaller "
                "tokenizer.learning_rate or more tokenizer.warmup_steps"
            )
        rate = self.course.optimization.rate(step - 1)
        point = {"train/loss": loss, "train/gradient_norm": norm, "train/learning_rate": rate}
        self.history.append({"step": step, **point})
        self.noted.clear()

    def on_train_end(self) -> None:
        """Write state and history."""
        if self.trainer.global_rank or self.steps_done < self.course.last_step:
            return  # interrupted: what is missing is noticed by the stage
        network = self.average.module.eval()
        scores = self.course.objective.validate(network, self.course.validation, self.device)
        self.history.append({"step": self.steps_done, **scores})
        self._state().write(self.course.folder / STATE)
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        (self.course.folder / HISTORY).write_text(lines)

    def _state(self) -> TrainingState:
        moments = self.trainer.optimizers[0].state
        named = dict(self.network.named_parameters())
        return TrainingState(
            step=self.steps_done,
            network=self.network.state_dict(),
            average=self.average.module.state_dict(),
            first={name: moments[parameter]["exp_avg"] for name, parameter in named.items()},
            second={name: moments[parameter]["exp_avg_sq"] for name, parameter in named.items()},
        )


class Batches:
    """The batches of a course, in order, each device its share; read ahead on a thread."""

    def __init__(self, course: Course, *, rank: int, world: int) -> None:
        self.course, self.rank, self.world = course, rank, world

    def __len__(self) -> int:
        """Steps."""
        return self.course.last_step - self.course.first_step

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Batches of tensors on the CPU."""
        steps = range(self.course.first_step, self.course.last_step)
        return map_in_order(self.batch, steps, workers=2)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """What a step is trained on, a function of its number."""
        how, items = self.course.optimization, self.course.items
        rows = batch_rows(seed=how.seed, step=step, batch_size=how.batch_size, num_items=len(items))
        rng = generator(seed=how.seed, purpose=BATCH, number=step)
        arrays = self.course.objective.batch(items.gather(rows), rng)
        share = slice(self.rank, None, self.world)
        return tuple(torch.from_numpy(array[share].copy()) for array in arrays)


class MoveBar(Callback):
    """Tells somebody of every step."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """One step further."""
        self.advance(1)


class NoCheckpoints(CheckpointIO):
    """Processes hand nothing back: the first one has written the state."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Keep nothing."""

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Give nothing."""
        return {}

    def remove_checkpoint(self, path: Any) -> None:
        """There is nothing."""


def train(course: Course, *, advance: Callable[[int], None]) -> None:
    """Take the steps of a course; writes ``state.safetensors`` and ``history.jsonl``.

    Args:
        course: what to do.
        advance: told of every step, or of all at once where processes take them.
    """
    hardware, num_steps = course.hardware, course.last_step - course.first_step
    several = hardware.devices > 1
    strategy: str | Strategy = "auto"
    if several:  # processes started by us: others would run the whole command line again
        strategy = DDPStrategy(start_method="spawn", checkpoint_io=NoCheckpoints())
    cores = torch.get_num_threads()
    with quiet(), one_core():  # shares of a batch are spread over the cores instead
        trainer = Trainer(
            accelerator=hardware.accelerator,
            devices=hardware.devices,
            strategy=strategy,
            precision=course.optimization.precision,  # type: ignore[arg-type]
            max_steps=num_steps,
            callbacks=[] if several else [MoveBar(advance)],
            default_root_dir=course.folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(TrainingModule(course, cores=cores))
    if several:
        advance(num_steps)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's advice from the console; errors still come through."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
