"""MaskedLatents: a transformer over latents of which some are masked, and a flow for each of them.

After Li et al., "Autoregressive Image Generation without Vector Quantization" (arXiv 2406.11838):
the transformer says of every masked latent what it knows of it, a vector; a small network follows
the flow from noise to one latent, given that vector. Here the flow is a straight line, as in
``latent_flow``.

Array names: ``B`` images, ``K`` latents of an image, ``D`` numbers of a latent, ``W`` features,
``R`` latents of any images.

>>> network = MaskedLatents(
...     num_latents=3, latent_size=2, width=8, depth=1, num_heads=2, head_width=8, head_depth=1,
...     text_dim=4, text_length=2,
... )
>>> known = network(torch.zeros(5, 3, 2), torch.ones(5, 3, dtype=torch.bool))
>>> tuple(network.velocity(torch.zeros(7, 2), torch.zeros(7), known[0, :1].expand(7, -1)).shape)
(7, 2)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imagegram.generators.latent_flow.denoiser import time_waves
from imagegram.models.hub import HubNetwork
from imagegram.models.text_positions import TextPositions
from imagegram.models.transformer import GatedMlp, Head, Stack, Transformer

#: Waves of a time.
_WAVES = 256


class MaskedLatents(HubNetwork):
    """A bidirectional transformer over captions and latents, with a head that follows a flow.

    Latents are standardized by the moments in ``shift`` and ``scale``.

    Args:
        num_latents: latents of an image, K.
        latent_size: numbers of a latent, D.
        width, depth, num_heads: of the transformer.
        head_width, head_depth: of the head.
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
    """

    FAMILY = "maskgen_kl"

    def __init__(
        self,
        *,
        num_latents: int,
        latent_size: int,
        width: int,
        depth: int,
        num_heads: int,
        head_width: int,
        head_depth: int,
        text_dim: int,
        text_length: int,
    ) -> None:
        super().__init__()
        self.num_latents, self.latent_size = num_latents, latent_size
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(latent_size))
        self.register_buffer("scale", torch.ones(latent_size))
        self.read = nn.Linear(latent_size, width)
        self.mask = nn.Parameter(torch.empty(1, width))
        self.positions = nn.Parameter(torch.empty(num_latents, width))
        self.text = TextPositions(text_dim=text_dim, text_length=text_length, width=width)
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)
        self.head = _FlowHead(
            latent_size=latent_size, given=width, width=head_width, depth=head_depth
        )

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.positions.device

    def standardized(self, latents_BKD: Tensor) -> Tensor:
        """Return latents of the autoencoder with mean 0 and deviation 1, number by number."""
        return (latents_BKD - self.shift) / self.scale

    def restored(self, latents_BKD: Tensor) -> Tensor:
        """Return latents as the autoencoder decodes them."""
        return latents_BKD * self.scale + self.shift

    def forward(
        self,
        latents_BKD: Tensor,
        masked_BK: Tensor,
        states_BLD: Tensor | None = None,
        there_BL: Tensor | None = None,
    ) -> Tensor:
        """Return (B, K, W), what is known of every latent from those that are not masked.

        Args:
            latents_BKD: standardized latents; masked ones are not read.
            masked_BK: bool.
            states_BLD: (B, L, d) states of captions; None: no row has a caption.
            there_BL: (B, L) bool, tokens of these captions.
        """
        if states_BLD is None or there_BL is None:
            states_BLD, there_BL = self.text.no_text(len(latents_BKD))
        text_BLW, seen_BL = self.text(states_BLD, there_BL)
        read_BKW = self.read(latents_BKD)
        x_BKW = torch.where(masked_BK[..., None], self.mask.to(read_BKW.dtype), read_BKW)
        x_BKW = x_BKW + self.positions
        both = torch.cat((text_BLW.to(x_BKW.dtype), x_BKW), dim=1)
        mask = torch.cat((seen_BL, torch.ones_like(masked_BK)), dim=1)[:, None, None]
        known: Tensor = self.transformer(both, mask)[:, text_BLW.shape[1] :]
        return known

    def velocity(self, latents_RD: Tensor, times_R: Tensor, known_RW: Tensor) -> Tensor:
        """Return (R, D) velocities of latents on their way from noise, at their times 0 ... 1."""
        found: Tensor = self.head(latents_RD, times_R, known_RW)
        return found


class _FlowHead(Stack):
    """Residual MLPs over one latent, modulated by its time and by what is known of it."""

    branch_ends = ("mlp.out.weight",)

    def __init__(self, *, latent_size: int, given: int, width: int, depth: int) -> None:
        super().__init__()
        self.read = nn.Linear(latent_size, width)
        self.times = nn.Sequential(nn.Linear(_WAVES, width), nn.SiLU(), nn.Linear(width, width))
        self.known = nn.Linear(given, width)
        self.blocks = nn.ModuleList(_FlowBlock(width=width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.to_velocity = Head(width, latent_size)

    def forward(self, latents_RD: Tensor, times_R: Tensor, known_RW: Tensor) -> Tensor:
        given_RW = nn.functional.silu(self.times(time_waves(times_R)) + self.known(known_RW))
        x_RW = self.read(latents_RD)
        for block in self.blocks:
            x_RW = block(x_RW, given_RW)
        shift_RW, scale_RW = self.modulation(given_RW).chunk(2, dim=-1)
        out: Tensor = self.to_velocity(self.norm(x_RW) * (1 + scale_RW) + shift_RW)
        return out


class _FlowBlock(nn.Module):
    """An MLP between a modulated norm and a gate."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = GatedMlp(width=width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x_RW: Tensor, given_RW: Tensor) -> Tensor:
        shift_RW, scale_RW, gate_RW = self.modulation(given_RW).chunk(3, dim=-1)
        out: Tensor = x_RW + gate_RW * self.mlp(self.norm(x_RW) * (1 + scale_RW) + shift_RW)
        return out
