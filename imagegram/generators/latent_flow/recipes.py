"""What recipes of two trainings share: an autoencoder, then a network of its latents.

The recipes of a family are dataclasses that derive from these and add their fields; what is stored
of a training is named by those fields alone.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from imagegram.generators.trained import AUTOENCODER
from imagegram.models.checkpoints import write_weights
from imagegram.store.manifest import Artifact
from imagegram.store.weights import MODEL
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
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
        sizes = json.dumps(self.objective().sizes.arguments())
        write_weights(out / MODEL, weights, {network: sizes})


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
