"""Sizes of TiTok's network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from imagegram.errors import ConfigError
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT
from imagegram.tokenizers.conv_vq.sizes import ConvSizes
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
        legacy: mix the channels of all latents before they become tokens, as the first published
            weights do by mistake.
        standardized: standardize the vectors of every latent, see ``standardization.py``.
        proxy: a convolutional autoencoder whose codes are predicted for every patch, and painted by
            its decoder; None: pixels are painted directly.
    """

    METADATA: ClassVar[str] = "titok"
    #: 2: positions begin as waves, codes of length one are enlarged.
    VERSION: ClassVar[int] = 2

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
    legacy: bool = field(default=False, metadata=NOT_IDENTITY_AT_DEFAULT)
    standardized: bool = field(default=False, metadata=NOT_IDENTITY_AT_DEFAULT)
    proxy: ConvSizes | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Read the sizes of the proxy, which the header of a checkpoint gives as a mapping."""
        object.__setattr__(self, "proxy", proxy_sizes(self.proxy))

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
        if self.proxy is None:
            return
        self.proxy.check()
        grid_size = self.image_size // self.patch_size
        if (self.proxy.image_size, self.proxy.grid_size) != (self.image_size, grid_size):
            fitting = self.proxy.image_size // self.proxy.grid_size
            raise ConfigError(
                f"tokenizer.proxy has {self.proxy.grid_size} x {self.proxy.grid_size} codes of an "
                f"image of {self.proxy.image_size} pixels, but there are {grid_size} x {grid_size} "
                f"patches of {self.image_size} pixels; type tokenizer.patch_size={fitting} "
                f"tokenizer.image_size={self.proxy.image_size}"
            )

    def network(self) -> type[TiTok]:
        """Return the class of the network."""
        from imagegram.tokenizers.titok.model import TiTok

        return TiTok


def proxy_sizes(given: Any) -> ConvSizes | None:
    """Return the sizes of a proxy that are given as such, as a mapping, or not at all.

    Raises:
        ConfigError: for a mapping of other names.
    """
    if not isinstance(given, Mapping):
        return cast("ConvSizes | None", given)
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    names = {item.name for item in dataclasses.fields(ConvSizes)}
    if values.keys() != names:
        wrong = ", ".join(sorted(values.keys() ^ names))
        raise ConfigError(
            f"tokenizer.proxy: {wrong} are missing or too many; it needs {', '.join(sorted(names))}"
        )
    return ConvSizes(**values)
