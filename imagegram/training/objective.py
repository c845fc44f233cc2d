"""The contract between the training loop and what is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


class Items(Protocol):
    """What is trained on: rows of arrays on disk."""

    def __len__(self) -> int:
        """How many there are."""

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Items of the given rows, stacked; nothing else is read."""

    def identity(self) -> Any:
        """What they are."""


class Objective(Protocol):
    """A network, its batches and its loss: a frozen dataclass whose fields are its identity.

    Everything that it draws comes from the generator that it is given, so that a step depends on
    its number alone.
    """

    def network(self, seed: int) -> torch.nn.Module:
        """The network with fresh weights, on the CPU."""

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Arrays of a step, one row an item, from the gathered items."""

    def loss(self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The mean loss of a batch, or of a device's share of it."""

    def validate(self, network: torch.nn.Module, items: Items, device: Any) -> dict[str, float]:
        """Scores of a network in evaluation mode, ``val/name``."""
