"""The objective of a renderer: the next token of a sentence, behind its codes and a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.tokenizers.renderer.items import hide
from imagegram.tokenizers.renderer.sizes import RendererSizes

if TYPE_CHECKING:
    from imagegram.tokenizers.renderer.training import RendererModule
    from imagegram.tokenizers.sentence_rvq.decoders import SentenceCodes


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """The objective of a renderer.

    Attributes:
        sizes: of the network.
        codes: what writes sentences as codes; its vectors are what ``soft`` reads.
        code_dropout: share of the sentences that are read without some of their codes: half of
            these without any, the others without those of a random stage and the stages behind it.
    """

    VERSION: ClassVar[int] = 1

    sizes: RendererSizes
    codes: SentenceCodes
    code_dropout: float

    def module(self) -> RendererModule:
        """Build network and loss."""
        from imagegram.tokenizers.renderer.training import RendererModule

        return RendererModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return ids, places, segments, targets, and weights of the loss.

        Weights have the mean 1 over the whole step; positions without target have none, so that
        neither codes nor context nor padding is learned.

        Returns:
            (B, L) int64 ids, places, segments, targets; (B, L) float32 weights.
        """
        ids, places, segments, targets, stages = (
            items[:, n].astype(np.int64) for n in range(items.shape[1])
        )
        hide(segments, stages, self._kept(segments, rng))
        counted = targets >= 0
        weights = (counted / max(counted.mean(), 1e-12)).astype(np.float32)
        return ids, places, segments, targets, weights

    def _kept(self, segments: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the (B, G) number of stages that are kept of each segment."""
        shape = (len(segments), int(segments.max(initial=0)) + 1)
        num_codebooks = self.sizes.num_codebooks
        some = rng.integers(1, max(num_codebooks, 2), shape)
        kept = np.where(rng.random(shape) < 0.5, 0, some)
        return np.where(rng.random(shape) < self.code_dropout, kept, num_codebooks)
