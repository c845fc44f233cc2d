"""What MaskGIT learns: to foretell the masked tokens of a document, whatever share is masked.

The share is arccos(u) / (pi / 2), u uniform in [0, 1): more often many than few (Chang et al. 2022,
arXiv 2202.04200; Yu et al. 2024, arXiv 2406.07550). Network and loss are in ``training.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.maskgit.masks import random_masks

if TYPE_CHECKING:
    from imagegram.generators.maskgit.training import MaskedPredictionModule


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a :class:`~imagegram.generators.maskgit.network.MaskGit`.

    Attributes:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position.
        depth: blocks.
        num_heads: divides ``width``.
    """

    vocab_size: int
    num_tokens: int
    width: int
    depth: int
    num_heads: int

    def check(self) -> None:
        """Refuse sizes that no network can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        for name in ("width", "depth", "num_heads"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"generator.{name}={value} must be at least 1")
        if self.width % self.num_heads:
            raise ConfigError(
                f"generator.num_heads={self.num_heads} must divide generator.width={self.width}; "
                "type generator.num_heads=1"
            )


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction:
    """The objective of MaskGIT.

    Attributes:
        architecture: sizes of the network.
        label_smoothing: of the cross entropy, 0 ... 1.
        unmasked_weight: of tokens that were not masked, beside 1 for those that were.
    """

    VERSION: ClassVar[int] = 1

    architecture: Architecture
    label_smoothing: float
    unmasked_weight: float

    def module(self) -> MaskedPredictionModule:
        """Network and loss."""
        from imagegram.generators.maskgit.training import MaskedPredictionModule

        return MaskedPredictionModule(self)

    def batch(
        self, items: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(B, T) ids, and which of them are masked: at least one of every document."""
        shares_B = np.arccos(rng.random(len(items))) / (math.pi / 2)
        counts_B = np.maximum(np.rint(shares_B * items.shape[1]), 1)
        return items.astype(np.int64), random_masks(counts_B, items.shape[1], rng)
