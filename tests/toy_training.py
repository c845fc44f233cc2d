"""Something small to train on: pictures of four coloured quarters, made from their number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.tokenizers.ordered_fsq.objective import OrderedReconstruction
from imagegram.tokenizers.ordered_fsq.sizes import Architecture
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.segments import TrainSegment

ARCHITECTURE = Architecture(
    image_size=8,
    patch_size=4,
    num_registers=4,
    levels=(5, 5, 5),
    width=32,
    encoder_depth=1,
    decoder_depth=1,
    num_heads=2,
)


@dataclass(frozen=True, kw_only=True)
class Quarters:
    """(8, 8, 3) pictures; travels to processes.

    Attributes:
        count: how many.
        first: number of the first.
    """

    count: int = 64
    first: int = 0

    def __len__(self) -> int:
        return self.count

    def identity(self) -> Any:
        return {"count": self.count, "first": self.first}

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        return np.stack([quarters(self.first + row) for row in rows.tolist()])


def quarters(number: int) -> NDArray[np.uint8]:
    """Quarters in shades of one colour."""
    rng = np.random.Generator(np.random.Philox(key=number))
    colours = rng.integers(0, 200, 3) + rng.integers(0, 56, (2, 2, 3))
    return np.kron(colours, np.ones((4, 4, 1))).astype(np.uint8)


def optimization(**changes: Any) -> Optimization:
    values: dict[str, Any] = {
        "steps": 12,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "warmup_steps": 3,
        "weight_decay": 0.05,
        "ema_decay": 0.8,
        "precision": "32-true",
        "gradient_clip_val": 0.1,
    }
    return Optimization(**(values | changes))


def segment(
    *, keep: str = "pow2", trainer: dict[str, Any] | None = None, **changes: Any
) -> TrainSegment:
    """A whole training as one segment."""
    how = optimization(**changes)
    return TrainSegment(
        objective=OrderedReconstruction(architecture=ARCHITECTURE, keep=keep, flips=True),
        optimization=how,
        items=Quarters(),
        validation=Quarters(first=1000, count=40),
        last_step=how.steps,
        trainer=TrainerOptions(**({"accelerator": "cpu", "segment_steps": 12} | (trainer or {}))),
    )


def bytes_of(folder: Path) -> bytes:
    """The state that a segment wrote."""
    return (folder / "state.safetensors").read_bytes()
