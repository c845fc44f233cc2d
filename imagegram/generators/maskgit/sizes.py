"""Sizes of masked networks; no torch.

>>> sizes = RaggedSizes(vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2)
>>> sizes.arguments()["ragged"]
True
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagegram.generators.learned import Architecture


@dataclass(frozen=True, kw_only=True)
class RaggedSizes(Architecture):
    """Sizes of a network of documents that differ in length."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a network."""
        return {**super().arguments(), "ragged": True}


def is_ragged(sizes: Architecture) -> bool:
    """Return whether the documents of a network differ in length."""
    return isinstance(sizes, RaggedSizes)


def ragged(sizes: Architecture) -> RaggedSizes:
    """Return the same sizes, of a network of documents that differ in length."""
    return RaggedSizes(**sizes.arguments())
