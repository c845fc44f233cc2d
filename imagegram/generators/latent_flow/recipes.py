"""What recipes of two trainings share: an autoencoder, then a network of its latents.

The recipes of a family are dataclasses that derive from these and add their fields; what is stored
of a training is named by those fields alone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from imagegram.errors import ConfigError
from imagegram.models.checkpoints import (
    Shapes,
    read_tensors,
    recorded_sizes,
    require_shapes,
    shapes_of,
    write_weights,
)
from imagegram.store.manifest import Artifact
from imagegram.store.weights import AUTOENCODER, MODEL
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from imagegram.training.state import TrainingState


class _Recipe:
    """One network of a generator: ``self.generator``."""

    if TYPE_CHECKING:

        @property
        def generator(self) -> Any:
            """The configured generator."""

    @property
    def trainer(self) -> TrainerOptions:
        """Where the network is trained."""
        trainer: TrainerOptions = self.generator.trainer
        return trainer

    def objective(self) -> Any:
        """Return what the network learns; its ``sizes`` are those of the network."""
        raise NotImplementedError

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights, with the sizes of the network in the file's metadata."""
        ((network, weights),) = state.averages.items()
        self.write_weights(out / MODEL, weights, network=network)

    def write_weights(
        self, path: Path, weights: Mapping[str, Tensor], *, network: str = "network"
    ) -> None:
        """Write weights, with the sizes of the network in the file's metadata, by its name."""
        sizes = json.dumps(self.objective().sizes.arguments())
        write_weights(path, weights, {network: sizes})

    def make_network(self) -> nn.Module:
        """Build the network, with any weights."""
        raise NotImplementedError

    def shapes(self) -> Shapes:
        """Return names and shapes of the network's weights."""
        import torch

        with torch.device("meta"):
            return shapes_of(self.make_network().state_dict())

    def word(self, name: str, value: Any) -> str:
        """Return what to type for a network of another size."""
        raise NotImplementedError

    def read(self, path: Path, *, setting: str) -> dict[str, Tensor]:
        """Return the weights of a file that a training of this network wrote.

        Raises:
            ConfigError: for weights of another network, or of other sizes.
        """
        tensors, own = read_tensors(path, setting=setting), self.objective().sizes.arguments()
        self.check_family(shapes_of(tensors), setting=setting)
        recorded = recorded_sizes(path)
        other = {name: value for name, value in recorded.items() if value != own.get(name)}
        if other and recorded.keys() <= own.keys():
            words = [self.word(name, value) for name, value in other.items()]
            raise ConfigError(
                f"{setting}={path}: the weights are of a network of other sizes; type "
                f"{' '.join(dict.fromkeys(words))}"
            )
        require_shapes(shapes_of(tensors), self.shapes(), setting=f"{setting}={path}")
        return tensors

    def check_family(self, shapes: Shapes, *, setting: str) -> None:
        """Refuse weights of another kind of network, where names tell it."""


class AutoencoderRecipe(_Recipe):
    """What is trained first."""

    @property
    def name(self) -> str:
        """Name in tables and progress bars."""
        return f"{self.generator.name}, autoencoder"

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        optimization: Optimization = self.generator.autoencoder.optimization
        return optimization

    def trained(self, artifact: Artifact) -> Path:
        """Return the file of the weights."""
        return artifact.path / MODEL


class LatentsRecipe(_Recipe):
    """What is trained then; its field ``weights`` is the file of the trained autoencoder."""

    if TYPE_CHECKING:

        @property
        def weights(self) -> str | None:
            """File of the trained autoencoder; None: it is not trained yet."""

    @property
    def name(self) -> str:
        """Name in tables and progress bars."""
        name: str = self.generator.name
        return name

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        optimization: Optimization = self.generator.optimization
        return optimization

    @property
    def imported(self) -> Any:
        """The stage that takes over the weights of the autoencoder; None: it is trained."""
        return None

    def started(self, folder: Path) -> Self:
        """Return the recipe whose training begins with a folder of the weights of both networks.

        The recipe of the family has a field ``first_weights`` for the file of its own.
        """
        changed: Any = self.begun(folder / AUTOENCODER)
        changed = dataclasses.replace(changed, first_weights=folder / MODEL)
        recipe: Self = changed
        return recipe

    def begun(self, weights: Path) -> Self:
        """Return the recipe with the file of the trained autoencoder."""
        changed: Any = dataclasses.replace(self, weights=str(weights))  # type: ignore[type-var]
        recipe: Self = changed
        return recipe

    def write_trained(self, out: Path, state: TrainingState, validation: Items) -> None:
        """Write the averaged weights of the network, and beside them those of the autoencoder."""
        super().write_trained(out, state, validation)
        assert self.weights is not None
        shutil.copyfile(self.weights, out / AUTOENCODER)
