"""A set of tokens: latents of a vision transformer with a codebook, trained by the run.

    python -m imagegram.run tokenizer=titok_tiny
    python -m imagegram.run tokenizer=titok generator=ar corpus=tiny_imagenet_20 paths.data=DATA
    python -m imagegram.run tokenizer=titok tokenizer.checkpoint=FOLDER/model.safetensors

The tokens have no order and no places: token k is what latent k has read, so tokens at the same
position of two images compare, but no prefix is an image and no token has neighbours. The network
is ``model.py``; objective and training are those of ``tokenizers/reconstruction.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from imagegram.layout import TokenLayout
from imagegram.models.published import titok_weights
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.tokenizers.conv_vq.sizes import ConvSizes
from imagegram.tokenizers.learned import MINUTES
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.quantized import QuantizedTokenizer
from imagegram.tokenizers.sizes import NetworkSizes
from imagegram.tokenizers.titok.sizes import TiTokSizes, proxy_sizes
from imagegram.training.optimization import Optimization

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.models.checkpoints import Shapes

_QUANTIZER: Final = Quantization(
    vocab_size=1024, dim=12, normalized=True, commitment=0.05, decay=0.95, revive_below=0.2
)


@dataclass(frozen=True, kw_only=True)
class TiTokTokenizer(QuantizedTokenizer):
    """A tokenizer whose tokens are latents, without order and without places.

    Attributes:
        patch_size, num_latents, encoder_width, encoder_depth, encoder_heads, decoder_width,
            decoder_depth, decoder_heads, legacy, standardized, proxy: as in :class:`TiTokSizes`; a
            checkpoint brings its own, which count.
        quantizer: how vectors become ids, and how that is learned.
        name, image_size, flips, optimization, trainer, checkpoint, device, batch_size, dtype,
            compile, hash_cache: as in :class:`LearnedTokenizer`.
    """

    VERSION: ClassVar[int] = 1
    TAKES_PUBLISHED: ClassVar[bool] = True
    SIZES: ClassVar[type[NetworkSizes]] = TiTokSizes

    name: str = field(default="titok", metadata=NOT_IDENTITY)
    patch_size: int = 8
    num_latents: int = 32
    encoder_width: int = 128
    encoder_depth: int = 3
    encoder_heads: int = 2
    decoder_width: int = 128
    decoder_depth: int = 3
    decoder_heads: int = 2
    legacy: bool = False
    standardized: bool = True
    proxy: ConvSizes | None = None
    quantizer: Quantization = _QUANTIZER
    optimization: Optimization = MINUTES

    def __post_init__(self) -> None:
        """Read the sizes of the proxy; see :class:`QuantizedTokenizer`."""
        object.__setattr__(self, "proxy", proxy_sizes(self.proxy))
        super().__post_init__()
        object.__setattr__(self, "proxy", proxy_sizes(self.proxy))

    @property
    def layout(self) -> TokenLayout:
        """A sequence whose order says nothing."""
        levels = self.quantizer.sizes()["levels"]
        return TokenLayout.sequence(self.num_latents, order="none", digits=levels)

    def taken_over(self, tensors: dict[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
        """Return published weights under our names; see ``models/published.py``."""
        return titok_weights(tensors, expected)
