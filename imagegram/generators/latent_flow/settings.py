"""Settings of the autoencoder of a latent flow: ``generator.autoencoder.beta=0.1``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imagegram.errors import ConfigError, did_you_mean, require_bounds
from imagegram.generators.latent_flow.sizes import ChunkSizes
from imagegram.training.optimization import Optimization

KINDS: Final = ("mlp", "attention")
MINUTES: Final = Optimization(steps=2000, batch_size=32, learning_rate=1e-3, ema_decay=0.99)


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """What turns chunks of tokens into latents.

    Attributes:
        chunk_size: tokens of a chunk.
        latent_size: numbers of a latent.
        kind: ``mlp``, or ``attention`` among the tokens of a chunk.
        width, depth, num_heads: sizes of encoder and decoder; heads are those of ``attention``.
        beta: weight of the divergence of latents from standard normal ones: bits of a chunk
            against right tokens.
        free_nats: divergence of a number of a latent that costs nothing.
        token_dropout: share of the tokens that the encoder does not see in training.
        latent_dropout: share of the numbers of a latent that the decoder sees as 0 in training.
        optimization: its training.
    """

    chunk_size: int = 4
    latent_size: int = 64
    kind: str = "mlp"
    width: int = 256
    depth: int = 2
    num_heads: int = 2
    beta: float = 0.01
    free_nats: float = 0.0
    token_dropout: float = 0.1
    latent_dropout: float = 0.0
    optimization: Optimization = MINUTES

    def check(self) -> None:
        """Refuse what no autoencoder can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        counts = ("chunk_size", "latent_size", "width", "depth", "num_heads")
        bounds = {name: (1, float("inf")) for name in counts}
        bounds |= {"beta": (0, float("inf")), "free_nats": (0, float("inf"))}
        bounds |= {"token_dropout": (0, 1), "latent_dropout": (0, 1)}
        require_bounds(self, bounds, prefix="generator.autoencoder.")
        if self.kind not in KINDS:
            raise ConfigError(
                f"generator.autoencoder.kind={self.kind}: {did_you_mean(self.kind, KINDS)}"
            )
        if self.kind == "attention" and self.width % self.num_heads:
            raise ConfigError(
                f"generator.autoencoder.num_heads={self.num_heads} must divide "
                f"generator.autoencoder.width={self.width}; type generator.autoencoder.num_heads=1"
            )

    def sizes(self, vocab_size: int) -> ChunkSizes:
        """Return the sizes of the network for so many ids, the end among them."""
        return ChunkSizes(
            vocab_size=vocab_size,
            chunk_size=self.chunk_size,
            latent_size=self.latent_size,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads if self.kind == "attention" else 0,
        )


#: The default: trained in minutes.
SMALL: Final = Autoencoder()
