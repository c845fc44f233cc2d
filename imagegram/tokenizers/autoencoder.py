"""Autoencoder: the network of a tokenizer whose tokens are codes of a quantizer.

A family implements the two halves; between them every vector becomes a code and an id.

Array names: ``B`` images, ``S`` side in pixels, ``T`` tokens of an image, ``D`` numbers of a code.
Pixels are in -1 ... 1.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from imagegram.models.clusters import Devices
from imagegram.models.codebooks import Codebook, Quantized
from imagegram.models.hub import HubNetwork
from imagegram.models.quantizers import FiniteScalarQuantizer


class Autoencoder(HubNetwork):
    """Encoder, quantizer and decoder.

    Args:
        image_size: side of the images in pixels, S.
        num_tokens: tokens of an image, T.
        vocab_size, code_dim, normalized, levels: of the quantizer, see ``quantization.py``.
    """

    def __init__(
        self,
        *,
        image_size: int,
        num_tokens: int,
        vocab_size: int,
        code_dim: int,
        normalized: bool,
        levels: Sequence[int],
    ) -> None:
        super().__init__()
        self.image_size, self.num_tokens = image_size, num_tokens
        self.quantizer: Codebook | FiniteScalarQuantizer = (
            FiniteScalarQuantizer(levels)
            if levels
            else Codebook(vocab_size=vocab_size, dim=code_dim, normalized=normalized)
        )

    # ------------------------------------------------------------------- implemented by a family

    def encode(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) float images as (B, T, D) vectors, not yet codes."""
        raise NotImplementedError

    def decode(self, codes_BTD: Tensor, *beside: Tensor) -> Tensor:
        """Decode (B, T, D) codes to (B, S, S, 3) pixels, not clipped; see :meth:`paint`."""
        raise NotImplementedError

    def begin(self) -> None:
        """Set those fresh weights that are not drawn."""

    def move(self, decay: float, devices: Devices) -> None:
        """Move after a step what no optimizer moves, besides the codes.

        Args:
            decay: of moving averages.
            devices: those that share the batch.
        """

    # ------------------------------------------------------------------------- used by all others

    def forward(self, images_BSSC: Tensor, *beside: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruct (B, S, S, 3) float images from their codes, which are returned too.

        What the decoder of a family reads beside the codes is given behind the images.
        """
        found = self.quantized(images_BSSC)
        return self.decode(found.codes, *beside), found

    def quantized(self, images_BSSC: Tensor) -> Quantized:
        """Encode (B, S, S, 3) float images as T vectors each, with the codes that replace them."""
        found: Quantized = self.quantizer.quantize(self.encode(images_BSSC))
        return found

    def ids(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) float images as (B, T) int64 ids."""
        return self.quantized(images_BSSC).ids

    def paint(self, ids_BT: Tensor, *beside: Tensor) -> Tensor:
        """Decode (B, T) ids to (B, S, S, 3) pixels, not clipped.

        Args:
            ids_BT: ids.
            beside: what the decoder of a family reads beside the codes.
        """
        return self.decode(self.quantizer.codes(ids_BT), *beside)
