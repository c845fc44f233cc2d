"""Gaussians of independent numbers: what an encoder says of a latent that is not quantized.

After Kingma and Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114): an encoder gives mean
and log-variance of every number, a decoder sees a sample, and the divergence from a standard normal
distribution is part of the loss. The noise is given by whoever draws it: in a training it comes
with the batch, so that a sample depends on its row and its step, and on nothing else.

Array names: ``...`` any leading axes, ``D`` numbers of a latent.

>>> found = Gaussians.of(torch.tensor([[1.0, 0.0]]))
>>> found.sample(torch.tensor([[2.0]])).tolist(), found.divergence().tolist()
([[3.0]], [0.5])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

#: Log-variances beyond are cut, as published autoencoders do, so that none overflows.
_LEAST, _MOST = -30.0, 20.0


@dataclass(frozen=True)
class Gaussians:
    """Independent normal distributions.

    Attributes:
        mean: (..., D) float32; without noise, a latent is its mean.
        log_variance: (..., D) float32.
    """

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def of(cls, moments: Tensor) -> Self:
        """Return the Gaussians of (..., 2 D) outputs: D means, then D log-variances."""
        mean, log_variance = moments.float().chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(_LEAST, _MOST))

    def sample(self, noise: Tensor) -> Tensor:
        """Return (..., D) samples for (..., D) standard normal noise."""
        return self.mean + torch.exp(self.log_variance / 2) * noise

    def divergence(self) -> Tensor:
        """Return the (...) Kullback-Leibler divergences from a standard normal, in nats."""
        return self.divergences().sum(dim=-1)

    def divergences(self) -> Tensor:
        """Return the (..., D) divergences of every number."""
        variance = self.log_variance.exp()
        return (self.mean.square() + variance - 1 - self.log_variance) / 2
