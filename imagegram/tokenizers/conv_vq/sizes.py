"""Sizes of the convolutional autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from imagegram.errors import ConfigError
from imagegram.tokenizers.sizes import NetworkSizes, check_positive

if TYPE_CHECKING:
    from imagegram.tokenizers.conv_vq.model import ConvVq


@dataclass(frozen=True, kw_only=True)
class ConvSizes(NetworkSizes):
    """Sizes of the network; they are written beside its weights.

    Attributes:
        image_size: side of the images in pixels.
        patch_size: side of the patches that the first layer sees, and the last one paints.
        channels: features of a place, a multiple of 32.
        multipliers: of ``channels``, by resolution, the finest first; each halves the side.
        num_blocks: residual blocks of a resolution.
        vocab_size, code_dim, normalized, levels: of the quantizer, see ``quantization.py``.
    """

    METADATA: ClassVar[str] = "conv_vq"

    patch_size: int
    channels: int
    multipliers: tuple[int, ...]
    num_blocks: int
    vocab_size: int
    code_dim: int
    normalized: bool
    levels: tuple[int, ...]

    @property
    def grid_size(self) -> int:
        """Side of the grid in tokens."""
        return self.image_size // self._cell

    @property
    def _cell(self) -> int:
        """Side of a token's place in pixels."""
        return self.patch_size << (len(self.multipliers) - 1)

    def check(self) -> None:
        """Refuse sizes that a network cannot have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        check_positive(self)
        if not self.multipliers or min(self.multipliers) < 1:
            raise ConfigError(
                f"tokenizer.multipliers={list(self.multipliers)} must be whole numbers, one a "
                "resolution, the finest first; type for example tokenizer.multipliers=[1,2]"
            )
        if self.channels % 32:
            raise ConfigError(
                f"tokenizer.channels={self.channels} must be a multiple of 32; type "
                f"tokenizer.channels={max(32, self.channels // 32 * 32)}"
            )
        if self.image_size % self._cell:
            raise ConfigError(
                f"tokenizer.patch_size={self.patch_size} halved {len(self.multipliers) - 1} times "
                f"makes places of {self._cell} pixels, which must divide tokenizer.image_size="
                f"{self.image_size}"
            )

    def network(self) -> type[ConvVq]:
        """Return the class of the network."""
        from imagegram.tokenizers.conv_vq.model import ConvVq

        return ConvVq
