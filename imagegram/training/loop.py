"""The training loop: Lightning runs the steps from one state to the next.

Every step is a function of the state before it and of its number, so any cut into segments gives
the same weights, to the bit where the device computes the same twice (a CPU does).

Each process computes on one core. By default torch splits every product among all cores, which
changes last bits, is no faster for networks of this size, and is much slower where other programs
use the cores too (docs/tokenizers.md has figures). More ``devices`` of a CPU are more processes.
"""

from __future__ import annotations

import logging
import os
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
from imagegram.executors.lifetime import announced, begin_worker, ending_workers
from imagegram.models.cores import one_core
from imagegram.training.callbacks import Averages, Curves, MoveBar, Point, StepNumbers
from imagegram.training.course import Course
from imagegram.training.launch import check_launch, launched
from imagegram.training.module import TrainingModule
from imagegram.training.ranks import announce, ended_ranks_told, next_course


class NoCheckpoints(CheckpointIO):
    """A checkpoint plugin that stores nothing: rank 0 has already written the state."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Do nothing instead of writing a checkpoint."""

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """Return no checkpoint."""
        return {}

    def remove_checkpoint(self, path: Any) -> None:
        """Do nothing: there is no checkpoint."""


class WorkerProcesses(DDPStrategy):
    """A strategy of spawned processes that end with the process that started them.

    Torch asks the kernel to send them SIGINT then, which does not reach a process that waits for
    the others in compiled code.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(start_method="spawn", checkpoint_io=NoCheckpoints(), **options)
        self.parent = os.getpid()

    def setup_environment(self) -> None:
        """Prepare a worker first of all."""
        if os.getpid() != self.parent:
            begin_worker(self.parent, by_kernel=True)
            for name in ("lightning.pytorch", "lightning.fabric"):  # as quiet as the parent
                logging.getLogger(name).setLevel(logging.ERROR)
        super().setup_environment()


def train(course: Course, *, advance: Callable[[int], None], point: Point) -> None:
    """Run the steps of a course; write ``state.safetensors`` and ``history.jsonl``.

    Args:
        course: objective, data and steps.
        advance: called after every step, or once for all steps when worker processes run them.
        point: called with every point of the curves; never when worker processes run the steps.

    Raises:
        ConfigError: when the module cannot be trained like that, or there are no such devices.
        StageError: when the loss is not finite, or another rank has ended.
    """
    check_launch(devices=course.trainer.devices, num_nodes=course.trainer.num_nodes)
    if launched():
        announce(course)
    if _spawns(course):
        take_steps(course)
        advance(course.last_step - course.first_step)
    else:
        take_steps(course, Curves(point), MoveBar(advance))


def take_steps(course: Course, curves: Curves | None = None, *reports: Callback) -> None:
    """Run the steps of a course in this process, one of those that share them, or in workers.

    Args:
        course: objective, data and steps.
        curves: the curves; None: they are reported by another process.
        reports: callbacks that report the steps.

    Raises:
        ConfigError, StageError: see :func:`train`.
    """
    module = cast(TrainingModule, course.objective.module())
    module.course = course
    callbacks = [StepNumbers(), Averages(), curves or Curves(None), *reports]
    with (
        quiet(),
        one_core(),
        torch.random.fork_rng(devices=[]),
        ended_ranks_told(),
        ending_workers(),
        announced(),
    ):
        _trainer(course, callbacks, by_hand=not module.automatic_optimization).fit(module)


def take_part() -> None:
    """Train the courses of rank 0 on this rank, until there are no more.

    Raises:
        ConfigError: when this node does not see the artifacts of rank 0.
        StageError: when a rank has ended, or the loss is not finite.
    """
    while (course := next_course()) is not None:
        if not course.folder.is_dir():
            raise ConfigError(
                f"{course.folder} does not exist on this node; type paths.outputs=FOLDER with a "
                "folder that all nodes share under one path"
            )
        take_steps(course)


def _spawns(course: Course) -> bool:
    """Return whether worker processes are started for the devices; torchrun has its own."""
    return course.trainer.num_processes > 1 and not launched()


def _trainer(course: Course, callbacks: list[Callback], *, by_hand: bool) -> Trainer:
    """Build Lightning's Trainer; modules with manual optimization clip in ``descend``."""
    options = course.trainer
    if by_hand and options.accumulate_grad_batches > 1:
        raise ConfigError(
            "trainer.accumulate_grad_batches must be 1 where several optimizers take turns; type "
            "trainer.accumulate_grad_batches=1 and more trainer.devices, or a smaller batch_size"
        )
    strategy: str | Strategy = "auto"
    if options.num_processes > 1:
        unused = options.strategy == "ddp_find_unused_parameters_true"
        strategy = (  # Lightning's own launcher would rerun the whole command line
            WorkerProcesses(find_unused_parameters=unused)
            if _spawns(course)
            else DDPStrategy(
                start_method="popen",
                checkpoint_io=NoCheckpoints(),
                find_unused_parameters=unused,
            )
        )
    try:
        return Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
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
