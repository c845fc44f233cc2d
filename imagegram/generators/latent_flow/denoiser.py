"""Denoiser: from latents on their way out of noise to where they will arrive.

A transformer whose norms and branches the time modulates, as in Peebles and Xie, "Scalable
Diffusion Models with Transformers" (arXiv 2212.09748); every chunk has a time of its own, as in
Chen et al., "Diffusion Forcing" (arXiv 2407.01392), so that known chunks stand beside noisy ones.
It reads its own last estimate beside the noisy latents (Chen et al., "Analog Bits", arXiv
2208.04202).

>>> network = Denoiser(num_chunks=3, latent_size=2, width=8, depth=1, num_heads=2)
>>> latents = torch.zeros(4, 3, 2)
>>> tuple(network(latents, torch.zeros(4, 3), torch.zeros_like(latents)).shape)
(4, 3, 2)
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import Attention, GatedMlp, Head, Stack, initialize

#: Waves of a time, and by how much times in 0 ... 1 are stretched for them.
_WAVES: Final = 128
_STRETCH: Final = 1000.0


class Denoiser(HubNetwork, Stack):
    """A bidirectional transformer over latents, modulated by their times.

    Latents are standardized: :meth:`standardized` and :meth:`restored` go between them and those
    of the autoencoder, by the moments in ``shift`` and ``scale``. How many chunks a document has is
    drawn first, from ``lengths``: (N,) shares of the training documents with 1 ... N chunks.

    Args:
        num_chunks: chunks of a document, N.
        latent_size: numbers of a latent, D.
        width: features of a chunk, W.
        depth: blocks.
        num_heads: divides ``width``.
    """

    FAMILY = "latent_flow"
    branch_ends = ("attention.out.weight", "mlp.out.weight")

    def __init__(
        self, *, num_chunks: int, latent_size: int, width: int, depth: int, num_heads: int
    ) -> None:
        super().__init__()
        self.num_chunks, self.latent_size = num_chunks, latent_size
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(latent_size))
        self.register_buffer("scale", torch.ones(latent_size))
        self.lengths: Tensor
        self.register_buffer("lengths", torch.full((num_chunks,), 1 / num_chunks))
        self.read = nn.Linear(2 * latent_size, width)
        self.positions = nn.Parameter(torch.empty(num_chunks, width))
        self.times = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width=width, num_heads=num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.to_latents = Head(width, latent_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.positions.device

    def standardized(self, latents_BND: Tensor) -> Tensor:
        """Return latents of the autoencoder with mean 0 and deviation 1, number by number."""
        return (latents_BND - self.shift) / self.scale

    def restored(self, latents_BND: Tensor) -> Tensor:
        """Return latents as the autoencoder decodes them."""
        return latents_BND * self.scale + self.shift

    def there(self, uniforms_B: Tensor) -> Tensor:
        """Draw how many chunks documents have.

        Args:
            uniforms_B: (B,) uniforms in [0, 1).

        Returns:
            (B, N) bool, True for the chunks of each.
        """
        ends_N = self.lengths.double().cumsum(0)
        last_B = torch.searchsorted(ends_N, uniforms_B * ends_N[-1], right=True)
        return torch.arange(self.num_chunks, device=self.device) <= last_B[:, None]

    def forward(
        self,
        latents_BND: Tensor,
        times_BN: Tensor,
        estimate_BND: Tensor,
        there_BN: Tensor | None = None,
    ) -> Tensor:
        """Return (B, N, D) estimates of where latents arrive at time 1.

        Args:
            latents_BND: latents at their times: start noise at 0, themselves at 1. Of a document
                of fewer chunks, these alone may be given.
            times_BN: times, 0 ... 1.
            estimate_BND: an earlier estimate; zeros: there is none.
            there_BN: bool, the chunks that a document has; the others are not seen. None: all.
        """
        given_BNW = nn.functional.silu(self.times(time_waves(times_BN)))
        x_BNW = self.read(torch.cat([latents_BND, estimate_BND], dim=-1))
        x_BNW = x_BNW + self.positions[: x_BNW.shape[1]]
        mask = None if there_BN is None else there_BN[:, None, None]
        for block in self.blocks:
            x_BNW = block(x_BNW, given_BNW, mask)
        shift_BNW, scale_BNW = self.modulation(given_BNW).chunk(2, dim=-1)
        out: Tensor = self.to_latents(self.norm(x_BNW) * (1 + scale_BNW) + shift_BNW)
        return out


class _Block(nn.Module):
    """Attention, then the MLP, each between a modulated norm and a gate."""

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width=width, num_heads=num_heads)
        self.mlp = GatedMlp(width=width)
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x_BNW: Tensor, given_BNW: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, N, W) features; ``mask`` is (B, 1, 1, N), True where a chunk is seen."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(given_BNW).chunk(6, dim=-1)
        x_BNW = x_BNW + gate1 * self.attention(self.norm(x_BNW) * (1 + scale1) + shift1, mask)
        out: Tensor = x_BNW + gate2 * self.mlp(self.norm(x_BNW) * (1 + scale2) + shift2)
        return out


def time_waves(times_BN: Tensor) -> Tensor:
    """Return (B, N, 2 * waves) cosines and sines of times, of frequencies from 1 down to 1e-4."""
    powers = torch.arange(_WAVES, device=times_BN.device, dtype=torch.float32) / _WAVES
    angles = _STRETCH * times_BN.float()[..., None] * torch.exp(-math.log(10_000.0) * powers)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def initialize_modulated(network: nn.Module, *, seed: int) -> None:
    """Set fresh weights; all modulations are zero, so that fresh blocks pass on what they read."""
    initialize(network, seed=seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "modulation" in name:
                parameter.zero_()
