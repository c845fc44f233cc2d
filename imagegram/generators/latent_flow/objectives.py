"""The two objectives of a latent flow: latents that decode, and a flow that arrives at them.

The flow goes from noise at time 0 to latents at time 1 along straight lines (Lipman et al., "Flow
Matching for Generative Modeling", arXiv 2210.02747). The network says where a latent arrives, and
is judged by the velocity that follows (Li and He, "Back to Basics: Let Denoising Generative Models
Denoise", arXiv 2511.13720), by the tokens that the autoencoder reads there, or by both. Networks
and losses are in ``training.py``; array names are those of ``sizes.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from imagegram.generators.latent_flow.sizes import ChunkSizes, FlowSizes
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.training.optimization import Optimization

if TYPE_CHECKING:
    from imagegram.generators.latent_flow.training import ChunkModule, FlowModule

LOSSES: Final = ("velocity", "cross_entropy", "both")
#: How times are drawn: uniform in 0 ... 1, or the logistic function of a standard normal number,
#: which comes more often to times at which something is decided (Esser et al., arXiv 2403.03206).
TIMES: Final = ("logit_normal", "uniform")


@dataclass(frozen=True, kw_only=True)
class ChunkReconstruction:
    """Reconstruct the tokens of a chunk from a sample of its Gaussian.

    Attributes:
        sizes: sizes of the network.
        ends: whether documents end early.
        beta: weight of the divergence of a chunk, beside the cross entropy of its tokens.
        free_nats: divergence of a number of a latent that costs nothing.
        token_dropout: share of the tokens that the encoder does not see.
        latent_dropout: share of the numbers of latents that the decoder sees as 0.
    """

    VERSION: ClassVar[int] = 1

    sizes: ChunkSizes
    ends: bool
    beta: float
    free_nats: float
    token_dropout: float
    latent_dropout: float

    def module(self) -> ChunkModule:
        """Build network and loss."""
        from imagegram.generators.latent_flow.training import ChunkModule

        return ChunkModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return ids, what is hidden of them, noise, kept numbers, and weights in the loss.

        Weights have the mean 1 over the whole step.

        Returns:
            (B, N, C) int64 ids; (B, N, C) bool, hidden; (B, N, D) float32 noise; (B, N, D) bool,
            numbers that the decoder sees; (B, N, C) float32 weights of tokens.
        """
        ids_BNC = self.sizes.chunks(items)
        hidden_BNC = rng.random(ids_BNC.shape, dtype=np.float32) < self.token_dropout
        shape = (*ids_BNC.shape[:2], self.sizes.latent_size)
        noise_BND = rng.standard_normal(shape, dtype=np.float32)
        kept_BND = rng.random(shape, dtype=np.float32) >= self.latent_dropout
        counted_BNC = self.sizes.counted(ids_BNC, ends=self.ends)
        weights_BNC = (counted_BNC / counted_BNC.mean()).astype(np.float32)
        return ids_BNC, hidden_BNC, noise_BND, kept_BND, weights_BNC


@dataclass(frozen=True, kw_only=True)
class LatentFlow:
    """Say where latents arrive that are on their way out of noise.

    Attributes:
        sizes: sizes of the network.
        autoencoder, autoencoder_optimization: the training that the latents are from.
        weights: file of the trained autoencoder; None: it is not trained yet.
        sigma: deviation of the start noise; latents have deviation 1.
        loss: one of :data:`LOSSES`.
        times: one of :data:`TIMES`.
        self_conditioning: share of the documents of which the network reads its own estimate.
        prompted: share of the documents whose first chunks, a random number of them, are given.
    """

    VERSION: ClassVar[int] = 1

    sizes: FlowSizes
    autoencoder: ChunkReconstruction
    autoencoder_optimization: Optimization
    weights: str | None = field(default=None, metadata=NOT_IDENTITY)
    sigma: float
    loss: str
    times: str
    self_conditioning: float
    prompted: float

    def module(self) -> FlowModule:
        """Build network and loss."""
        from imagegram.generators.latent_flow.training import FlowModule

        return FlowModule(self)

    def batch(self, items: NDArray[Any], rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Return ids, noises, times, who reads its own estimate, and which chunks there are.

        Returns:
            (B, N, C) int64 ids; (B, N, D) float32 noise of the latents; (B, N, D) float32 noise at
            the start, of deviation 1; (B, N) float32 times, 1 for given chunks; (B,) bool, who
            reads its own estimate; (B, N) bool, chunks of documents.
        """
        ids_BNC = self.autoencoder.sizes.chunks(items)
        batch, num_chunks, _ = ids_BNC.shape
        shape = (batch, num_chunks, self.sizes.latent_size)
        latent_BND, start_BND = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
        is_uniform = self.times == "uniform"
        times_B1 = rng.random((batch, 1)) if is_uniform else expit(rng.normal(size=(batch, 1)))
        lengths_B1 = rng.integers(0, num_chunks, (batch, 1))
        is_prompted_B1 = rng.random((batch, 1)) < self.prompted
        given_BN = (np.arange(num_chunks) < lengths_B1) & is_prompted_B1
        times_BN = np.where(given_BN, 1.0, times_B1).astype(np.float32)
        reads_B = np.asarray(rng.random(batch) < self.self_conditioning)
        counted_BNC = self.autoencoder.sizes.counted(ids_BNC, ends=self.autoencoder.ends)
        there_BN = np.asarray(counted_BNC.any(axis=-1))
        return ids_BNC, latent_BND, start_BND, times_BN, reads_B, there_BN
