"""The objective of TA-TiTok: reconstruct images from their codes and their captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.tokenizers.reconstruction import Reconstruction
from imagegram.training.captions import dropped, parted, trimmed

if TYPE_CHECKING:
    from imagegram.tokenizers.ta_titok.training import CaptionedModule


@dataclass(frozen=True, kw_only=True)
class CaptionedReconstruction(Reconstruction):
    """The objective of an autoencoder whose decoder reads captions.

    Attributes:
        caption_dropout: share of the images whose caption is hidden.
    """

    #: 2: captions are trimmed to the longest of a step.
    VERSION: ClassVar[int] = 2

    caption_dropout: float

    def module(self) -> CaptionedModule:
        """Build the network with its loss."""
        from imagegram.tokenizers.ta_titok.training import CaptionedModule

        return CaptionedModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return (B, S, S, 3) uint8 images, some mirrored; states and mask of their captions."""
        images, text = parted(items)
        (images,) = super().batch(images, rng)
        text = trimmed(dropped(text, self.caption_dropout, rng))
        return images, text.states, text.there
