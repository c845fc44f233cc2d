"""ImageKl: an image as a few Gaussians, and back, beside its caption.

The KL form of TA-TiTok (Kim et al., arXiv 2501.07730): its two halves without a codebook. Array
names are those of ``models/latents.py``; ``D`` are the numbers of a latent.

>>> network = ImageKl(
...     image_size=8, patch_size=4, num_latents=3, latent_size=2, width=8, depth=1, num_heads=2,
...     text_dim=4, text_length=2,
... )
>>> found = network.encode(torch.zeros(5, 8, 8, 3))
>>> tuple(found.mean.shape), tuple(network.decode(found.mean).shape)
((5, 3, 2), (5, 8, 8, 3))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from imagegram.models.gaussians import Gaussians
from imagegram.models.hub import HubNetwork
from imagegram.models.latents import Encoder, PixelHead, TextDecoder, cut_patches, waves


class ImageKl(HubNetwork):
    """An encoder of images to Gaussians, and a decoder that reads captions beside latents.

    Args:
        image_size: side of the images in pixels, S.
        patch_size: side of a patch in pixels.
        num_latents: latents of an image, K.
        latent_size: numbers of a latent, D.
        width, depth, num_heads: of both transformers.
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
        padded_text: see :class:`imagegram.models.text_positions.TextPositions`.
        encoder_width, encoder_depth, encoder_heads: of the transformer that reads, where it is of
            another size.
    """

    FAMILY = "image_kl"

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_latents: int,
        latent_size: int,
        width: int,
        depth: int,
        num_heads: int,
        text_dim: int,
        text_length: int,
        padded_text: bool = False,
        encoder_width: int | None = None,
        encoder_depth: int | None = None,
        encoder_heads: int | None = None,
    ) -> None:
        super().__init__()
        self.image_size, self.patch_size = image_size, patch_size
        sizes: dict[str, Any] = {"width": width, "depth": depth, "num_heads": num_heads}
        places: dict[str, Any] = {
            "num_patches": (image_size // patch_size) ** 2,
            "num_latents": num_latents,
        }
        self.encoder = Encoder(
            patch_pixels=3 * patch_size**2,
            code_dim=2 * latent_size,
            legacy=False,
            standardized=False,
            width=encoder_width or width,
            depth=encoder_depth or depth,
            num_heads=encoder_heads or num_heads,
            **places,
        )
        self.decoder = TextDecoder(
            code_dim=latent_size,
            text_dim=text_dim,
            text_length=text_length,
            padded_text=padded_text,
            **places,
            **sizes,
        )
        self.head = PixelHead(width=width, patch_size=patch_size)

    def begin(self) -> None:
        """Let positions be waves, and the last layer change nothing, as TiTok does."""
        with torch.no_grad():
            for half in (self.encoder, self.decoder):
                half.positions[1:] = waves(len(half.positions) - 1, half.positions.shape[1])
        nn.init.dirac_(self.head.smooth.weight)

    def encode(self, images_BSSC: Tensor) -> Gaussians:
        """Return the (B, K, D) Gaussians of (B, S, S, 3) images in -1 ... 1."""
        return Gaussians.of(self.encoder(cut_patches(2 * images_BSSC, self.patch_size)))

    def decode(
        self, latents_BKD: Tensor, states_BLD: Tensor | None = None, there_BL: Tensor | None = None
    ) -> Tensor:
        """Return (B, S, S, 3) pixels, not clipped, of latents and captions; see ``TextDecoder``."""
        painted: Tensor = self.head(self.decoder(latents_BKD, states_BLD, there_BL))
        return painted
