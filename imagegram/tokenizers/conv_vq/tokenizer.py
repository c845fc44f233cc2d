"""A grid of tokens: a small convolutional autoencoder with a codebook, trained by the run.

    python -m imagegram.run tokenizer=conv_vq_tiny
    python -m imagegram.run tokenizer=conv_vq corpus=tiny_imagenet_20 paths.data=DATA
    python -m imagegram.run tokenizer=conv_vq tokenizer.quantizer.kind=fsq
    python -m imagegram.run tokenizer=conv_vq tokenizer.checkpoint=FOLDER/model.safetensors

A token is a place of the picture, so what needs places and neighbours works on them. The network
is ``model.py``; objective and training are those of ``tokenizers/reconstruction.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from imagegram.layout import TokenLayout
from imagegram.models.published import vqgan_weights
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.tokenizers.conv_vq.sizes import ConvSizes
from imagegram.tokenizers.learned import MINUTES
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.quantized import QuantizedTokenizer
from imagegram.tokenizers.sizes import NetworkSizes
from imagegram.training.optimization import Optimization

if TYPE_CHECKING:
    from torch import Tensor

    from imagegram.models.checkpoints import Shapes

_QUANTIZER: Final = Quantization(vocab_size=512, dim=16, normalized=False, commitment=0.02)


@dataclass(frozen=True, kw_only=True)
class ConvVqTokenizer(QuantizedTokenizer):
    """A tokenizer whose tokens are the places of one level, in raster order.

    Attributes:
        patch_size, channels, multipliers, num_blocks: as in :class:`ConvSizes`; a checkpoint
            brings its own, which count.
        quantizer: how vectors become ids, and how that is learned.
        name, image_size, flips, optimization, trainer, checkpoint, device, batch_size, dtype,
            compile, hash_cache: as in :class:`LearnedTokenizer`.
    """

    VERSION: ClassVar[int] = 1
    TAKES_PUBLISHED: ClassVar[bool] = True
    SIZES: ClassVar[type[NetworkSizes]] = ConvSizes

    name: str = field(default="conv_vq", metadata=NOT_IDENTITY)
    patch_size: int = 4
    channels: int = 64
    multipliers: tuple[int, ...] = (1,)
    num_blocks: int = 1
    quantizer: Quantization = _QUANTIZER
    optimization: Optimization = MINUTES

    @property
    def layout(self) -> TokenLayout:
        """One level of places; digits are those of a quantizer that rounds."""
        side = self.sizes.grid_size
        return TokenLayout(
            heights=(side,), widths=(side,), num_channels=1, digits=self.sizes.levels
        )

    @property
    def sizes(self) -> ConvSizes:
        """Sizes of the network."""
        sizes = self.architecture
        assert isinstance(sizes, ConvSizes)
        return sizes

    def taken_over(self, tensors: dict[str, Tensor], expected: Shapes) -> dict[str, Tensor]:
        """Return published weights under our names; see ``models/published.py``."""
        return vqgan_weights(tensors, expected)
