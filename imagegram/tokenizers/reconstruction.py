"""The objective of autoencoders with a quantizer: reconstruct images from their own codes.

The loss of an image is the mean squared error of its pixels in 0 ... 1, and, where there is a
codebook, the distance between vectors and codes. The networks and the loss are in
``reconstruction_training.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.images.views import mirror_half
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.sizes import NetworkSizes

if TYPE_CHECKING:
    from imagegram.tokenizers.reconstruction_training import ReconstructionModule


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """The objective of an autoencoder with a quantizer.

    Attributes:
        architecture: sizes of the network.
        quantizer: how its codes are learned.
        flips: mirror half of the images.
    """

    VERSION: ClassVar[int] = 1

    architecture: NetworkSizes
    quantizer: Quantization
    flips: bool

    def module(self) -> ReconstructionModule:
        """Build the network with its loss."""
        from imagegram.tokenizers.reconstruction_training import ReconstructionModule

        return ReconstructionModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return (B, S, S, 3) uint8 images, some mirrored."""
        if self.flips:
            mirror_half(items, rng)
        return (items,)
