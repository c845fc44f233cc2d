"""TokenLayout: what each position of an image's token sequence stands for."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import NOT_IDENTITY


@dataclass(frozen=True)
class TokenLayout:
    """Level, row, column and channel of every position: samplers, metrics and pictures ask it.

    A pyramid lists its levels coarse to fine, each in raster order with the channel last. An
    ordered 1-D tokenizer has one level, one row and its prefix position as the column.

    Attributes:
        heights, widths: of every level.
        num_channels: tokens of one place of a level.
        digits: how many values each digit of an id has, the least significant first; (): ids have
            no parts. A byte has eight digits of two values, an FSQ code one digit a dimension.

    >>> layout = TokenLayout.pyramid((1, 2))
    >>> layout.num_tokens, layout.num_levels
    (15, 2)
    >>> layout.level.tolist()
    [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    >>> layout.describe(7)
    'level 1 (2x2), row 0, column 1, channel 1'
    """

    heights: tuple[int, ...]
    widths: tuple[int, ...]
    num_channels: int
    digits: tuple[int, ...] = field(default=(), metadata=NOT_IDENTITY)

    @classmethod
    def pyramid(cls, sizes: tuple[int, ...]) -> TokenLayout:
        """Square RGB levels of the given side lengths; ids are bytes."""
        return cls(heights=sizes, widths=sizes, num_channels=3, digits=(2,) * 8)

    @classmethod
    def sequence(cls, num_tokens: int, *, digits: tuple[int, ...] = ()) -> TokenLayout:
        """An ordered 1-D sequence."""
        return cls(heights=(1,), widths=(num_tokens,), num_channels=1, digits=digits)

    @property
    def is_ordered(self) -> bool:
        """Whether positions are ranks of importance and not places of a picture."""
        return self.heights == (1,) and self.num_channels == 1

    @property
    def num_levels(self) -> int:
        """Levels, coarse to fine."""
        return len(self.heights)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Tokens of each level."""
        return tuple(
            h * w * self.num_channels for h, w in zip(self.heights, self.widths, strict=True)
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of one image, T."""
        return sum(self.level_sizes)

    @cached_property
    def level_slices(self) -> tuple[slice, ...]:
        """The positions of each level."""
        ends = np.cumsum((0, *self.level_sizes)).tolist()
        return tuple(slice(a, b) for a, b in itertools.pairwise(ends))

    @cached_property
    def level(self) -> NDArray[np.int32]:
        """(T,) level of every position."""
        return np.repeat(np.arange(self.num_levels, dtype=np.int32), self.level_sizes)

    def _grid(self, axis: int) -> NDArray[np.int32]:
        shapes = [(h, w, self.num_channels) for h, w in zip(self.heights, self.widths, strict=True)]
        return np.concatenate([np.indices(s, dtype=np.int32)[axis].ravel() for s in shapes])

    @cached_property
    def row(self) -> NDArray[np.int32]:
        """(T,) row inside the level."""
        return self._grid(0)

    @cached_property
    def column(self) -> NDArray[np.int32]:
        """(T,) column inside the level."""
        return self._grid(1)

    @cached_property
    def channel(self) -> NDArray[np.int32]:
        """(T,) colour channel."""
        return self._grid(2)

    def coarse(self, tokens: NDArray[Any], num_digits: int) -> NDArray[np.uint16]:
        """Ids without their least significant digits; separators stay what they are.

        Args:
            tokens: ids and separators, of any shape.
            num_digits: most significant digits to keep, 1 ... ``len(digits)``.

        >>> layout = TokenLayout.sequence(3, digits=(8, 5, 5))
        >>> layout.coarse(np.array([7, 8, 199, 65535]), 2).tolist()
        [0, 1, 24, 65535]
        """
        divisor = math.prod(self.digits[: len(self.digits) - num_digits])
        tokens = np.asarray(tokens)
        return np.where(tokens == EOS_TOKEN_ID, EOS_TOKEN_ID, tokens // divisor).astype(np.uint16)

    def describe(self, position: int) -> str:
        """One position in words."""
        if self.is_ordered:
            return f"token {position + 1} of {self.num_tokens}"
        level = int(self.level[position])
        return (
            f"level {level} ({self.heights[level]}x{self.widths[level]}), "
            f"row {self.row[position]}, column {self.column[position]}, "
            f"channel {self.channel[position]}"
        )


def prefix_lengths(num_tokens: int) -> tuple[int, ...]:
    """Lengths at which an ordered tokenizer is looked at: powers of two, and all of its tokens.

    >>> prefix_lengths(6), prefix_lengths(8)
    ((1, 2, 4, 6), (1, 2, 4, 8))
    """
    powers = {2**power for power in range(num_tokens.bit_length())}
    return tuple(sorted(powers | {num_tokens}))
