"""What trained generators share: weights, and the device and numbers that they sample with."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from imagegram.generators.ready import ReadyModel
from imagegram.store.manifest import Artifact
from imagegram.store.weights import AUTOENCODER, MODEL

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class TrainedModel(ReadyModel):
    """A finished training that samples; a family says what its network is.

    Attributes:
        artifact: the finished training, with the weights.
        device: device that samples.
        dtype: numbers that it computes with, see :data:`imagegram.models.dtypes.DTYPES`.
    """

    artifact: Artifact
    device: str
    dtype: str = "float32"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without networks, which another process reads again."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    def identity(self) -> Any:
        """Return kind/digest of the training; with it the numbers, where these are others."""
        training = self.artifact.identity()
        return training if self.dtype == "float32" else [training, self.dtype]

    def make_network(self) -> nn.Module:
        """Build the network of the family, with any weights."""
        raise NotImplementedError

    @cached_property
    def network(self) -> Any:
        """The network with its weights, in evaluation mode, on its device."""
        import torch

        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            network = self.make_network()
        return self.loaded(network, MODEL)

    def loaded(self, network: nn.Module, name: str) -> Any:
        """Return a network with the weights of a file, in evaluation mode, on the device."""
        from safetensors.torch import load_file

        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="generator.device")
        network.load_state_dict(load_file(self.artifact.path / name))
        return network.eval().to(self.device)


@dataclass(frozen=True, kw_only=True)
class LatentModel(TrainedModel):
    """A trained network of the latents of an autoencoder, which was trained before it."""

    def make_autoencoder(self) -> nn.Module:
        """Build the autoencoder of the family, with any weights."""
        raise NotImplementedError

    @cached_property
    def networks(self) -> tuple[Any, Any]:
        """Autoencoder and network of latents with their weights, on their device."""
        import torch

        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            autoencoder = self.make_autoencoder()
        return self.loaded(autoencoder, AUTOENCODER), self.network
