"""Sizes of the ordered autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from imagegram.tokenizers.quantization import check_levels
from imagegram.tokenizers.sizes import NetworkSizes, check_divides, check_positive

if TYPE_CHECKING:
    from imagegram.tokenizers.ordered_fsq.model import OrderedFsq

#: Key of the sizes of the network in the metadata of a weights file.
METADATA: Final = "ordered_fsq"


@dataclass(frozen=True, kw_only=True)
class Architecture(NetworkSizes):
    """Sizes of the network; they are written beside its weights.

    Attributes:
        image_size: side of the images in pixels.
        patch_size: side of a patch in pixels; divides ``image_size``.
        num_registers: tokens of an image.
        levels: values of every digit of an id, the least significant first.
        width: features of a position.
        encoder_depth, decoder_depth: blocks.
        num_heads: divides ``width``.
    """

    METADATA: ClassVar[str] = METADATA

    patch_size: int
    num_registers: int
    levels: tuple[int, ...]
    width: int
    encoder_depth: int
    decoder_depth: int
    num_heads: int

    def check(self) -> None:
        """Refuse sizes that a network cannot have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        check_positive(self)
        check_divides(self, ("image_size", "patch_size"), ("width", "num_heads"))
        check_levels(self.levels, setting="tokenizer.levels")

    def network(self) -> type[OrderedFsq]:
        """Return the class of the network."""
        from imagegram.tokenizers.ordered_fsq.model import OrderedFsq

        return OrderedFsq
