"""Two trainings of a latent flow, each cached: the autoencoder of chunks, then the flow.

The weights of an autoencoder may come from a file instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from imagegram.errors import ConfigError
from imagegram.generators.weights import TrainFrom
from imagegram.models.checkpoints import read_tensors, write_weights
from imagegram.models.imports import Import, Importable
from imagegram.store.stage import Context
from imagegram.store.weights import AUTOENCODER, MODEL
from imagegram.training.fit import Trainable, TrainGenerator
from imagegram.training.objective import Items
from imagegram.training.segments import SegmentHandle

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

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


class ImportableAutoencoder(Importable["Path"], Protocol):
    """The recipe of an autoencoder whose weights may come from a file."""

    def taken_over(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a file under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """


@dataclass(frozen=True, kw_only=True)
class ImportAutoencoder(Import["Path", ImportableAutoencoder]):
    """The stage that takes over the weights of an autoencoder, instead of a training."""

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    def take_over(self, path: Path, out: Path) -> dict[str, Any]:
        """Write the weights under the names of the network.

        Raises:
            ConfigError: for weights of another network.
        """
        setting = self.source.setting
        weights = self.component.taken_over(read_tensors(path, setting=setting))
        write_weights(out / MODEL, weights, {})
        return {"num_parameters": sum(tensor.numel() for tensor in weights.values())}


class ImportableLatents(Importable[T_co], Protocol[T_co]):
    """The recipe of a network of latents that may come from a file, with its autoencoder."""

    @property
    def autoencoder(self) -> Any:
        """Recipe of the autoencoder."""

    def read(self, path: Path, *, setting: str) -> dict[str, Tensor]:
        """Return the weights of a file that a training of this network wrote.

        Raises:
            ConfigError: for weights of another network, or of other sizes.
        """

    def write_weights(self, path: Path, weights: Mapping[str, Tensor]) -> None:
        """Write weights, with the sizes of the network."""


@dataclass(frozen=True, kw_only=True)
class ImportTrained(Import[T_co, ImportableLatents[Any]]):
    """The stage that takes both networks of a finished training over."""

    kind: ClassVar[str] = "generator"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1

    def take_over(self, path: Path, out: Path) -> dict[str, Any]:
        """Write the weights of the network of latents, and beside them those of the autoencoder.

        Raises:
            ConfigError: for weights of other networks, or a file without the other one beside it.
        """
        own, first = read_both(self.component, path, setting=self.source.setting)
        self.component.write_weights(out / MODEL, own)
        self.component.autoencoder.write_weights(out / AUTOENCODER, first)
        return {"num_parameters": sum(tensor.numel() for tensor in own.values())}


def read_both(
    recipe: ImportableLatents[Any], path: Path, *, setting: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of a network of latents, and those of the autoencoder beside it.

    Args:
        recipe: of the network of latents.
        path: its weights.
        setting: how they are asked for.

    Raises:
        ConfigError: for weights of other networks, or a file without the other one beside it.
    """
    own, beside = recipe.read(path, setting=setting), path.with_name(AUTOENCODER)
    if not beside.is_file():
        raise ConfigError(
            f"{setting}={path}: the autoencoder of these latents, {AUTOENCODER}, is not beside the "
            "file; give the folder that a training wrote: outputs/artifacts/generator/DIGEST"
        )
    return own, recipe.autoencoder.read(beside, setting=setting)


@dataclass(frozen=True, kw_only=True)
class TrainFlowFrom(TrainFrom[T_co]):
    """The stage that trains a network of latents from weights; their autoencoder stays as it is."""

    PARTS: ClassVar[tuple[type, ...]] = (
        *TrainGenerator.PARTS,
        *ImportTrained.PARTS,
        ImportTrained,
    )


class OnLatents(Trainable[T_co], Protocol[T_co]):
    """A recipe whose training needs a trained autoencoder."""

    @property
    def autoencoder(self) -> Trainable[Path]:
        """Recipe of the autoencoder."""

    @property
    def imported(self) -> ImportAutoencoder | None:
        """The stage that takes over the weights of the autoencoder; None: it is trained."""

    def begun(self, weights: Path) -> Self:
        """Return the recipe with the file of the trained autoencoder."""


@dataclass(frozen=True, kw_only=True)
class TrainFlow(TrainGenerator[T_co]):
    """The stage that trains the flow, after the autoencoder, which is found or trained first."""

    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (
        *TrainGenerator.PARTS,
        *ImportAutoencoder.PARTS,
        TrainAutoencoder,
        ImportAutoencoder,
    )

    component: OnLatents[T_co]

    def begun(self, context: Context) -> OnLatents[T_co]:
        """Return the recipe with the trained autoencoder."""
        first: Any = self.component.imported or TrainAutoencoder(
            component=self.component.autoencoder, data=self.data, curves="autoencoder/"
        )
        return self.component.begun(context.make(first))
