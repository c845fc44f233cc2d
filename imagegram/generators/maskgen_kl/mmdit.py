"""The published network of MaskGen-KL: two streams over latents and a caption, and a diffusion.

After Kim et al. (arXiv 2501.07730), with the head of Li et al., "Autoregressive Image Generation
without Vector Quantization" (arXiv 2406.11838); the blocks are those of ``models/mmdit.py``, the
diffusion that of ``models/diffusion.py``. Names and shapes of weights are those of the published
files. Array names are those of ``network.py``.

>>> network = LatentMmdit(
...     num_latents=3, latent_size=2, width=8, depth=1, num_heads=2, head_width=8, head_depth=1,
...     text_dim=4, aesthetic_score=6.5, latent_scale=1.0,
... )
>>> masked = torch.ones(5, 3, dtype=torch.bool)
>>> known = network(torch.zeros(5, 3, 2), masked, torch.zeros(5, 4, 4))
>>> tuple(network.noise(torch.zeros(7, 2), torch.zeros(7), known[0, :1].expand(7, -1)).shape)
(7, 4)
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.mmdit import JointBlock, LastNorm

#: Numbers that tell an aesthetic score, and its factor.
MICRO_DIM: Final = 256
_MICRO_SCALE: Final = 100.0
#: Numbers that tell a time, and the longest of all wavelengths / 2 pi.
_WAVES: Final = 256
_PERIOD: Final = 10_000.0
_EPS: Final = 1e-6


class LatentMmdit(nn.Module):
    """Two streams, of latents with some of them masked and of a caption; a head that denoises.

    Args:
        num_latents: latents of an image, K.
        latent_size: numbers of a latent, D.
        width: features of a latent, W.
        depth: blocks.
        num_heads: divides ``width``.
        head_width, head_depth: of the head.
        text_dim: numbers of a state of the text encoder.
        aesthetic_score: of all images; None: the network reads none.
        latent_scale: factor of the latents of the autoencoder.
    """

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
        aesthetic_score: float | None,
        latent_scale: float,
    ) -> None:
        super().__init__()
        self.num_latents, self.latent_size = num_latents, latent_size
        self.aesthetic_score, self.latent_scale = aesthetic_score, latent_scale
        more = 0 if aesthetic_score is None else MICRO_DIM
        self.text_emb = nn.Linear(text_dim, width)
        self.text_pooled_emb = nn.Linear(text_dim + more, width)
        self.decoder_blocks = nn.ModuleList(
            JointBlock(width=width, num_heads=num_heads, is_last=number == depth - 1)
            for number in range(depth)
        )
        self.decoder_norm = LastNorm(width)
        self.z_proj = nn.Linear(latent_size, width)
        self.z_proj_ln = nn.LayerNorm(width, eps=_EPS)
        self.decoder_pos_embed_learned = nn.Parameter(torch.empty(1, num_latents, width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.diffusion_pos_embed_learned = nn.Parameter(torch.empty(1, num_latents, width))
        head = _Head(latent_size=latent_size, given=width, width=head_width, depth=head_depth)
        self.diffloss = nn.ModuleDict({"net": head})

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.mask_token.device

    def restored(self, latents_BKD: Tensor) -> Tensor:
        """Return latents as the autoencoder decodes them."""
        return latents_BKD / self.latent_scale

    def forward(
        self,
        latents_BKD: Tensor,
        masked_BK: Tensor,
        states_BLD: Tensor,
        there_BL: Tensor | None = None,
    ) -> Tensor:
        """Return (B, K, W), what is known of every latent from those that are not masked.

        Args:
            latents_BKD: scaled latents; masked ones are not read.
            masked_BK: bool.
            states_BLD: (B, L, d): the vector of a caption, then the states of its tokens; no
                caption is the empty one.
            there_BL: of no use: all states are read.
        """
        states_BLD = states_BLD.to(self.mask_token.dtype)
        given_BW = self.text_pooled_emb(self._with_score(states_BLD[:, 0]))
        text_BLW = self.text_emb(states_BLD[:, 1:])
        read_BKW = self.z_proj_ln(self.z_proj(latents_BKD))
        x_BKW = torch.where(masked_BK[..., None], self.mask_token.to(read_BKW.dtype), read_BKW)
        x_BKW = x_BKW + self.decoder_pos_embed_learned
        for block in self.decoder_blocks:
            x_BKW, text_BLW = block(x_BKW, text_BLW, given_BW)
        return self.decoder_norm.normalized(x_BKW, given_BW) + self.diffusion_pos_embed_learned

    def noise(self, latents_RD: Tensor, times_R: Tensor, known_RW: Tensor) -> Tensor:
        """Return (R, 2 D): the noise in latents at times 0 ... 999, then where variances lie."""
        found: Tensor = self.diffloss["net"](latents_RD, times_R, known_RW)
        return found

    def _with_score(self, vector_BD: Tensor) -> Tensor:
        """Return vectors of captions with the numbers of the score, sines and cosines in turn."""
        if self.aesthetic_score is None:
            return vector_BD
        exponents = torch.arange(0, MICRO_DIM, 2, device=vector_BD.device) / MICRO_DIM
        angles = self.aesthetic_score * _MICRO_SCALE * _PERIOD**-exponents
        told = torch.stack((torch.sin(angles), torch.cos(angles)), dim=1).flatten()
        return torch.cat((vector_BD, told.to(vector_BD.dtype).expand(len(vector_BD), -1)), dim=1)


class _Head(nn.Module):
    """Residual MLPs over one latent, modulated by its time and by what is known of it."""

    def __init__(self, *, latent_size: int, given: int, width: int, depth: int) -> None:
        super().__init__()
        self.time_embed = nn.ModuleDict({"mlp": _mlp(_WAVES, width)})
        self.cond_embed = nn.Linear(given, width)
        self.input_proj = nn.Linear(latent_size, width)
        self.res_blocks = nn.ModuleList(_HeadBlock(width) for _ in range(depth))
        self.final_layer = nn.ModuleDict(
            {"linear": nn.Linear(width, 2 * latent_size), "adaLN_modulation": _modulation(width, 2)}
        )

    def forward(self, latents_RD: Tensor, times_R: Tensor, known_RW: Tensor) -> Tensor:
        """Return (R, 2 D) numbers of latents."""
        half = _WAVES // 2
        exponents = torch.arange(half, device=times_R.device) * (-math.log(_PERIOD) / half)
        angles = times_R[:, None] * torch.exp(exponents)
        waves = torch.cat((torch.cos(angles), torch.sin(angles)), dim=1)
        given_RW = self.time_embed["mlp"](waves) + self.cond_embed(known_RW)
        x_RW = self.input_proj(latents_RD)
        for block in self.res_blocks:
            x_RW = block(x_RW, given_RW)
        shift, scale = self.final_layer["adaLN_modulation"](given_RW).chunk(2, dim=-1)
        normal_RW = F.layer_norm(x_RW, x_RW.shape[-1:], eps=_EPS)
        out: Tensor = self.final_layer["linear"](normal_RW * (1 + scale) + shift)
        return out


class _HeadBlock(nn.Module):
    """An MLP between a modulated norm and a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=_EPS)
        self.mlp = _mlp(width, width)
        self.adaLN_modulation = _modulation(width, 3)

    def forward(self, x_RW: Tensor, given_RW: Tensor) -> Tensor:
        """Return (R, W) features for (R, W) features."""
        shift, scale, gate = self.adaLN_modulation(given_RW).chunk(3, dim=-1)
        out: Tensor = x_RW + gate * self.mlp(self.in_ln(x_RW) * (1 + scale) + shift)
        return out


def _mlp(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width))


def _modulation(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, count * width))
