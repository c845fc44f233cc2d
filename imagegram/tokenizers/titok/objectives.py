"""The objectives of TiTok's two stages: codes of another autoencoder, then pixels.

Stage 1: the codes that a convolutional autoencoder gives to the patches are predicted. Stage 2:
encoder and codebook stay as they are, and what paints learns from pixels: squared error, LPIPS, and
a discriminator. Losses and networks are in ``training.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from imagegram.errors import ConfigError, require_bounds
from imagegram.models.lpips_weights import LEAST_SIDE
from imagegram.tokenizers.conv_vq.tokenizer import ConvVqTokenizer
from imagegram.tokenizers.reconstruction import Reconstruction
from imagegram.tokenizers.titok.tokenizer import TiTokTokenizer

if TYPE_CHECKING:
    from imagegram.tokenizers.titok.training import CodesModule, PaintingModule


@dataclass(frozen=True, kw_only=True)
class Codes(Reconstruction):
    """The objective of stage 1.

    Attributes:
        conv: the autoencoder whose codes are predicted; in a training it has its weights.
        architecture, quantizer, flips: as in :class:`Reconstruction`.
    """

    VERSION: ClassVar[int] = 1

    conv: ConvVqTokenizer

    def module(self) -> CodesModule:
        """Build the networks with their loss."""
        from imagegram.tokenizers.titok.training import CodesModule

        return CodesModule(self)


@dataclass(frozen=True, kw_only=True)
class PaintingLoss:
    """Fields ``tokenizer.loss``: weights of the parts of the loss of stage 2, and a discriminator.

    Attributes:
        l2: of the squared error of pixels in 0 ... 1.
        lpips: of LPIPS (``models/lpips.py``); 0: its weights are not needed.
        lpips_network: ``alexnet`` or ``vgg16``, which takes many times longer.
        adversarial: of what a discriminator thinks of the pictures; 0: there is none.
        adversarial_start: the step at which the discriminator begins, to learn and to count.
        lecam: in the loss of the discriminator, of the distance to its own averages (LeCam
            regularization).
        discriminator_channels: features of its first convolution; they double with each.
        discriminator_depth: its convolutions, each of which halves the side.
    """

    VERSION: ClassVar[int] = 1

    l2: float = 1.0
    lpips: float = 0.0
    lpips_network: str = "alexnet"
    adversarial: float = 0.01
    adversarial_start: int = 0
    lecam: float = 0.001
    discriminator_channels: int = 32
    discriminator_depth: int = 3

    def check(self, *, image_size: int) -> None:
        """Refuse weights that are none, and a discriminator that no image is large enough for.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        deepest = int(math.log2(image_size)) - 1
        bounds = {
            "l2": (0, math.inf),
            "lpips": (0, math.inf),
            "adversarial": (0, math.inf),
            "adversarial_start": (0, math.inf),
            "lecam": (0, math.inf),
            "discriminator_channels": (1, math.inf),
            "discriminator_depth": (1, deepest),
        }
        require_bounds(self, bounds, prefix="tokenizer.loss.")
        if self.lpips and image_size < LEAST_SIDE:
            raise ConfigError(
                f"tokenizer.loss.lpips={self.lpips} needs images of {LEAST_SIDE} pixels at least, "
                f"got tokenizer.image_size={image_size}; type tokenizer.loss.lpips=0"
            )


@dataclass(frozen=True, kw_only=True)
class Painting(Reconstruction):
    """The objective of stage 2.

    Attributes:
        start: the tokenizer of stage 1; in a training it has its weights.
        loss: weights of the parts of the loss.
        architecture, quantizer, flips: as in :class:`Reconstruction`.
    """

    VERSION: ClassVar[int] = 1

    start: TiTokTokenizer
    loss: PaintingLoss

    def module(self) -> PaintingModule:
        """Build the networks with their loss."""
        from imagegram.tokenizers.titok.training import PaintingModule

        return PaintingModule(self)
