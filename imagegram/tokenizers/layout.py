"""TokenLayout: what each position of an image's token sequence stands for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenLayout:
    """Level, row, column and channel of every position: samplers, metrics and pictures ask it.

    A pyramid lists its levels coarse to fine, each in raster order with the channel last. An
    ordered 1-D tokenizer has one level, one row and its prefix position as the column.

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

    @classmethod
    def pyramid(cls, sizes: tuple[int, ...]) -> TokenLayout:
        """Square RGB levels of the given side lengths."""
        return cls(heights=sizes, widths=sizes, num_channels=3)

    @classmethod
    def sequence(cls, num_tokens: int) -> TokenLayout:
        """An ordered 1-D sequence."""
        return cls(heights=(1,), widths=(num_tokens,), num_channels=1)

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

    def describe(self, position: int) -> str:
        """One position in words."""
        level = int(self.level[position])
        return (
            f"level {level} ({self.heights[level]}x{self.widths[level]}), "
            f"row {self.row[position]}, column {self.column[position]}, "
            f"channel {self.channel[position]}"
        )
