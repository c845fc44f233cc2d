"""Two transformers with latents between them: one reads an image, one paints it from its latents.

After Yu et al., "An Image is Worth 32 Tokens for Reconstruction and Generation" (arXiv 2406.07550).
The tokenizers ``titok`` and ``ta_titok`` give the latents codes, ``generator=maskgen_kl`` keeps
them as numbers.

Array names: ``B`` images, ``S`` side in pixels, ``P`` patches, ``K`` latents, ``D`` numbers of a
code, ``W`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imagegram.models.pictures import pixels, planes
from imagegram.models.standardization import Standardizer
from imagegram.models.text_positions import TextPositions
from imagegram.models.transformer import Head, Stack


class PlainTransformer(Stack):
    """Pre-norm blocks with biases and GELU, as in the first vision transformers.

    Args:
        width: features of a position, W.
        depth: blocks.
        num_heads: divides ``width``.
    """

    branch_ends = ("self_attn.out_proj.weight", "linear2.weight")

    def __init__(self, *, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.norm_before = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                num_heads,
                dim_feedforward=4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTW: Tensor, *, read: slice, hidden_BT: Tensor | None = None) -> Tensor:
        """Return normalized features of some positions, for (B, T, W) features.

        Args:
            x_BTW: features.
            read: the positions.
            hidden_BT: (B, T) bool, positions that no other sees; None: all see all.
        """
        x_BTW = self.norm_before(x_BTW)
        for block in self.blocks:
            x_BTW = block(x_BTW, src_key_padding_mask=hidden_BT)
        out: Tensor = self.norm(x_BTW[:, read])
        return out


class Encoder(nn.Module):
    """Patches and latents to vectors; arguments as in ``TiTok``."""

    def __init__(
        self,
        *,
        patch_pixels: int,
        num_patches: int,
        num_latents: int,
        code_dim: int,
        legacy: bool,
        standardized: bool,
        **sizes: int,
    ) -> None:
        super().__init__()
        self.legacy = legacy
        width = sizes["width"]
        self.embed_patches = nn.Linear(patch_pixels, width)
        self.class_embedding = nn.Parameter(torch.empty(1, width))
        self.positions = nn.Parameter(torch.empty(num_patches + 1, width))
        self.latents = nn.Parameter(torch.empty(num_latents, width))
        self.latent_positions = nn.Parameter(torch.empty(num_latents, width))
        self.transformer = PlainTransformer(**sizes)
        self.to_codes = nn.Linear(width, code_dim)
        self.standardizer = (
            Standardizer(num_places=num_latents, dim=code_dim) if standardized else None
        )

    def forward(self, patches_BPC: Tensor) -> Tensor:
        """Return (B, K, D) vectors for (B, P, C) pixels of patches."""
        vectors = self.project(self.read(patches_BPC))
        return vectors if self.standardizer is None else self.standardizer(vectors)

    def read(self, patches_BPC: Tensor) -> Tensor:
        """Return (B, K, W) features of the latents."""
        batch = len(patches_BPC)
        patches = self.embed_patches(patches_BPC)
        first = self.class_embedding.expand(batch, -1, -1).to(patches.dtype)
        latents = (self.latents + self.latent_positions).expand(batch, -1, -1)
        image = torch.cat((first, patches), dim=1) + self.positions
        both = torch.cat((image, latents.to(image.dtype)), dim=1)
        read: Tensor = self.transformer(both, read=slice(len(self.positions), None))
        return read

    def project(self, latents_BKW: Tensor) -> Tensor:
        """Return (B, K, D) vectors; each depends on its own latent alone, if not ``legacy``."""
        if self.legacy:  # their memory is read as (B, W, K)
            latents_BKW = latents_BKW.reshape(len(latents_BKW), -1, len(self.latents))
            latents_BKW = latents_BKW.transpose(1, 2)
        out: Tensor = self.to_codes(latents_BKW)
        return out


class Decoder(nn.Module):
    """Codes and queries to features of patches; arguments as in ``TiTok``."""

    def __init__(self, *, num_patches: int, num_latents: int, code_dim: int, **sizes: int) -> None:
        super().__init__()
        width = sizes["width"]
        self.embed_codes = nn.Linear(code_dim, width)
        self.class_embedding = nn.Parameter(torch.empty(1, width))
        self.query = nn.Parameter(torch.empty(1, width))
        self.positions = nn.Parameter(torch.empty(num_patches + 1, width))
        self.latent_positions = nn.Parameter(torch.empty(num_latents, width))
        self.transformer = PlainTransformer(**sizes)

    def forward(self, codes_BKD: Tensor) -> Tensor:
        """Return (B, P, W) features for (B, K, D) codes."""
        return self.read(self.joined(codes_BKD))

    def joined(self, codes_BKD: Tensor) -> Tensor:
        """Return (B, 1 + P + K, W): the class vector, queries, then latents."""
        num_patches = len(self.positions) - 1
        queries = torch.cat((self.class_embedding, self.query.expand(num_patches, -1)))
        latents = self.embed_codes(codes_BKD) + self.latent_positions
        image = (queries + self.positions).expand(len(codes_BKD), -1, -1)
        return torch.cat((image.to(latents.dtype), latents), dim=1)

    def read(self, x_BTW: Tensor, hidden_BT: Tensor | None = None) -> Tensor:
        """Return (B, P, W) features of the patches; see :class:`PlainTransformer`."""
        patches = slice(1, len(self.positions))
        read: Tensor = self.transformer(x_BTW, read=patches, hidden_BT=hidden_BT)
        return read


class TextDecoder(Decoder):
    """A decoder that also reads a text, which stands behind the latents.

    After TA-TiTok (Kim et al., "Democratizing Text-to-Image Masked Generative Models with Compact
    Text-Aware One-Dimensional Tokens", arXiv 2501.07730).

    Args:
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a text, L.
        padded_text: see :class:`TextPositions`.
        sizes: as of :class:`Decoder`.
    """

    def __init__(
        self, *, text_dim: int, text_length: int, padded_text: bool = False, **sizes: int
    ) -> None:
        super().__init__(**sizes)
        self.text = TextPositions(
            text_dim=text_dim, text_length=text_length, width=sizes["width"], padded=padded_text
        )

    def forward(
        self, codes_BKD: Tensor, states_BLD: Tensor | None = None, there_BL: Tensor | None = None
    ) -> Tensor:
        """Return (B, P, W) features for (B, K, D) codes and texts.

        Args:
            codes_BKD: codes.
            states_BLD: (B, L, d) states of texts; None: no row has a text.
            there_BL: (B, L) bool, tokens of these texts.
        """
        both_BTW = self.joined(codes_BKD)
        if states_BLD is None or there_BL is None:
            states_BLD, there_BL = self.text.no_text(len(codes_BKD))
        text_BLW, seen_BL = self.text(states_BLD, there_BL)
        shown = torch.zeros(both_BTW.shape[:2], dtype=torch.bool, device=seen_BL.device)
        hidden_BT = torch.cat((shown, ~seen_BL), dim=1)
        return self.read(torch.cat((both_BTW, text_BLW.to(both_BTW.dtype)), dim=1), hidden_BT)


class PixelHead(nn.Module):
    """Features of patches to pixels, smoothed over the borders of patches.

    Args:
        width: features of a patch, W.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, *, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.to_patches = Head(width, 3 * patch_size**2)
        self.smooth = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, features_BPW: Tensor) -> Tensor:
        """Return (B, S, S, 3) pixels."""
        images = join_patches(self.to_patches(features_BPW), self.patch_size)
        return pixels(self.smooth(planes(images)))


