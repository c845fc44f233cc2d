"""TaTiTok: a TiTok whose decoder reads a text behind the codes.

After Kim et al., "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware
One-Dimensional Tokens" (arXiv 2501.07730). The ids are made of the image alone.

>>> import torch
>>> network = TaTiTok(
...     image_size=8, patch_size=4, num_latents=3, encoder_width=8, encoder_depth=1,
...     encoder_heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2, vocab_size=5,
...     code_dim=4, normalized=True, levels=(), text_dim=6, text_length=2,
... )
>>> ids = network.ids(torch.zeros(2, 8, 8, 3))
>>> tuple(network.paint(ids, torch.ones(2, 2, 6), torch.ones(2, 2).bool()).shape)
(2, 8, 8, 3)
"""

from __future__ import annotations

from typing import Any

from imagegram.models.latents import TextDecoder
from imagegram.tokenizers.titok.model import TiTok


class TaTiTok(TiTok):
    """Encoder, quantizer and a decoder that reads texts: ``paint(ids, states, there)``.

    Args:
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a text.
        padded_text: see :class:`imagegram.models.text_positions.TextPositions`.
        sizes: as of :class:`TiTok`.
    """

    FAMILY = "ta_titok"

    def __init__(
        self, *, text_dim: int, text_length: int, padded_text: bool = False, **sizes: Any
    ) -> None:
        super().__init__(**sizes)
        self.decoder = TextDecoder(
            text_dim=text_dim,
            text_length=text_length,
            padded_text=padded_text,
            num_patches=(sizes["image_size"] // sizes["patch_size"]) ** 2,
            num_latents=sizes["num_latents"],
            code_dim=sizes["code_dim"],
            width=sizes["decoder_width"],
            depth=sizes["decoder_depth"],
            num_heads=sizes["decoder_heads"],
        )
