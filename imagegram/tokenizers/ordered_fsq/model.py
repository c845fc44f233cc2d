"""An autoencoder of ordered tokens: registers read an image, the first ones its coarse content.

After Bachmann et al., "FlexTok: Resampling Images into 1D Token Sequences of Flexible Length"
(arXiv 2502.13967), made small: it reads pixels, and its decoder is deterministic.

* The image becomes patches. R learned registers join them in a transformer in which patches see
  patches, and a register sees all patches and the registers before it: token i does not depend on
  the tokens after it.
* Every register becomes a few numbers, rounded to one id (``quantizers.py``).
* In training only the first k registers of an image are kept, k drawn anew for each; the others are
  replaced by one learned vector (nested dropout). So what matters most has to come first, and any
  prefix can be decoded.
* A second transformer reads registers and one learned query a patch, and gives pixels.

Array names: ``B`` images, ``S`` side in pixels, ``P`` patches, ``R`` registers, ``D`` digits of an
id, ``W`` width. Pixels are in -1 ... 1.

>>> network = OrderedFsq(
...     image_size=8, patch_size=4, num_registers=3, levels=(5, 5), width=8,
...     encoder_depth=1, decoder_depth=1, num_heads=2,
... )
>>> ids = network.ids(torch.zeros(2, 8, 8, 3))
>>> tuple(ids.shape), tuple(network.paint(ids[:, :2]).shape)
((2, 3), (2, 8, 8, 3))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imagegram.models.hub import HubNetwork
from imagegram.models.quantizers import FiniteScalarQuantizer
from imagegram.models.transformer import Head, Transformer


class OrderedFsq(HubNetwork):
    """Encoder, quantizer and decoder.

    Args:
        image_size: side of the images in pixels, S.
        patch_size: side of a patch in pixels; divides ``image_size``.
        num_registers: tokens of an image, R.
        levels: of each digit of an id, D of them.
        width: features of a position, W.
        encoder_depth: blocks of the encoder.
        decoder_depth: blocks of the decoder.
        num_heads: attention heads of both; divides ``width``.
    """

    mask: Tensor

    FAMILY = "ordered_fsq"

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_registers: int,
        levels: Sequence[int],
        width: int,
        encoder_depth: int,
        decoder_depth: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.image_size, self.patch_size = image_size, patch_size
        self.num_patches = (image_size // patch_size) ** 2
        self.num_tokens = self.num_registers = num_registers
        patch_pixels = 3 * patch_size**2

        self.embed_patches = nn.Linear(patch_pixels, width)
        self.patch_positions = nn.Parameter(torch.empty(self.num_patches, width))
        self.registers = nn.Parameter(torch.empty(num_registers, width))
        self.encoder = Transformer(width=width, depth=encoder_depth, num_heads=num_heads)
        self.to_digits = nn.Linear(width, len(levels))
        self.quantizer = FiniteScalarQuantizer(levels)

        self.embed_codes = nn.Linear(len(levels), width)
        self.dropped = nn.Parameter(torch.empty(width))
        self.register_positions = nn.Parameter(torch.empty(num_registers, width))
        self.queries = nn.Parameter(torch.empty(self.num_patches, width))
        self.decoder = Transformer(width=width, depth=decoder_depth, num_heads=num_heads)
        self.to_pixels = Head(width, patch_pixels)
        mask = encoder_mask(self.num_patches, num_registers)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images_BSSC: Tensor, keep_B: Tensor) -> Tensor:
        """Reconstruct images from the first ``keep_B`` of their own codes.

        Args:
            images_BSSC: (B, S, S, 3) float.
            keep_B: (B,) integers 1 ... R.

        Returns:
            (B, S, S, 3), not clipped.
        """
        return self.decode(self.encode(images_BSSC), keep_B)

    def encode(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) float images as (B, R, D) float32 codes in [-1, 1]."""
        patches = self.embed_patches(self._patches(images_BSSC)) + self.patch_positions
        registers = self.registers.expand(len(images_BSSC), -1, -1)
        read = self.encoder(torch.cat((patches, registers), dim=1), self.mask)
        codes: Tensor = self.quantizer(self.to_digits(read[:, self.num_patches :]))
        return codes

    def decode(self, codes_BRD: Tensor, keep_B: Tensor) -> Tensor:
        """Decode the first ``keep_B`` (B,) of (B, R, D) codes to (B, S, S, 3) pixels."""
        ranks = torch.arange(self.num_registers, device=codes_BRD.device)
        kept = (ranks < keep_B[:, None])[..., None]
        read = torch.where(kept, self.embed_codes(codes_BRD), self.dropped)
        queries = self.queries.expand(len(codes_BRD), -1, -1)
        both = torch.cat((read + self.register_positions, queries), dim=1)
        return self._image(self.to_pixels(self.decoder(both)[:, self.num_registers :]))

    def ids(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) float images as (B, R) int64 ids."""
        return self.quantizer.ids(self.encode(images_BSSC))

    def paint(self, ids_BK: Tensor) -> Tensor:
        """Decode (B, K) ids, the first K of R, to (B, S, S, 3) pixels, not clipped."""
        length = ids_BK.shape[1]
        codes = self.quantizer.codes(ids_BK)
        rest = codes.new_zeros(len(codes), self.num_registers - length, codes.shape[2])
        keep_B = torch.full((len(codes),), length, device=codes.device)
        return self.decode(torch.cat((codes, rest), dim=1), keep_B)

    def _patches(self, images: Tensor) -> Tensor:
        """Cut (B, S, S, 3) images into (B, P, pixels of a patch)."""
        side, size = self.image_size // self.patch_size, self.patch_size
        cut = images.reshape(-1, side, size, side, size, 3).transpose(2, 3)
        return cut.reshape(-1, self.num_patches, 3 * size**2)

    def _image(self, patches: Tensor) -> Tensor:
        """Join (B, P, pixels of a patch) to (B, S, S, 3) images."""
        side, size = self.image_size // self.patch_size, self.patch_size
        pieces = patches.reshape(-1, side, side, size, size, 3).transpose(2, 3)
        return pieces.reshape(-1, self.image_size, self.image_size, 3)


def encoder_mask(num_patches: int, num_registers: int) -> Tensor:
    """Return the (P + R, P + R) attention mask: True where a row sees a column; patches first.

    >>> encoder_mask(1, 2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    length = num_patches + num_registers
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    mask[:num_patches, :num_patches] = True
    return mask