def waves(num_patches: int, width: int) -> Tensor:
    """Return (P, W) sines and cosines of the places of patches, of deviation one.

    Half of the features are of the row, half of the column, with wave lengths from 6 to 600.

    >>> tuple(waves(9, 10).shape)
    (9, 10)
    """
    side, count = round(num_patches**0.5), -(-width // 4)
    speed = 0.01 ** (torch.arange(count) / count)
    row, column = (torch.arange(num_patches) // side, torch.arange(num_patches) % side)
    angles = [place[:, None] * speed for place in (column, row)]
    found = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return 2**0.5 * found[:, :width]


def cut_patches(images_BSSC: Tensor, size: int) -> Tensor:
    """Cut (B, S, S, 3) images into (B, P, pixels of a patch), in raster order."""
    side = images_BSSC.shape[1] // size
    cut = images_BSSC.reshape(-1, side, size, side, size, 3).transpose(2, 3)
    return cut.reshape(-1, side**2, 3 * size**2)


def join_patches(patches_BPC: Tensor, size: int) -> Tensor:
    """Join (B, P, pixels of a patch) to (B, S, S, 3) images.

    >>> images = torch.arange(48.0).view(1, 4, 4, 3)
    >>> join_patches(cut_patches(images, 2), 2).equal(images)
    True
    """
    side = round(patches_BPC.shape[1] ** 0.5)
    pieces = patches_BPC.reshape(-1, side, side, size, size, 3).transpose(2, 3)
    return pieces.reshape(-1, side * size, side * size, 3)
