"""Sizes of the networks of this family, and which network they are of; no torch until it is built.

>>> sizes = MmditSizes(
...     vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2, text_dim=4, aesthetic_score=None
... )
>>> len(list(make(sizes).blocks))
1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from imagegram.generators.learned import Architecture

if TYPE_CHECKING:
    from typing import TypeAlias

    from imagegram.generators.maskgen.mmdit import Mmdit
    from imagegram.generators.maskgen.network import MaskGen

    Network: TypeAlias = MaskGen | Mmdit

BACKBONES: Final = ("transformer", "mmdit")


@dataclass(frozen=True, kw_only=True)
class CaptionedArchitecture(Architecture):
    """Sizes of a transformer over captions and tokens.

    Attributes:
        text_dim: numbers of a state of the text encoder.
        text_length: most tokens of a caption.
    """

    text_dim: int
    text_length: int


@dataclass(frozen=True, kw_only=True)
class MmditSizes(Architecture):
    """Sizes of the published network, and what it is told besides a caption.

    Attributes:
        text_dim: numbers of a state of the text encoder.
        aesthetic_score: of all images; None: the network reads none.
    """

    text_dim: int
    aesthetic_score: float | None


def make(sizes: Architecture) -> Network:
    """Build the network of some sizes, with any weights."""
    from imagegram.generators.maskgen.mmdit import Mmdit
    from imagegram.generators.maskgen.network import MaskGen

    cls = Mmdit if isinstance(sizes, MmditSizes) else MaskGen
    return cls(**sizes.arguments())


def make_fresh(sizes: Architecture, *, seed: int) -> Network:
    """Build the network of some sizes with the fresh weights of a seed."""
    from imagegram.generators.maskgen.mmdit import Mmdit
    from imagegram.generators.maskgen.network import MaskGen
    from imagegram.models.mmdit import initialize_mmdit
    from imagegram.models.transformer import build, initialize

    is_published = isinstance(sizes, MmditSizes)
    cls = Mmdit if is_published else MaskGen
    initializer = initialize_mmdit if is_published else initialize
    network: Any = build(cls, seed=seed, initializer=initializer, **sizes.arguments())
    found: Network = network
    return found
