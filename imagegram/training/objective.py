"""The contract between training and what is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from imagegram.store.stage import Context

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


class Items(Protocol):
    """What is trained on: rows of arrays on disk, images or tokens."""

    def __len__(self) -> int:
        """How many there are."""

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Items of the given rows, stacked, in an array of their own; nothing else is read."""

    def identity(self) -> Any:
        """What they are."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a training reads, ready on disk.

    Attributes:
        items: to train on.
        validation: to validate on; ``items`` where nothing is held out.
        validated_on: ``holdout`` or ``train``.
    """

    items: Items
    validation: Items
    validated_on: str


class Data(Protocol):
    """What is trained on, known before it is prepared."""

    #: Classes of the stages that :meth:`prepare` makes.
    PARTS: ClassVar[tuple[type, ...]]

    def identity(self) -> Any:
        """Everything that decides the items."""

    def prepare(self, context: Context) -> Prepared:
        """Make the items, or find them."""


class Objective(Protocol):
    """What is learned: a frozen dataclass whose fields are its identity; imports no torch.

    It travels to processes. A batch is drawn from the generator that it is given and nothing else,
    so that a step depends on its number alone.
    """

    def module(self) -> LightningModule:
        """A :class:`~imagegram.training.module.TrainingModule`: networks, losses, optimizers."""

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Arrays of a step, one row an item, from the gathered items, which it may change."""
