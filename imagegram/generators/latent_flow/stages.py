"""Two trainings of a latent flow, each cached: the autoencoder of chunks, then the flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from imagegram.store.stage import Context
from imagegram.training.fit import Trainable, TrainGenerator
from imagegram.training.objective import Items
from imagegram.training.segments import SegmentHandle

if TYPE_CHECKING:
    from pathlib import Path

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoder(TrainGenerator["Path"]):
    """The stage that trains the autoencoder; it writes no samples that could be shown."""

    VERSION: ClassVar[int] = 1
    SETTING: ClassVar[str] = "generator.autoencoder."

    def _after(
        self, context: Context, component: Trainable[Path], validation: Items
    ) -> Callable[[SegmentHandle], None] | None:
        """Show nothing."""
        return None


class OnLatents(Trainable[T_co], Protocol[T_co]):
    """A recipe whose training needs a trained autoencoder."""

    @property
    def autoencoder(self) -> Trainable[Path]:
        """Recipe of the autoencoder."""

    def begun(self, weights: Path) -> Self:
        """Return the recipe with the file of the trained autoencoder."""


@dataclass(frozen=True, kw_only=True)
class TrainFlow(TrainGenerator[T_co]):
    """The stage that trains the flow, after the autoencoder, which is found or trained first."""

    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (*TrainGenerator.PARTS, TrainAutoencoder)

    component: OnLatents[T_co]

    def begun(self, context: Context) -> OnLatents[T_co]:
        """Return the recipe with the trained autoencoder."""
        first: Any = TrainAutoencoder(
            component=self.component.autoencoder, data=self.data, curves="autoencoder/"
        )
        return self.component.begun(context.make(first))
