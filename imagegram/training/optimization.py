"""How a network is optimized, and on what machine: numbers only, no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.store.fingerprint import NOT_IDENTITY

PRECISIONS: Final = ("32-true", "bf16-mixed")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """AdamW with a linear warm-up, a cosine to zero, clipped gradients and averaged weights.

    Attributes:
        steps: optimizer steps of the whole training.
        batch_size: items a step, over all devices.
        learning_rate: the largest, after the warm-up.
        warmup_steps: steps until then.
        weight_decay: of matrices; positions, gains and biases do not decay.
        ema_decay: of the exponential moving average of the weights, which is what is kept.
        precision: ``32-true``, or ``bf16-mixed``: weights stay float32.
        max_norm: gradients with a larger norm are scaled down to it.
        seed: of fresh weights and of everything that is drawn.
    """

    VERSION: ClassVar[int] = 1

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    ema_decay: float
    precision: str
    max_norm: float = 0.1
    seed: int = 0

    def check(self, *, prefix: str) -> None:
        """Refuse numbers that no training can have.

        Args:
            prefix: how the fields are written on the command line: ``tokenizer.``.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        names = {"batch_size": "train_batch_size", "seed": "train_seed"}
        bounds: dict[str, tuple[float, float]] = {
            "steps": (1, math.inf),
            "batch_size": (1, math.inf),
            "learning_rate": (0, math.inf),
            "warmup_steps": (0, self.steps),
            "weight_decay": (0, math.inf),
            "ema_decay": (0, 1),
            "seed": (0, 2**63 - 1),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"{prefix}{names.get(name, name)}={value} must lie in {low} ... {high}"
                    + (f", {prefix}steps" if name == "warmup_steps" else "")
                )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"{prefix}precision={self.precision} is unknown; "
                f"{did_you_mean(self.precision, PRECISIONS)}"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step, 0 ... ``steps`` - 1.

        >>> flat = dict(batch_size=1, weight_decay=0.0, ema_decay=0.9, precision="32-true")
        >>> how = Optimization(steps=6, learning_rate=1.0, warmup_steps=2, **flat)
        >>> [round(how.rate(step), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Where training runs: its results do not depend on it, but for rounding.

    Attributes:
        device: ``cpu`` or ``cuda``.
        devices: how many; more than one are processes of Lightning's DDP, which share each batch.
        compile: let ``torch.compile`` make it faster, on a GPU.
    """

    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    devices: int = field(default=1, metadata=NOT_IDENTITY)
    compile: bool = field(default=False, metadata=NOT_IDENTITY)

    def check(self, optimization: Optimization, *, prefix: str) -> None:
        """Refuse what cannot share a batch.

        Raises:
            ConfigError: with what to type instead.
        """
        if self.device not in _ACCELERATORS:
            raise ConfigError(
                f"{prefix}device={self.device} is unknown; "
                f"{did_you_mean(self.device, _ACCELERATORS)}"
            )
        if self.devices < 1 or optimization.batch_size % self.devices:
            raise ConfigError(
                f"{prefix}devices={self.devices} must be at least 1 and divide "
                f"{prefix}train_batch_size={optimization.batch_size}; type {prefix}devices=1"
            )

    @property
    def compiles(self) -> bool:
        """Whether the network is compiled: threads that share a CPU do without."""
        return self.compile and self.device != "cpu"

    @property
    def accelerator(self) -> str:
        """Lightning's word for the device."""
        return _ACCELERATORS[self.device]


_ACCELERATORS: Final = {"cpu": "cpu", "cuda": "gpu"}


def same_named(cls: type[Any], source: Any, **others: Any) -> Any:
    """An instance of a dataclass from the equally named attributes of ``source``, and others."""
    names = {item.name for item in fields(cls)} - set(others)
    return cls(**{name: getattr(source, name) for name in names if hasattr(source, name)}, **others)
