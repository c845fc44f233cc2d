"""What a tokenizer writes: how many ids, how many a sample, what each position stands for."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.records import EOS_TOKEN_ID
from imagegram.store.fingerprint import NOT_IDENTITY

#: What the order of positions says: raster - the neighbours of a position lie beside it; ranked -
#: the most important first, so that every prefix is a whole, coarser item; none - nothing.
ORDERS: Final = ("raster", "ranked", "none")


@dataclass(frozen=True)
class TokenLayout:
    """Level, row, column and channel of every position: samplers, metrics and pictures ask it.

    A pyramid lists its levels coarse to fine, each in raster order with the channel last. A
    sequence has one level and one row; its steps are the columns, the codes of a step its channels.

    Attributes:
        heights, widths: of every level.
        num_channels: tokens of one place of a level.
        digits: how many values each digit of an id has, the least significant first; (): ids have
            no parts. A byte has eight digits of two values, an FSQ code one digit a dimension.
        order: one of :data:`ORDERS`.
        is_picture: whether rows and columns are places of a picture.

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
    order: str = field(default="raster", metadata=NOT_IDENTITY)
    is_picture: bool = field(default=True, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Refuse an unknown order."""
        if self.order not in ORDERS:
            raise ConfigError(
                f"a layout's order is {self.order!r}; {did_you_mean(self.order, ORDERS)}"
            )

    @classmethod
    def pyramid(cls, sizes: tuple[int, ...]) -> TokenLayout:
        """Square RGB levels of the given side lengths; ids are bytes."""
        return cls(heights=sizes, widths=sizes, num_channels=3, digits=(2,) * 8)

    @classmethod
    def sequence(
        cls,
        num_tokens: int,
        *,
        order: str = "ranked",
        digits: tuple[int, ...] = (),
        num_channels: int = 1,
    ) -> TokenLayout:
        """Tokens in one dimension, which are no places of a picture.

        Args:
            num_tokens: a multiple of ``num_channels``.
            order: ``ranked`` (FlexTok), ``raster`` (text) or ``none`` (TiTok).
            digits: of an id.
            num_channels: codes of one step.

        >>> TokenLayout.sequence(6, order="raster", num_channels=2).channel.tolist()
        [0, 1, 0, 1, 0, 1]
        """
        steps, rest = divmod(num_tokens, num_channels)
        assert not rest, f"{num_tokens} tokens are no whole steps of {num_channels}"
        return cls((1,), (steps,), num_channels, digits, order, is_picture=False)

    @property
    def is_ranked(self) -> bool:
        """Whether every prefix is a whole, coarser item."""
        return self.order == "ranked"

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
        """Tokens of one sample, T."""
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
        if not self.is_picture:
            return f"token {position + 1} of {self.num_tokens}"
        level = int(self.level[position])
        return (
            f"level {level} ({self.heights[level]}x{self.widths[level]}), "
            f"row {self.row[position]}, column {self.column[position]}, "
            f"channel {self.channel[position]}"
        )


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """What a tokenizer writes; everything else about its tokens follows from here.

    Attributes:
        vocab_size: ids lie in 0 ... vocab_size - 1; at most 65,535, which is the separator.
        layout: what the positions of a sample stand for.
        ragged: whether documents differ in length; a sample is then a window of a document, padded
            with the separator behind an early end. Otherwise a document is one sample.
        codebooks: ids of a step, each out of its own range; the channels of the layout.

    >>> spec = TokenSpec(vocab_size=256, layout=TokenLayout.pyramid((8, 16)))
    >>> spec.length, spec.ragged
    (960, False)
    """

    vocab_size: int
    layout: TokenLayout
    ragged: bool = False
    codebooks: int = 1

    def __post_init__(self) -> None:
        """Refuse what no token file can hold.

        Raises:
            ConfigError: naming the number and what is allowed.
        """
        if not 1 <= self.vocab_size <= EOS_TOKEN_ID:
            raise ConfigError(
                f"a vocabulary of {self.vocab_size:,} ids does not fit: token files hold 1 ... "
                f"{EOS_TOKEN_ID:,}"
            )
        if self.codebooks not in (1, self.layout.num_channels):
            raise ConfigError(
                f"{self.codebooks} codebooks need as many channels, but the layout has "
                f"{self.layout.num_channels}"
            )

    @property
    def length(self) -> int:
        """Tokens of one sample, T: of an image, of a window of a text."""
        return self.layout.num_tokens

    @property
    def document_length(self) -> int | None:
        """Tokens of every document; None: they differ."""
        return None if self.ragged else self.length


def prefix_lengths(num_tokens: int) -> tuple[int, ...]:
    """Lengths at which an ordered tokenizer is looked at: powers of two, and all of its tokens.

    >>> prefix_lengths(6), prefix_lengths(8)
    ((1, 2, 4, 6), (1, 2, 4, 8))
    """
    powers = {2**power for power in range(num_tokens.bit_length())}
    return tuple(sorted(powers | {num_tokens}))
