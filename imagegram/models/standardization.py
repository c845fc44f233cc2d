"""Standardization of vectors by their place: mean 0 and deviation 1 over images.

Without it every latent of a TiTok keeps to its own part of the codebook, and its tokens say little:
what tells places apart is larger than what tells images apart. Unlike batch normalization (Ioffe
and Szegedy, arXiv 1502.03167), a step sees the moments of the steps before it alone, so that a
vector does not depend on the rest of its batch; they move after the step, as codes do.

Array names: ``B`` images, ``T`` places, ``D`` numbers of a vector.

>>> network = Standardizer(num_places=2, dim=1)
>>> _ = network.means.copy_(torch.tensor([[5.0], [0.0]]))
>>> network(torch.tensor([[[7.0], [1.0]]])).round(decimals=3).tolist()
[[[2.0], [1.0]]]
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from imagegram.models.clusters import Devices

#: Added to variances, as batch normalization does.
_EPSILON: Final = 1e-5


class Standardizer(nn.Module):
    """Moving means and variances of every number of every place, over images.

    They are parameters without gradient, so that they are averaged like weights.

    Args:
        num_places: vectors of an image, T.
        dim: numbers of a vector, D.
    """

    def __init__(self, *, num_places: int, dim: int) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.zeros(num_places, dim), requires_grad=False)
        self.variances = nn.Parameter(torch.ones(num_places, dim), requires_grad=False)
        self._pieces: list[Tensor] = []

    def forward(self, z_BTD: Tensor) -> Tensor:
        """Standardize (B, T, D) vectors, in float32; in training, note their moments."""
        with torch.autocast(z_BTD.device.type, enabled=False):
            z_BTD = z_BTD.float()
            if self.training:
                seen = z_BTD.detach()
                count = torch.full_like(self.means, len(seen))
                self._pieces.append(torch.stack((count, seen.sum(0), seen.square().sum(0))))
            return (z_BTD - self.means) * (self.variances + _EPSILON).rsqrt()

    @torch.no_grad()
    def move(self, decay: float, devices: Devices) -> None:
        """Move the moments after a step, by the vectors of the whole batch.

        Args:
            decay: of the moving averages.
            devices: those that share the batch.
        """
        count, total, squares = devices.gather(torch.stack(self._pieces).sum(0)).sum(0)
        self._pieces.clear()
        mean = total / count
        self.means.lerp_(mean, 1 - decay)
        self.variances.lerp_(squares / count - mean.square(), 1 - decay)
