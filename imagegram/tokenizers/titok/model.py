"""TiTok: learned latents read an image, and become its tokens; their order says nothing.

After Yu et al., "An Image is Worth 32 Tokens for Reconstruction and Generation" (arXiv 2406.07550).

* The image becomes patches. K learned latents join them, and one class vector, in a plain pre-norm
  transformer in which all see all. Every latent is then projected to a vector, and becomes one id.
* A second transformer reads the codes and one learned query for every patch, and paints pixels.

The structure is that of the published networks, so their weights fit.

Array names: ``B`` images, ``S`` side in pixels, ``P`` patches, ``K`` latents (tokens), ``D``
numbers of a code, ``W`` width.

>>> import torch
>>> network = TiTok(
...     image_size=8, patch_size=4, num_latents=3, encoder_width=8, encoder_depth=1,
...     encoder_heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2, vocab_size=5,
...     code_dim=4, normalized=True, levels=(),
... )
>>> ids = network.ids(torch.zeros(2, 8, 8, 3))
>>> tuple(ids.shape), tuple(network.paint(ids).shape)
((2, 3), (2, 8, 8, 3))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.clusters import Devices
from imagegram.models.latents import Decoder, Encoder, PixelHead, cut_patches, waves
from imagegram.models.pictures import pixels
from imagegram.models.transformer import Head
from imagegram.tokenizers.autoencoder import Autoencoder
from imagegram.tokenizers.conv_vq.model import Decoder as ConvDecoder


class CodeHead(nn.Module):
    """Features of patches to codes of a convolutional autoencoder, which its decoder paints.

    A patch becomes the mean of all codes, weighted by their probability.

    Args:
        width: features of a patch, W.
        proxy: sizes of the autoencoder, see ``ConvSizes``.
    """

    def __init__(self, *, width: int, proxy: Mapping[str, Any]) -> None:
        super().__init__()
        vocab_size, code_dim, channels = (
            proxy[name] for name in ("vocab_size", "code_dim", "channels")
        )
        self.hidden = nn.Linear(width, 2 * width)
        self.to_logits = Head(2 * width, vocab_size)
        self.vectors = nn.Parameter(torch.empty(vocab_size, code_dim))
        self.patch_size = proxy["patch_size"]
        self.decoder = ConvDecoder(
            patch_pixels=3 * self.patch_size**2,
            widths=[channels * multiplier for multiplier in proxy["multipliers"]],
            num_blocks=proxy["num_blocks"],
            code_dim=code_dim,
        )

    def forward(self, features_BPW: Tensor) -> Tensor:
        """Return (B, S, S, 3) pixels."""
        return self.paint(self.logits(features_BPW))

    def logits(self, features_BPW: Tensor) -> Tensor:
        """Return (B, P, V) logits of the codes of every patch."""
        out: Tensor = self.to_logits(torch.tanh(self.hidden(features_BPW)))
        return out

    def paint(self, logits_BPV: Tensor) -> Tensor:
        """Return (B, S, S, 3) pixels of the expected codes."""
        codes = logits_BPV.float().softmax(dim=-1) @ self.vectors
        side = round(codes.shape[1] ** 0.5)
        planes_BDGG = codes.transpose(1, 2).reshape(len(codes), -1, side, side).contiguous()
        return pixels(F.pixel_shuffle(self.decoder(planes_BDGG), self.patch_size))


class TiTok(Autoencoder):
    """Encoder, quantizer and decoder.

    Args:
        image_size: side of the images in pixels, S.
        patch_size: side of a patch in pixels; divides ``image_size``.
        num_latents: tokens of an image, K.
        encoder_width, encoder_depth, encoder_heads: of the transformer that reads.
        decoder_width, decoder_depth, decoder_heads: of the transformer that paints.
        legacy: mix the channels of all latents before they become tokens.
        standardized: standardize the vectors of every latent, see ``standardization.py``.
        proxy: sizes of the autoencoder whose codes are painted, see ``ConvSizes``; None: pixels.
        quantizer: the sizes of the quantizer, see :class:`Autoencoder`.
    """

    FAMILY = "titok"

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_latents: int,
        encoder_width: int,
        encoder_depth: int,
        encoder_heads: int,
        decoder_width: int,
        decoder_depth: int,
        decoder_heads: int,
        legacy: bool = False,
        standardized: bool = False,
        proxy: Mapping[str, Any] | None = None,
        **quantizer: Any,
    ) -> None:
        super().__init__(image_size=image_size, num_tokens=num_latents, **quantizer)
        self.patch_size = patch_size
        sizes: dict[str, int] = {
            "num_patches": (image_size // patch_size) ** 2,
            "num_latents": num_latents,
            "code_dim": quantizer["code_dim"],
        }
        self.encoder = Encoder(
            **sizes,
            patch_pixels=3 * patch_size**2,
            width=encoder_width,
            depth=encoder_depth,
            num_heads=encoder_heads,
            legacy=legacy,
            standardized=standardized,
        )
        self.decoder = Decoder(
            **sizes, width=decoder_width, depth=decoder_depth, num_heads=decoder_heads
        )
        self.head: PixelHead | CodeHead = (
            PixelHead(width=decoder_width, patch_size=patch_size)
            if proxy is None
            else CodeHead(width=decoder_width, proxy=proxy)
        )

    def begin(self) -> None:
        """Let positions be waves, so that neighbours are alike; let the last layer change nothing.

        With positions that are drawn, the first hundreds of steps find out what lies beside what.
        Codes of length one are enlarged, as their numbers are small beside positions.
        """
        with torch.no_grad():
            if getattr(self.quantizer, "normalized", False):
                self.decoder.embed_codes.weight *= self.decoder.embed_codes.in_features**0.5
            for half in (self.encoder, self.decoder):
                waves_PW = waves(len(half.positions) - 1, half.positions.shape[1])
                half.positions[1:] = waves_PW
        if isinstance(self.head, PixelHead):
            nn.init.dirac_(self.head.smooth.weight)

    def move(self, decay: float, devices: Devices) -> None:
        """Move the moments of the latents after a step."""
        if self.encoder.standardizer is not None:
            self.encoder.standardizer.move(decay, devices)

    def encode(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) float images as (B, K, D) vectors, not yet codes."""
        # Twice the pixels: beside positions of deviation one, what an image shows is faint.
        vectors: Tensor = self.encoder(cut_patches(2 * images_BSSC, self.patch_size))
        return vectors

    def decode(self, codes_BTD: Tensor, *beside: Tensor) -> Tensor:
        """Decode (B, K, D) codes to (B, S, S, 3) pixels, not clipped."""
        painted: Tensor = self.head(self.decoder(codes_BTD, *beside))
        return painted
