"""Group ``trainer``: where training runs, in the words of Lightning's Trainer.

Results do not depend on it, except for rounding and the draws of dropout. Three fields are null in
``conf/trainer/``; when set, they override the fields of every ``optimization:`` and so become part
of the identity: ``precision``, ``gradient_clip_val`` and ``max_steps``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.training.launch import check_launch
from imagegram.training.optimization import Optimization

ACCELERATORS: Final = ("auto", "cpu", "gpu", "mps")
STRATEGIES: Final = ("auto", "ddp", "ddp_find_unused_parameters_true")
#: Default number of segments of a training, and the fewest steps of a segment.
_NUM_SEGMENTS: Final = 20
_LEAST_STEPS: Final = 75


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """Fields of Lightning's Trainer, and ours: checkpointing, ``compile``, ``segment_steps``.

    Attributes:
        accelerator: ``cpu``, ``gpu``, ``mps``, or ``auto``: the best one available.
        devices: number of devices of a node; more than one are processes that share each batch.
        num_nodes: number of nodes, each with so many devices; more than one need ``torchrun``.
        strategy: of several devices: ``ddp``, or ``ddp_find_unused_parameters_true`` where a step
            does not use all parameters; ``auto``: ``ddp``.
        accumulate_grad_batches: pieces that each device cuts its share of a batch into, where
            memory is short.
        deterministic: refuse operations whose result may differ between two runs.
        gradient_checkpointing: keep only what enters each block of a transformer, and compute what
            is in it again for the gradients: a third slower, and many times less memory.
        compile: let ``torch.compile`` make it faster on a GPU, after a minute.
        segment_steps: steps between states that a killed training continues from; None: a
            twentieth of all, at least 75.
        precision, gradient_clip_val: override those of the component; None: keep those.
        max_steps: train at most this many steps, for a quick try; None: all of them.
    """

    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    accumulate_grad_batches: int = 1
    deterministic: bool = False
    gradient_checkpointing: bool = False
    compile: bool = False
    segment_steps: int | None = None
    precision: str | None = None
    gradient_clip_val: float | None = None
    max_steps: int | None = None

    @property
    def num_processes(self) -> int:
        """Number of processes that share each batch, one a device."""
        return self.devices * self.num_nodes

    def applied_to(self, optimization: Optimization, *, prefix: str) -> Optimization:
        """Return the optimization of a component with the overrides set here, checked.

        Args:
            optimization: numbers of the component.
            prefix: how its fields are written on the command line: ``tokenizer.optimization.``.

        Raises:
            ConfigError: for impossible numbers, with what to type instead.
        """
        changes: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("precision", "gradient_clip_val")
            if getattr(self, name) is not None
        }
        if self.max_steps is not None:
            steps = min(optimization.steps, self.max_steps)
            changes |= {"steps": steps, "warmup_steps": min(optimization.warmup_steps, steps)}
        effective = replace(optimization, **changes)
        effective.check(prefix=prefix)
        self._check(effective, prefix=prefix)
        return effective

    def _check(self, optimization: Optimization, *, prefix: str) -> None:
        for name, allowed in (("accelerator", ACCELERATORS), ("strategy", STRATEGIES)):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"trainer.{name}={value}: {did_you_mean(value, allowed)}")
        for name in ("devices", "num_nodes", "accumulate_grad_batches", "segment_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"trainer.{name}={value} must be at least 1")
        pieces = self.num_processes * self.accumulate_grad_batches
        if optimization.batch_size % pieces:
            raise ConfigError(
                f"trainer.devices={self.devices} times trainer.num_nodes={self.num_nodes} times "
                f"trainer.accumulate_grad_batches={self.accumulate_grad_batches} must divide "
                f"{prefix}batch_size={optimization.batch_size}; type trainer.devices=1 "
                "trainer.num_nodes=1 trainer.accumulate_grad_batches=1"
            )

    def check_machine(self) -> None:
        """Refuse missing accelerators and devices, and nodes that torchrun did not start.

        Raises:
            ConfigError: naming what torch finds here, or what to type.
        """
        check_launch(devices=self.devices, num_nodes=self.num_nodes)
        if self.accelerator == "cpu" or (self.accelerator, self.devices) == ("auto", 1):
            return  # always there, and torch is slow to import
        import torch

        apple = int(torch.backends.mps.is_available())
        found = {"gpu": torch.cuda.device_count() or apple, "mps": apple}
        auto = "gpu" if found["gpu"] else "cpu"
        kind = auto if self.accelerator == "auto" else self.accelerator
        if kind in found and found[kind] < self.devices:
            fewer = f", or trainer.devices={found[kind]} at most" if found[kind] else ""
            raise ConfigError(
                f"trainer.accelerator={self.accelerator} trainer.devices={self.devices}: torch "
                f"{torch.__version__} finds {found[kind]} of {kind} here; type trainer=cpu{fewer}"
            )

    def segment_ends(self, steps: int) -> list[int]:
        """Return the step numbers after which a state is written, including the last.

        >>> TrainerOptions(segment_steps=5).segment_ends(12)
        [5, 10, 12]
        >>> TrainerOptions().segment_ends(150), len(TrainerOptions().segment_ends(200_000))
        ([75, 150], 20)
        """
        length = self.segment_steps or max(_LEAST_STEPS, -(-steps // _NUM_SEGMENTS))
        return [*range(length, steps, length), steps]
