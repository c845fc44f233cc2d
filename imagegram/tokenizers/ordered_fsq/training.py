"""Training and validation of the ordered autoencoder; Lightning's side of ``objective.py``.

Validation reconstructs held-out images from 1, 2, 4, ... codes, so the curves show the error at
each length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from imagegram.images import grids
from imagegram.layout import prefix_lengths
from imagegram.models.transformer import build
from imagegram.records import Images, Tokens
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq, to_float
from imagegram.tokenizers.ordered_fsq.sizes import NETWORK
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items

#: Number of images that validation uses, and how many at a time.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 32
_NUM_SHOWN: Final = 12


class ReconstructionModule(TrainingModule):
    """TrainingModule with one autoencoder and the squared error of its pictures."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the autoencoder with fresh weights."""
        sizes = dataclasses.asdict(self.objective.architecture)
        return {NETWORK: build(OrderedFsq, seed=self.optimization.seed, **sizes)}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean squared error of pixels in 0 ... 1."""
        images, keep_B = batch
        target = to_float(images)
        loss = squared_error(self.networks[NETWORK](target, keep_B), target).mean()
        self.log("train/loss", loss)
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/mse_k1``, ``_k2``, ...: mean squared error of clipped pixels in 0 ... 1."""
        network: Any = networks[NETWORK]
        num_images = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_images) * len(items) // num_images
        lengths = prefix_lengths(network.num_registers)

        def errors(first: int) -> list[float]:
            pixels = torch.from_numpy(items.gather(rows[first : first + _CHUNK]))
            images = to_float(pixels.to(self.device))
            codes = network.encode(images)
            painted = (network.decode(codes, _all(k, codes)) for k in lengths)
            return [float(squared_error(p.clamp(-1, 1), images).sum()) for p in painted]

        totals = np.sum([errors(first) for first in range(0, num_images, _CHUNK)], axis=0)
        means = (totals / num_images).tolist()
        return {f"val/mse_k{k}": mean for k, mean in zip(lengths, means, strict=True)}


def _all(length: int, codes: Tensor) -> Tensor:
    """Return (B,) equal lengths for all images."""
    return torch.full((len(codes),), length, device=codes.device)


def squared_error(painted: Tensor, images: Tensor) -> Tensor:
    """Return the (B,) float32 mean squared error of each image, for pixels in 0 ... 1."""
    return ((painted.float() - images) / 2).square().flatten(1).mean(dim=1)


def write_reconstructions(
    path: Path,
    validation: Items,
    *,
    encode: Callable[[Images], Tokens],
    decode: Callable[[Tokens], Images],
) -> None:
    """Write a sheet: validation images, and below them reconstructions from 1, 2, 4 ... tokens."""
    count = min(_NUM_SHOWN, len(validation))
    originals = validation.gather(np.arange(count) * len(validation) // count)
    tokens = encode(originals)
    rows = [originals, *(decode(tokens[:, :k]) for k in prefix_lengths(tokens.shape[1]))]
    scale = grids.scale_for(originals.shape[1], target=64)
    grids.save_png(path, grids.grid(np.concatenate(rows), columns=count, scale=scale))
