"""Sizes of the two networks of a latent flow; no torch.

Array names of this room: ``B`` documents, ``N`` chunks of a document, ``C`` tokens of a chunk,
``D`` numbers of a latent, ``V`` ids, ``W`` features.

>>> sizes = ChunkSizes(vocab_size=9, chunk_size=4, latent_size=2, width=8, depth=1, num_heads=2)
>>> sizes.num_chunks(10)
3
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.records import EOS_TOKEN_ID


@dataclass(frozen=True, kw_only=True)
class ChunkSizes:
    """Sizes of the autoencoder of chunks.

    Attributes:
        vocab_size: number of ids, V; the last one is the end of a document, which also pads.
        chunk_size: tokens of a chunk, C.
        latent_size: numbers of a latent, D.
        width: features of a token, and of a chunk in between.
        depth: blocks of the encoder, and of the decoder.
        num_heads: attention heads over the tokens of a chunk; 0: MLPs, no attention.
    """

    vocab_size: int
    chunk_size: int
    latent_size: int
    width: int
    depth: int
    num_heads: int

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the network."""
        return dataclasses.asdict(self)

    def num_chunks(self, num_tokens: int) -> int:
        """Return the number of chunks, N, of so many tokens."""
        return -(-num_tokens // self.chunk_size)

    def chunks(self, tokens_BT: NDArray[Any]) -> NDArray[np.int64]:
        """Return (B, N, C) int64 ids of (B, T) tokens; separators and what pads are the end."""
        num_chunks, end = self.num_chunks(tokens_BT.shape[1]), self.vocab_size - 1
        ids = np.full((len(tokens_BT), num_chunks * self.chunk_size), end, dtype=np.int64)
        ids[:, : tokens_BT.shape[1]] = np.where(tokens_BT == EOS_TOKEN_ID, end, tokens_BT)
        return ids.reshape(len(tokens_BT), num_chunks, self.chunk_size)

    def counted(self, ids_BNC: NDArray[np.int64], *, ends: bool) -> NDArray[np.bool_]:
        """Return which of (B, N, C) ids are tokens of a document or its first end.

        Args:
            ids_BNC: ids of chunks.
            ends: whether documents end early, so that their first end is learned too.
        """
        is_end = (ids_BNC == self.vocab_size - 1).reshape(len(ids_BNC), -1)
        before = is_end.cumsum(axis=1) - is_end == 0
        return np.asarray(before if ends else before & ~is_end).reshape(ids_BNC.shape)


@dataclass(frozen=True, kw_only=True)
class FlowSizes:
    """Sizes of the denoiser of latents.

    Attributes:
        num_chunks: chunks of a document, N.
        latent_size: numbers of a latent, D.
        width: features of a chunk.
        depth: blocks.
        num_heads: attention heads; divides ``width``.
    """

    num_chunks: int
    latent_size: int
    width: int
    depth: int
    num_heads: int

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the network."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        for name in ("width", "depth", "num_heads"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"generator.{name}={value} must be at least 1")
        if self.width % self.num_heads or self.width % 2:
            raise ConfigError(
                f"generator.width={self.width} must be even and a multiple of "
                f"generator.num_heads={self.num_heads}; type generator.num_heads=1"
            )
