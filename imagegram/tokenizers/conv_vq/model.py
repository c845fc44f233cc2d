"""A convolutional autoencoder: every place of a grid becomes one token.

The structure is that of the VQGAN of Chang et al., "MaskGIT: Masked Generative Image Transformer"
(arXiv 2202.04200): residual blocks without attention, halved by averaging, doubled by repetition.
Here the first and the last layer may cut the image into patches, which makes a small network of
few layers at the resolution of the tokens.

Array names: ``B`` images, ``S`` side in pixels, ``G`` side of the grid, ``T`` = G x G tokens,
``D`` numbers of a code, ``C`` channels.

>>> import torch
>>> network = ConvVq(
...     image_size=8, patch_size=2, channels=32, multipliers=(1, 1), num_blocks=1,
...     vocab_size=5, code_dim=4, normalized=False, levels=(),
... )
>>> ids = network.ids(torch.zeros(2, 8, 8, 3))
>>> tuple(ids.shape), tuple(network.paint(ids).shape)
((2, 4), (2, 8, 8, 3))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.pictures import pixels, planes
from imagegram.models.transformer import ConvHead, Stack
from imagegram.tokenizers.autoencoder import Autoencoder

#: Groups of channels that are normalized together; channels are multiples of it.
NUM_GROUPS: Final = 32


class ResidualBlock(nn.Module):
    """Two convolutions of normalized features, added to what was there.

    Where the number of channels changes there is nothing to add to: a projection of the result is
    added to the result, as published weights want it.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm_1 = _norm(channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm_2 = _norm(channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = channels_in != channels
        self.project = nn.Conv2d(channels, channels, 1, bias=False) if changes else None

    def forward(self, x_BCGG: Tensor) -> Tensor:
        """Return (B, C, G, G) features."""
        hidden = self.conv_1(F.silu(self.norm_1(x_BCGG)))
        hidden = self.conv_2(F.silu(self.norm_2(hidden)))
        out: Tensor = hidden + (x_BCGG if self.project is None else self.project(hidden))
        return out


class Blocks(Stack):
    """Residual blocks of one resolution.

    Args:
        channels_in: of the input.
        channels: of all blocks.
        count: how many.
    """

    branch_ends = ("conv_2.weight",)

    def __init__(self, channels_in: int, channels: int, *, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(channels if number else channels_in, channels) for number in range(count)
        )

    def forward(self, x_BCGG: Tensor) -> Tensor:
        """Return (B, C, G, G) features."""
        for block in self.blocks:
            x_BCGG = block(x_BCGG)
        return x_BCGG


class Encoder(nn.Module):
    """Patches to vectors of the grid; arguments as in :class:`ConvVq`."""

    def __init__(
        self, *, patch_pixels: int, widths: Sequence[int], num_blocks: int, code_dim: int
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(patch_pixels, widths[0], 3, padding=1, bias=False)
        before = (widths[0], *widths)
        self.levels = nn.ModuleList(
            Blocks(channels_in, channels, count=num_blocks)
            for channels_in, channels in zip(before, widths, strict=False)
        )
        self.middle = Blocks(widths[-1], widths[-1], count=num_blocks)
        self.norm = _norm(widths[-1])
        self.to_codes = nn.Conv2d(widths[-1], code_dim, 1)

    def forward(self, x_BCGG: Tensor) -> Tensor:
        """Return (B, D, G, G) vectors."""
        hidden = self.embed(x_BCGG)
        for number, level in enumerate(self.levels):
            hidden = level(hidden if number == 0 else F.avg_pool2d(hidden, 2))
        out: Tensor = self.to_codes(F.silu(self.norm(self.middle(hidden))))
        return out


class Decoder(nn.Module):
    """Codes of the grid to patches; arguments as in :class:`ConvVq`."""

    def __init__(
        self, *, patch_pixels: int, widths: Sequence[int], num_blocks: int, code_dim: int
    ) -> None:
        super().__init__()
        self.embed_codes = nn.Conv2d(code_dim, widths[-1], 3, padding=1)
        self.middle = Blocks(widths[-1], widths[-1], count=num_blocks)
        down = (*widths, widths[-1])[:0:-1]
        self.levels = nn.ModuleList(
            Blocks(channels_in, channels, count=num_blocks)
            for channels_in, channels in zip(down, widths[::-1], strict=True)
        )
        self.grow = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for channels in widths[:0:-1]
        )
        self.norm = _norm(widths[0])
        self.to_pixels = ConvHead(widths[0], patch_pixels, 3, padding=1)

    def forward(self, codes_BDGG: Tensor) -> Tensor:
        """Return the (B, C, G, G) pixels of patches."""
        hidden = self.middle(self.embed_codes(codes_BDGG))
        for number, level in enumerate(self.levels):
            hidden = level(hidden)
            if number < len(self.grow):
                doubled = F.interpolate(hidden, scale_factor=2.0, mode="nearest")
                hidden = self.grow[number](doubled)
        out: Tensor = self.to_pixels(F.silu(self.norm(hidden)))
        return out


class ConvVq(Autoencoder):
    """Encoder, quantizer and decoder of a grid.

    Args:
        image_size: side of the images in pixels, S.
        patch_size: side of the patches that the first layer sees, and the last one paints.
        channels: features of a place.
        multipliers: of ``channels``, by resolution, the finest first; each halves the side.
        num_blocks: residual blocks of a resolution, and of the middle.
        quantizer: the sizes of the quantizer, see :class:`Autoencoder`.
    """

    FAMILY = "conv_vq"

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        channels: int,
        multipliers: Sequence[int],
        num_blocks: int,
        **quantizer: Any,
    ) -> None:
        grid_size = image_size // patch_size // 2 ** (len(multipliers) - 1)
        super().__init__(image_size=image_size, num_tokens=grid_size**2, **quantizer)
        self.patch_size, self.grid_size = patch_size, grid_size
        sizes: dict[str, Any] = {
            "patch_pixels": 3 * patch_size**2,
            "widths": [channels * multiplier for multiplier in multipliers],
            "num_blocks": num_blocks,
            "code_dim": quantizer["code_dim"],
        }
        self.encoder, self.decoder = Encoder(**sizes), Decoder(**sizes)

    def encode(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) float images as (B, T, D) vectors, not yet codes."""
        patches = F.pixel_unshuffle(planes(images_BSSC + 1) / 2, self.patch_size)
        vectors: Tensor = self.encoder(patches)
        return vectors.flatten(2).transpose(1, 2)

    def decode(self, codes_BTD: Tensor, *beside: Tensor) -> Tensor:
        """Decode (B, T, D) codes to (B, S, S, 3) pixels, not clipped."""
        side = self.grid_size
        codes = codes_BTD.transpose(1, 2).reshape(len(codes_BTD), -1, side, side).contiguous()
        return pixels(F.pixel_shuffle(self.decoder(codes), self.patch_size))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NUM_GROUPS, channels, eps=1e-6)
