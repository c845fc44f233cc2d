"""Training and validation of the ordered autoencoder; Lightning's side of ``objective.py``.

Validation reconstructs held-out images from 1, 2, 4, ... codes, so the curves show the error at
each length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imagegram.layout import prefix_lengths
from imagegram.models.pictures import squared_error, to_float
from imagegram.models.transformer import build
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq
from imagegram.tokenizers.sheets import NUM_VALIDATION, VALIDATION_CHUNK, spread
from imagegram.tokenizers.sizes import NETWORK
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items


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
        rows = spread(items, NUM_VALIDATION)
        lengths = prefix_lengths(network.num_registers)

        def errors(first: int) -> list[float]:
            pixels = torch.from_numpy(items.gather(rows[first : first + VALIDATION_CHUNK]))
            images = to_float(pixels.to(self.device))
            codes = network.encode(images)
            painted = (network.decode(codes, _all(k, codes)) for k in lengths)
            return [float(squared_error(p.clamp(-1, 1), images).sum()) for p in painted]

        firsts = range(0, len(rows), VALIDATION_CHUNK)
        totals = np.sum([errors(first) for first in firsts], axis=0)
        means = (totals / len(rows)).tolist()
        return {f"val/mse_k{k}": mean for k, mean in zip(lengths, means, strict=True)}


def _all(length: int, codes: Tensor) -> Tensor:
    """Return (B,) equal lengths for all images."""
    return torch.full((len(codes),), length, device=codes.device)
