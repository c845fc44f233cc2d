"""Optimization: the numbers that decide trained weights besides network and data; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean, require_bounds
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT

PRECISIONS: Final = ("32-true", "bf16-mixed")
KEEP: Final = ("last", "best")


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """A linear warm-up, a cosine, clipped gradients and averaged weights; every field counts.

    Attributes:
        steps: optimizer steps of the whole training.
        batch_size: items a step, over all devices and accumulated batches.
        learning_rate: the largest, after the warm-up.
        final_learning_rate: at the end of the cosine; ``learning_rate``: it stays constant.
        warmup_steps: steps until ``learning_rate``.
        weight_decay: decay of matrices; positions, gains and biases do not decay.
        betas: decay rates of AdamW's moments.
        ema_decay: decay of the exponential moving average of the weights, which is kept; 0: the
            last weights are kept.
        precision: ``32-true``, or ``bf16-mixed``: weights stay float32.
        gradient_clip_val: gradients with a larger norm are scaled down to it; None: no clipping.
        seed: seed of fresh weights and of all random draws.
        keep: ``last``: the averaged weights at the end; ``best``: those of the look with the lowest
            validation loss, which needs a part that is validated on (``stages/validation.py``).
        looks: how often ``best`` looks, evenly over all steps, the last of them included.
    """

    VERSION: ClassVar[int] = 2

    steps: int
    batch_size: int
    learning_rate: float
    final_learning_rate: float = 0.0
    warmup_steps: int = 0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    ema_decay: float = 0.0
    precision: str = "32-true"
    gradient_clip_val: float | None = 1.0
    seed: int = 0
    keep: str = field(default="last", metadata=NOT_IDENTITY_AT_DEFAULT)
    looks: int = field(default=20, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Turn lists of a configuration into tuples."""
        object.__setattr__(self, "betas", tuple(self.betas))

    def check(self, *, prefix: str) -> None:
        """Refuse numbers that cannot be trained with.

        Args:
            prefix: how the fields are written on the command line: ``tokenizer.optimization.``.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        bounds = {
            "steps": (1, math.inf),
            "batch_size": (1, math.inf),
            "learning_rate": (0, math.inf),
            "final_learning_rate": (0, self.learning_rate),
            "warmup_steps": (0, self.steps),
            "weight_decay": (0, math.inf),
            "ema_decay": (0, 1),
            "seed": (0, 2**63 - 1),
            "looks": (1, math.inf),
        }
        limits = {"final_learning_rate": "learning_rate", "warmup_steps": "steps"}
        notes = {name: f", {prefix}{limit}" for name, limit in limits.items()}
        require_bounds(self, bounds, prefix=prefix, notes=notes)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"{prefix}betas={list(self.betas)} must be two numbers, at least 0 and below 1; "
                f"type for example {prefix}betas=[0.9,0.95]"
            )
        if self.gradient_clip_val is not None and self.gradient_clip_val <= 0:
            raise ConfigError(
                f"{prefix}gradient_clip_val={self.gradient_clip_val} must be positive; type "
                f"{prefix}gradient_clip_val=null for no clipping"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"{prefix}precision={self.precision} is unknown; "
                f"{did_you_mean(self.precision, PRECISIONS)}"
            )
        if self.keep not in KEEP:
            raise ConfigError(f"{prefix}keep={self.keep!r}: {did_you_mean(self.keep, KEEP)}")

    @property
    def look_steps(self) -> frozenset[int]:
        """Numbers of finished steps after which ``best`` looks at the validation loss.

        >>> how = Optimization(steps=10, batch_size=1, learning_rate=1.0, keep="best", looks=3)
        >>> sorted(how.look_steps)
        [4, 7, 10]
        """
        if self.keep != "best":
            return frozenset()
        return frozenset(-(-self.steps * look // self.looks) for look in range(1, self.looks + 1))

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, 0 ... ``steps`` - 1.

        >>> how = Optimization(steps=6, batch_size=1, learning_rate=1.0, warmup_steps=2)
        >>> [round(how.rate(step), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        height = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + height * (1 + math.cos(math.pi * done)) / 2
