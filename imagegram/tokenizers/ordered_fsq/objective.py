"""The objective of the ordered autoencoder: reconstruct an image from any number of codes.

The loss of an image is the mean squared error of its pixels in 0 ... 1, painted from the first k
codes, k drawn anew for every image and step (nested dropout); nothing else is added. The networks
and the loss are in ``training.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.images.views import mirror_half
from imagegram.layout import prefix_lengths
from imagegram.tokenizers.ordered_fsq.sizes import Architecture

if TYPE_CHECKING:
    from imagegram.tokenizers.ordered_fsq.training import ReconstructionModule


@dataclass(frozen=True, kw_only=True)
class OrderedReconstruction:
    """The objective of the ordered autoencoder.

    Attributes:
        architecture: sizes of the network.
        keep: law of nested dropout, ``pow2`` or ``uniform``.
        flips: mirror half of the images.
    """

    VERSION: ClassVar[int] = 2

    architecture: Architecture
    keep: str
    flips: bool

    def module(self) -> ReconstructionModule:
        """Build the network with its loss."""
        from imagegram.tokenizers.ordered_fsq.training import ReconstructionModule

        return ReconstructionModule(self)

    def batch(
        self, items: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return (B, S, S, 3) uint8 images, some mirrored, and (B,) numbers of codes to keep."""
        keep_B = keep_lengths(
            rng,
            how=self.keep,
            batch_size=len(items),
            num_registers=self.architecture.num_registers,
        )
        if self.flips:
            mirror_half(items, rng)
        return items, keep_B


def keep_lengths(
    rng: np.random.Generator, *, how: str, batch_size: int, num_registers: int
) -> NDArray[np.int64]:
    """Draw the (batch_size,) numbers of registers, 1 ... R, that nested dropout keeps.

    Args:
        rng: draws them.
        how: ``uniform``: every number; ``pow2``: 1, 2, 4, ... and R.
        batch_size: images.
        num_registers: R.
    """
    if how == "uniform":
        return rng.integers(1, num_registers + 1, batch_size)
    return rng.choice(np.array(prefix_lengths(num_registers)), batch_size)
