"""The loop: Lightning takes the steps from one state to the next.

Every step is a function of the state before it and of its number, so any cut into segments gives
the same weights, to the bit where the device computes the same twice (a CPU does).

A process computes on one core. Torch would rather share every product among all, which decides last
bits, is no faster for networks of this size, and much slower where others want the cores too
(docs/tokenizers.md has figures). More ``devices`` of a CPU are more processes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.strategies import DDPStrategy, Strategy

from imagegram.errors import ConfigError
from imagegram.models.cores import one_core
from imagegram.training.callbacks import Averages, Curves, MoveBar, Point, StepNumbers
from imagegram.training.course import Course
from imagegram.training.module import TrainingModule


class NoCheckpoints(CheckpointIO):
    """Processes hand nothing back: the first one has written the state."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Keep nothing."""

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Give nothing."""
        return {}

    def remove_checkpoint(self, path: Any) -> None:
        """There is nothing."""


def train(course: Course, *, advance: Callable[[int], None], point: Point) -> None:
    """Take the steps of a course; writes ``state.safetensors`` and ``history.jsonl``.

    Args:
        course: what to do.
        advance: told of every step, or of all at once where processes take them.
        point: told of every point of the curves; of none where processes take the steps.

    Raises:
        ConfigError: when the module cannot be trained like that, or there are no such devices.
        StageError: when the loss is no number.
    """
    several = course.trainer.devices > 1
    callbacks: list[Callback] = [StepNumbers(), Averages(), Curves(None if several else point)]
    module = cast(TrainingModule, course.objective.module())
    module.course = course
    with quiet(), one_core(), torch.random.fork_rng(devices=[]):
        callbacks += [] if several else [MoveBar(advance)]
        _trainer(course, callbacks, by_hand=not module.automatic_optimization).fit(module)
    if several:
        advance(course.last_step - course.first_step)


def _trainer(course: Course, callbacks: list[Callback], *, by_hand: bool) -> Trainer:
    """Lightning's Trainer; a module that optimizes by hand clips by hand, see ``descend``."""
    options = course.trainer
    if by_hand and options.accumulate_grad_batches > 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches must be 1 where several optimizers take turns; type "
            "trainer.accumulate_grad_batches=1 and more trainer.devices, or a smaller batch_size"
        )
    strategy: str | Strategy = "auto"
    if options.devices > 1:  # processes started by us: others would run the whole command line
        unused = options.strategy == "ddp_find_unused_parameters_true"
        strategy = DDPStrategy(
            start_method="spawn", checkpoint_io=NoCheckpoints(), find_unused_parameters=unused
        )
    try:
        return Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            strategy=strategy,
            precision=course.optimization.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=options.accumulate_grad_batches,
            gradient_clip_val=None if by_hand else course.optimization.gradient_clip_val,
            deterministic=options.deterministic,
            callbacks=callbacks,
            max_epochs=1,  # of the course's batches; max_steps would count every optimizer's steps
            default_root_dir=course.folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except MisconfigurationException as error:  # there is no such device, or not so many
        raise ConfigError(
            f"trainer.accelerator={options.accelerator} trainer.devices={options.devices} cannot "
            f"be had here ({error}); type trainer=cpu"
        ) from error


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
