"""The two objectives: latents that paint, and a flow for each masked latent.

Networks and losses are in ``training.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.maskgen_kl.draws import draw
from imagegram.generators.maskgen_kl.settings import LatentSizes, MaskedSizes
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.training.captions import dropped, parted, trimmed
from imagegram.training.optimization import Optimization

if TYPE_CHECKING:
    from imagegram.generators.maskgen_kl.training import KlModule, MaskedFlowModule


@dataclass(frozen=True, kw_only=True)
class KlReconstruction:
    """Reconstruct images from samples of their Gaussians, and their captions.

    Attributes:
        sizes: sizes of the network.
        beta: weight of the divergence of a number, beside the squared error of pixels in 0 ... 1.
        caption_dropout: share of the images whose caption is hidden.
    """

    VERSION: ClassVar[int] = 1

    sizes: LatentSizes
    beta: float
    caption_dropout: float

    def module(self) -> KlModule:
        """Build network and loss."""
        from imagegram.generators.maskgen_kl.training import KlModule

        return KlModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return images, noise of their latents, states and masks of their captions.

        Returns:
            (B, S, S, 3) uint8 images, (B, K, D) float32 noise, (B, L, d) float16, (B, L) bool.
        """
        images, text = parted(items)
        text = trimmed(dropped(text, self.caption_dropout, rng))
        shape = (len(images), self.sizes.num_latents, self.sizes.latent_size)
        return images, rng.standard_normal(shape, dtype=np.float32), text.states, text.there


@dataclass(frozen=True, kw_only=True)
class MaskedFlow:
    """Say with what velocity masked latents leave noise, from those that are not masked.

    Attributes:
        sizes: sizes of the network.
        autoencoder, autoencoder_optimization: the training that the latents are from.
        weights: file of the trained autoencoder; None: it is not trained yet.
        imported: identity of the published weights that it has; None: it is trained.
        caption_dropout: share of the images whose caption is hidden.
    """

    VERSION: ClassVar[int] = 1

    sizes: MaskedSizes
    autoencoder: KlReconstruction
    autoencoder_optimization: Optimization
    weights: str | None = field(default=None, metadata=NOT_IDENTITY)
    imported: Any = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)
    caption_dropout: float

    def module(self) -> MaskedFlowModule:
        """Build network and loss."""
        from imagegram.generators.maskgen_kl.training import MaskedFlowModule

        return MaskedFlowModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return images, noises, masks, weights, times and captions.

        The masked share is arccos(u) / (pi / 2), as in ``maskgit``; weights have the mean 1 over
        the step.

        Returns:
            (B, S, S, 3) uint8 images; (B, K, D) float32 noise of the latents; (B, K) bool masks;
            (B, K) float32 weights in the loss; (B, K, M, D) float32 noise at the start and
            (B, K, M) float32 times, M for each latent; states and masks of the captions.
        """
        images, text = parted(items)
        text = trimmed(dropped(text, self.caption_dropout, rng))
        drawn = draw(len(images), self.sizes, rng)
        weights_BK = (drawn.masked / drawn.masked.mean()).astype(np.float32)
        return (
            images,
            drawn.noise,
            drawn.masked,
            weights_BK,
            drawn.start,
            drawn.times,
            text.states,
            text.there,
        )
