"""Sizes of the networks of this family, and which network they are of; no torch until it is built.

>>> sizes = RarSizes(
...     vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2, hidden=32, dropout=0.1
... )
>>> len(list(make(sizes).blocks))
1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from imagegram.errors import ConfigError
from imagegram.generators.learned import Architecture

if TYPE_CHECKING:
    from typing import TypeAlias

    from imagegram.generators.autoregressive.chunked import ChunkTransformer
    from imagegram.generators.autoregressive.network import Autoregressive
    from imagegram.generators.autoregressive.rar import Rar

    Network: TypeAlias = Autoregressive | ChunkTransformer | Rar

BACKBONES: Final = ("gpt", "rar", "chunk")


@dataclass(frozen=True, kw_only=True)
class RarSizes(Architecture):
    """Sizes of RAR's own network.

    Attributes:
        hidden: width of the MLPs.
        dropout: share of features and of attention that is dropped in training.
    """

    hidden: int
    dropout: float

    def check(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        super().check()
        if self.hidden < 1:
            raise ConfigError(f"generator.hidden={self.hidden} must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(
                f"generator.dropout={self.dropout} must be at least 0 and below 1; type "
                "generator.dropout=0.1"
            )


@dataclass(frozen=True, kw_only=True)
class ChunkSizes(Architecture):
    """Sizes of the network that writes chunks.

    Attributes:
        chunk_size: tokens of a chunk.
        local_depth: blocks inside a chunk.
    """

    chunk_size: int
    local_depth: int

    def check(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        super().check()
        for name in ("chunk_size", "local_depth"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"generator.{name}={value} must be at least 1")


def make(sizes: Architecture) -> Network:
    """Build the network of some sizes, with any weights."""
    return _kind(sizes)(**sizes.arguments())


def _kind(sizes: Architecture) -> type[Network]:
    """Return the class of the network of some sizes."""
    from imagegram.generators.autoregressive.chunked import ChunkTransformer
    from imagegram.generators.autoregressive.network import Autoregressive
    from imagegram.generators.autoregressive.rar import Rar

    if isinstance(sizes, ChunkSizes):
        return ChunkTransformer
    return Rar if isinstance(sizes, RarSizes) else Autoregressive


def make_fresh(sizes: Architecture, *, seed: int) -> Network:
    """Build the network of some sizes with the fresh weights of a seed."""
    from imagegram.generators.autoregressive.rar import fresh_rar
    from imagegram.models.transformer import build

    if isinstance(sizes, RarSizes):
        return fresh_rar(seed=seed, **sizes.arguments())
    network: Any = build(_kind(sizes), seed=seed, **sizes.arguments())
    found: Network = network
    return found
