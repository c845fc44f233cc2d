"""Levels of pyramids, as the kernels read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.smoothed_spatial.contexts import Contexts
from imagegram.generators.smoothed_spatial.surroundings import ZERO
from imagegram.layout import TokenLayout
from imagegram.records import Images, Tokens

#: Documents that are read at a time.
BATCH: Final = 256


class Level(NamedTuple):
    """One level of some pyramids.

    Attributes:
        tokens: (N, H, W, 3) int16, counted from ZERO.
        coarser: (N, H', W', 3) uint8 picture of the coarser level; of the first, one pixel of 0.
        bases: (N, H, W, 3) uint8 that picture enlarged; of the first level, all ZERO.
        has_coarser: whether there is a coarser level.
    """

    tokens: NDArray[np.int16]
    coarser: Images
    bases: Images
    has_coarser: bool

    @property
    def arrays(self) -> tuple[NDArray[np.int16], Images, Images]:
        """Tokens, coarser pictures and bases."""
        return self.tokens, self.coarser, self.bases

    def leaves(self, contexts: Contexts) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Return the (N, H, W, 3) leaves of all tokens, and the errors of their guesses."""
        from imagegram.generators.smoothed_spatial import kernels

        errors, leaves = (np.empty(self.tokens.shape, kind) for kind in (np.int16, np.int32))
        kernels.leaves_of(*self.arrays, contexts, self.has_coarser, errors, leaves)
        return leaves, errors

    def pictures(self) -> Images:
        """Return the (N, H, W, 3) uint8 pictures of the level."""
        decoded = np.clip(self.bases.astype(np.int16) + self.tokens, 0, 255)
        return np.asarray(decoded, dtype=np.uint8)


def empty_level(
    layout: TokenLayout, n: int, coarser: Images | None, tokenizer: Any, count: int
) -> Level:
    """Return a level on which nothing is drawn yet.

    Args:
        layout: of the tokens.
        n: number of the level.
        coarser: (N, H', W', 3) uint8 pictures of the level before; None: it is the first.
        tokenizer: says how a picture is enlarged.
        count: N.
    """
    shape = (count, layout.heights[n], layout.widths[n], 3)
    tokens = np.zeros(shape, dtype=np.int16)
    if coarser is None:
        none = np.zeros((count, 1, 1, 3), dtype=np.uint8)
        return Level(tokens, none, np.full(shape, ZERO, dtype=np.uint8), has_coarser=False)
    bases = np.empty(shape, dtype=np.uint8)
    for base, picture in zip(bases, coarser, strict=True):
        base[:] = tokenizer.enlarged(picture, n)
    return Level(tokens, coarser, bases, has_coarser=True)


def levels_of(tokens_NT: Tokens, layout: TokenLayout, tokenizer: Any) -> Iterator[Level]:
    """Yield the levels of whole documents, from coarse to fine.

    Args:
        tokens_NT: (N, T) ids.
        layout: of the tokens.
        tokenizer: see :func:`empty_level`.
    """
    coarser = None
    for n in range(layout.num_levels):
        level = empty_level(layout, n, coarser, tokenizer, len(tokens_NT))
        own = np.asarray(tokens_NT)[:, layout.level_slices[n]]
        level.tokens[:] = own.reshape(level.tokens.shape).astype(np.int16) - ZERO
        yield level
        coarser = level.pictures()
