"""Course: one stretch of training (objective, data, steps), and its batches by number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagegram.executors.threads import map_in_order
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.weights import Source
from imagegram.training.draws import BATCH, batch_rows, generator
from imagegram.training.objective import DrawnItems, Items, Objective
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from torch import Tensor

#: Files that are written at the end of a course.
STATE: Final = "state.safetensors"
HISTORY: Final = "history.jsonl"


@dataclass(frozen=True, kw_only=True)
class FirstWeights:
    """The weights that a training begins with, instead of random ones.

    Attributes:
        source: where they are from; their content is the identity.
        path: safetensors file by the names of the network; None: they are not taken over yet.
    """

    source: Source
    path: Path | None = field(default=None, metadata=NOT_IDENTITY)


@dataclass(frozen=True, kw_only=True)
class Course:
    """One stretch of training: objective, data and steps; small enough to send to processes.

    Attributes:
        objective: networks, batches, losses.
        optimization: steps, rates, seed.
        trainer: device and strategy.
        items: items to train on.
        validation: items to validate on, at the end.
        start: state to begin from; None: none, this is the beginning.
        first_weights: file of the weights of the network at the beginning; None: random ones.
        first_step, last_step: steps ``first_step`` ... ``last_step - 1`` are taken.
        folder: where state and history are written.
        setting: how the fields of the component are written on the command line, for messages:
            ``generator.``.
    """

    objective: Objective
    optimization: Optimization
    trainer: TrainerOptions
    items: Items
    validation: Items
    start: Path | None
    first_step: int
    last_step: int
    folder: Path
    setting: str = ""
    first_weights: Path | None = None

    @property
    def batches_per_step(self) -> int:
        """Number of batches whose gradients are accumulated in one step."""
        return self.trainer.accumulate_grad_batches


class Batches:
    """The batches of a course, in order; each device reads its share, ahead of time on threads."""

    def __init__(self, course: Course, *, rank: int, world: int) -> None:
        self.course, self.rank, self.world = course, rank, world

    def __len__(self) -> int:
        """Return the number of batches."""
        return (self.course.last_step - self.course.first_step) * self.course.batches_per_step

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches of tensors on the CPU."""
        steps = range(self.course.first_step, self.course.last_step)
        for batches in map_in_order(self.step, steps, workers=2):
            yield from batches

    def step(self, step: int) -> list[tuple[Tensor, ...]]:
        """Return the batches of one step, which depend only on its number."""
        import torch

        how, items = self.course.optimization, self.course.items
        rows = batch_rows(seed=how.seed, step=step, batch_size=how.batch_size, num_items=len(items))
        rng = generator(seed=how.seed, purpose=BATCH, number=step)
        found = items.draw(rows, rng) if isinstance(items, DrawnItems) else items.gather(rows)
        arrays = self.course.objective.batch(found, rng)
        count = self.course.batches_per_step
        shares = [
            slice(number * self.world + self.rank, None, count * self.world)
            for number in range(count)
        ]
        return [tuple(torch.from_numpy(a[share].copy()) for a in arrays) for share in shares]
