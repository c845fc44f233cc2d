"""The training loop: Lightning runs the steps from one state to the next.

Every step is a function of the state before it and of its number, so any cut into segments gives
the same weights, to the bit where the device computes the same twice (a CPU does).

Each process computes on one core. By default torch splits every product among all cores, which
changes last bits, is no faster for networks of this size, and is much slower where other programs
use the cores too (docs/tokenizers.md has figures). More ``devices`` of a CPU are more processes.
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
    """A checkpoint plugin that stores nothing: rank 0 has already written the state."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Do nothing instead of writing a checkpoint."""

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Return no checkpoint."""
        return {}

    def remove_checkpoint(self, path: Any) -> None:
        """Do nothing: there is no checkpoint."""


def train(course: Course, *, advance: Callable[[int], None], point: Point) -> None:
    """Run the steps of a course; write ``state.safetensors`` and ``history.jsonl``.

    Args:
        course: objective, data and steps.
        advance: called after every step, or once for all steps when worker processes run them.
        point: called with every point of the curves; never when worker processes run the steps.

    Raises:
        ConfigError: when the module cannot be trained like that, or there are no such devices.
        StageError: when the loss is not finite.
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
    """Build Lightning's Trainer; modules with manual optimization clip in ``descend``."""
    options = course.trainer
    if by_hand and options.accumulate_grad_batches > 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches must be 1 where several optimizers take turns; type "
            "trainer.accumulate_grad_batches=1 and more trainer.devices, or a smaller batch_size"
        )
    strategy: str | Strategy = "auto"
    if options.devices > 1:  # Lightning's launcher would rerun the whole command line
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
            max_epochs=1,  # limits the batches; max_steps would count the steps of every optimizer
            default_root_dir=course.folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except MisconfigurationException as error:  # no such device, or too few of them
        raise ConfigError(
            f"trainer.accelerator={options.accelerator} trainer.devices={options.devices} cannot "
            f"be had here ({error}); type trainer=cpu"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's advice on the console; errors are still shown."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
