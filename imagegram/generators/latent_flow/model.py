"""LatentFlowModel: a trained latent flow: it samples, and goes between tokens and latents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import prompt_trace, prompts_of
from imagegram.errors import ConfigError
from imagegram.generators.chunks import chunk_samples, rows_from_chunks
from imagegram.generators.latent_flow.sizes import ChunkSizes, FlowSizes
from imagegram.generators.trained import LatentModel
from imagegram.layout import TokenLayout
from imagegram.protocols import Condition, Sampler
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from imagegram.samplers.flow import FlowSampler
from imagegram.samplers.kinds import require_kind
from imagegram.store.stage import Progress

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LatentFlowModel(LatentModel):
    """A trained latent flow that samples.

    Attributes:
        artifact, device, dtype: see :class:`TrainedModel`.
        chunks, sizes: sizes of autoencoder and denoiser.
        ends: whether samples may end early.
        sigma: deviation of the start noise in training.
    """

    chunks: ChunkSizes
    sizes: FlowSizes
    ends: bool
    sigma: float

    def make_network(self) -> nn.Module:
        """Build the denoiser, with any weights."""
        from imagegram.generators.latent_flow.denoiser import Denoiser

        return Denoiser(**self.sizes.arguments())

    def make_autoencoder(self) -> nn.Module:
        """Build the autoencoder, with any weights."""
        from imagegram.generators.latent_flow.autoencoder import ChunkAutoencoder

        return ChunkAutoencoder(**self.chunks.arguments())

    def encode(self, tokens_BT: Tokens) -> NDArray[np.float32]:
        """Return the (B, N, D) standardized latents of (B, T) tokens, T as in training."""
        from imagegram.generators.latent_flow.sampling import encode_tokens

        return encode_tokens(self.networks, self.chunks.chunks(tokens_BT))

    def decode(self, latents_BND: NDArray[np.float32]) -> Tokens:
        """Return the (B, N C) tokens of (B, N, D) standardized latents, padded behind an end.

        Raises:
            ConfigError: for latents of another size.
        """
        from imagegram.generators.latent_flow.sampling import decode_latents

        most, size, shape = self.sizes.num_chunks, self.sizes.latent_size, latents_BND.shape
        if len(shape) != 3 or not 1 <= shape[1] <= most or shape[2] != size:
            raise ConfigError(
                f"latents of this run are (any, 1 ... {most}, {size}): texts, chunks, numbers; "
                f"received {shape}"
            )
        ids = decode_latents(self.networks, latents_BND.astype(np.float32), ends=self.ends)
        return np.where(ids == self.chunks.vocab_size - 1, EOS_TOKEN_ID, ids).astype(np.uint16)

    def denoise(
        self, latents_BND: NDArray[np.float32], *, noise: float, sampler: FlowSampler, seed: int
    ) -> NDArray[np.float32]:
        """Return where latents arrive after a share of noise, 0 ... 1, was mixed in."""
        from imagegram.generators.latent_flow.sampling import renoise

        denoiser = self.networks[1]
        return renoise(
            denoiser, latents_BND, noise=noise, sampler=sampler, sigma=self.sigma, seed=seed
        )

    def generate(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Sample (B, T) tokens with their trace; see :meth:`imagegram.protocols.Model.generate`.

        ``workers`` is not used: torch has its cores from the environment.

        Returns:
            (B, T) uint16 tokens, and by name, float32: ``probability`` of a token where the flow
            arrived; ``entropy`` of the decoder's distribution there, in bits. Both are 0 behind the
            end of a sample.
        """
        from imagegram.generators.latent_flow.sampling import sample_chunks

        own = require_kind(sampler, FlowSampler, group="sampler", generator="latent_flow")
        end, num_tokens = self.chunks.vocab_size - 1, layout.num_tokens
        if self.chunks.num_chunks(num_tokens) > self.sizes.num_chunks:
            most = self.sizes.num_chunks * self.chunks.chunk_size
            raise ConfigError(
                f"samples of {num_tokens} tokens are asked for, but the flow was trained on "
                f"{self.sizes.num_chunks} chunks, {most} tokens; ask for fewer, or train one on "
                f"more: tokenizer.window={num_tokens}"
            )
        prompts = prompts_of(condition)
        prompts.check(most=num_tokens, vocab_size=end)

        def make(numbers: NDArray[np.uint64]) -> Iterator[dict[str, NDArray[Any]]]:
            ids = chunk_samples(numbers)
            made = sample_chunks(
                self.networks,
                ids,
                sampler=own,
                sigma=self.sigma,
                seed=seed,
                prompts=[prompts.of_samples(each, num_tokens=num_tokens) for each in ids],
                ends=self.ends,
                dtype=self.dtype,
            )
            for found in made:
                tokens = found["tokens"]
                yield {**found, "tokens": np.where(tokens == end, EOS_TOKEN_ID, tokens)}

        dtypes = {"tokens": np.uint16, "probability": np.float32, "entropy": np.float32}
        trace = rows_from_chunks(
            samples, num_tokens=num_tokens, dtypes=dtypes, make=make, progress=progress
        )
        trace |= prompt_trace(condition, samples, num_tokens=num_tokens)
        return trace.pop("tokens"), trace
