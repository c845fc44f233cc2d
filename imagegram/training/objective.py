"""The contract between the training loop and a component: items, data, objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.store.stage import Context

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


#: Items that nothing is trained on and nothing is measured on, see ``stages/validation.py``.
VALIDATION: Final = "validation"


class Items(Protocol):
    """Training items: rows of arrays on disk, images or tokens."""

    def __len__(self) -> int:
        """Return the number of items."""

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return the items of the given rows, stacked in a new array; no other row is read."""

    def identity(self) -> Any:
        """Return the identity of the items."""


@runtime_checkable
class DrawnItems(Items, Protocol):
    """Items that differ whenever they are trained on: another window of a long document."""

    def draw(self, rows: NDArray[np.integer[Any]], rng: np.random.Generator) -> NDArray[Any]:
        """Return items of the given rows, drawn by a generator of the step."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data that is ready on disk to be trained on.

    Attributes:
        items: items to train on.
        validation: items to validate on; ``items`` where nothing is held out.
        validated_on: ``validation``, ``holdout`` or ``train``.
        classes: labels of the classes of items, in their order; (): items have no classes.
    """

    items: Items
    validation: Items
    validated_on: str
    classes: tuple[str, ...] = ()


class Data(Protocol):
    """Training data before it is prepared; only its identity is known."""

    #: Classes of the stages that :meth:`prepare` makes.
    PARTS: ClassVar[tuple[type, ...]]

    def identity(self) -> Any:
        """Return the identity of everything that decides the items."""

    def prepare(self, context: Context) -> Prepared:
        """Make the items, or find them in the store."""


class Objective(Protocol):
    """The objective of a training: a frozen dataclass whose fields are its identity; no torch.

    It is sent to worker processes. All randomness of a batch comes from the generator passed in,
    so that a step depends only on its number.
    """

    def module(self) -> LightningModule:
        """Build the :class:`~imagegram.training.module.TrainingModule`: networks and losses."""

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return the arrays of a step, one row per item, from gathered items (may be modified)."""
