"""Training and validation of autoencoders with a quantizer; Lightning's side of the objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from imagegram.models.clusters import Clusters, Devices
from imagegram.models.codebooks import Quantized
from imagegram.models.pictures import squared_error, to_float
from imagegram.models.transformer import build
from imagegram.tokenizers.sheets import NUM_VALIDATION, VALIDATION_CHUNK, spread
from imagegram.tokenizers.sizes import NETWORK
from imagegram.training.draws import CODES, generator
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items

#: Name of the usage of the codes in states of training.
CLUSTERS: Final = "clusters"


class ReconstructionModule(TrainingModule):
    """TrainingModule with one autoencoder, the error of its pictures, and its codes."""

    averaged = (NETWORK,)

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the autoencoder with fresh weights, and fresh clusters where there are codes."""
        sizes, how = self.objective.architecture, self.objective.quantizer
        network: Any = build(sizes.network(), seed=self.optimization.seed, **sizes.as_dict())
        network.begin()
        if not how.has_codebook:
            return {NETWORK: network}
        network.quantizer.vectors.requires_grad_(how.kind != "ema")
        clusters = Clusters(
            vocab_size=how.vocab_size,
            dim=how.dim,
            learned=how.kind,
            decay=how.decay,
            revive_below=how.revive_below,
        )
        return {NETWORK: network, CLUSTERS: clusters}

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """Return the mean squared error of pixels in 0 ... 1, and the pull to the codes."""
        target = to_float(batch[0])
        painted, found = self.networks[NETWORK](target)
        error = squared_error(painted, target).mean()
        loss: Tensor = error + self.code_loss(found)
        self.log_dict({"train/loss": loss, "train/mse": error})
        return loss

    def code_loss(self, found: Quantized) -> Tensor | float:
        """Return the loss of the quantizer; note which codes were chosen."""
        how, clusters = self.objective.quantizer, self._clusters
        if clusters is None:
            return 0.0
        clusters.collect(found.inputs, found.ids)
        loss: Tensor = how.commitment * found.commitment()
        return loss if how.kind == "ema" else loss + found.attraction()

    def after_step(self) -> None:
        """Move the codes after their vectors, and revive dead ones."""
        clusters = self._clusters
        network: Any = self.networks[NETWORK]
        devices = self._devices()
        network.move(self.objective.quantizer.decay, devices)
        if clusters is not None:
            rng = generator(seed=self.optimization.seed, purpose=CODES, number=self.steps_done)
            clusters.move(network.quantizer, rng, devices)

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/mse``, ``val/psnr`` and the use of the ids.

        ``val/mse``: squared error of clipped pixels in 0 ... 1; ``val/psnr``: mean over images, in
        dB; ``val/ids_used``: share of the ids that occur; ``val/perplexity``: how many equally
        frequent ids would be as varied.
        """
        network: Any = networks[NETWORK]
        errors, ids = [], []
        for images in self.held_out(items):
            painted, found = network(images)
            errors.append(squared_error(painted.clamp(-1, 1), images).cpu().numpy())
            ids.append(found.ids.cpu().numpy())
        errors_B = np.concatenate(errors).astype(np.float64)
        vocab_size = self.objective.quantizer.sizes()["vocab_size"]
        counts_V = np.bincount(np.concatenate(ids).ravel(), minlength=vocab_size)
        used = counts_V[counts_V > 0] / counts_V.sum()
        return {
            "val/mse": float(errors_B.mean()),
            "val/psnr": float(-10 * np.log10(np.maximum(errors_B, 1e-10)).mean()),
            "val/ids_used": len(used) / vocab_size,
            "val/perplexity": float(np.exp(-(used * np.log(used)).sum())),
        }

    def held_out(self, items: Items) -> Iterator[Tensor]:
        """Yield (B, S, S, 3) images to validate on, some at a time, in -1 ... 1."""
        rows = spread(items, NUM_VALIDATION)
        for first in range(0, len(rows), VALIDATION_CHUNK):
            pixels = torch.from_numpy(items.gather(rows[first : first + VALIDATION_CHUNK]))
            yield to_float(pixels.to(self.device))

    @property
    def _clusters(self) -> Any:
        """The clusters; None: there is no codebook."""
        return dict(self.networks.items()).get(CLUSTERS)

    def _devices(self) -> Devices:
        """Return the devices that share a batch."""
        trainer = self.trainer
        if trainer.world_size == 1:
            return Devices()
        return Devices(trainer.global_rank, trainer.world_size, self._gathered)

    def _gathered(self, tensor: Tensor) -> Tensor:
        """Return a tensor of every device, stacked by rank."""
        gathered: Any = self.all_gather(tensor)
        stacked: Tensor = gathered.to(tensor.device)
        return stacked
