"""The objective of MaskGen: predict the masked tokens of an image under its caption."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.maskgit.objective import MaskedPrediction
from imagegram.training.captions import dropped, parted, trimmed

if TYPE_CHECKING:
    from imagegram.generators.maskgen.training import CaptionedPredictionModule


@dataclass(frozen=True, kw_only=True)
class CaptionedPrediction(MaskedPrediction):
    """The objective of MaskGen.

    Attributes:
        caption_dropout: share of the images whose caption is hidden.
    """

    VERSION: ClassVar[int] = 1

    caption_dropout: float = field(default=0.1)

    def module(self) -> CaptionedPredictionModule:
        """Build the network with its loss."""
        from imagegram.generators.maskgen.training import CaptionedPredictionModule

        return CaptionedPredictionModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return ids, masks and weights as :class:`MaskedPrediction`, then captions.

        Returns:
            (B, T) int64 ids, (B, T) bool masks, (B, T) float32 weights; (B, L, D) float16 states
            and (B, L) bool mask of the captions.
        """
        ids, text = parted(items)
        arrays = super().batch(ids, rng)
        text = trimmed(dropped(text, self.caption_dropout, rng))
        return *arrays, text.states, text.there
