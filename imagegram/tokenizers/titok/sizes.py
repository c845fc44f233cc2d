"""Sizes of TiTok's network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from imagegram.tokenizers.sizes import NetworkSizes, check_divides, check_positive

if TYPE_CHECKING:
    from imagegram.tokenizers.titok.model import TiTok


@dataclass(frozen=True, kw_only=True)
class TiTokSizes(NetworkSizes):
    """Sizes of the network; they are written beside its weights.

    Attributes:
        image_size: side of the images in pixels.
        patch_size: side of a patch in pixels; divides ``image_size``.
        num_latents: tokens of an image.
        encoder_width, decoder_width: features of a position.
        encoder_depth, decoder_depth: blocks.
        encoder_heads, decoder_heads: attention heads; each divides its width.
        vocab_size, code_dim, normalized, levels: of the quantizer, see ``quantization.py``.
    """

    METADATA: ClassVar[str] = "titok"

    patch_size: int
    num_latents: int
    encoder_width: int
    encoder_depth: int
    encoder_heads: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    vocab_size: int
    code_dim: int
    normalized: bool
    levels: tuple[int, ...]

    def check(self) -> None:
        """Refuse sizes that a network cannot have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        check_positive(self)
        check_divides(
            self,
            ("image_size", "patch_size"),
            ("encoder_width", "encoder_heads"),
            ("decoder_width", "decoder_heads"),
        )

    def network(self) -> type[TiTok]:
        """Return the class of the network."""
        from imagegram.tokenizers.titok.model import TiTok

        return TiTok
