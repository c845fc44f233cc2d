"""An order-preserving code of tokens in one or two bytes, so that a byte sorter sorts tokens.

Suffixes of the coded stream that begin at a code word are in the order of the table: no word is
the beginning of another, and words compare like the little-endian bytes of their tokens. Up to 256
distinct tokens have one byte each. Up to 511, the rarest run of neighbours shares one lead byte:
pyramids have 257 (residuals and the separator), of which two rare ones become two bytes long, one
token in 10,000. More distinct tokens have two bytes each.

>>> code = ByteCode.of(np.array([5, 9, 0, 1]))  # how often the tokens 0, 1, 2, 3 occur
>>> code.lead[[0, 1, 3]].tolist(), code.num_bytes(15)
([0, 1, 2], 15)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Values that a token can have.
IDS: Final = 65536
_BYTES: Final = 256
#: Most distinct tokens for which all but one run fit into single bytes.
_MOST_MIXED: Final = 2 * _BYTES - 1


def most_bytes(num_tokens: int, num_distinct: int) -> int:
    """Return the largest possible size of a coded stream in bytes; grows with distinct tokens.

    >>> most_bytes(1000, 256), most_bytes(1000, 257), most_bytes(1000, 512)
    (1000, 1007, 2000)
    """
    if num_distinct <= _BYTES:
        return num_tokens
    if num_distinct > _MOST_MIXED:
        return 2 * num_tokens
    # The rarest of k disjoint runs holds at most 1 / k of all tokens.
    return num_tokens + num_tokens // (num_distinct // (num_distinct - _BYTES + 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class ByteCode:
    """Code words by token. Make it with :meth:`of`.

    Attributes:
        lead: (65536,) uint8 first byte.
        second: (65536,) int16 second byte; -1: the word has one.
        num_long: occurrences of tokens whose word has two bytes.
    """

    lead: NDArray[np.uint8]
    second: NDArray[np.int16]
    num_long: int

    @classmethod
    def of(cls, counts: NDArray[np.integer]) -> ByteCode:
        """Make the code of a stream.

        Args:
            counts: (up to 65536,) occurrences by token.
        """
        tokens = np.flatnonzero(counts)
        swapped = (tokens & 255) << 8 | tokens >> 8
        tokens = tokens[np.argsort(swapped)]
        ranks = np.arange(tokens.size)
        lead, second = ranks, np.full(tokens.size, -1)
        if tokens.size > _MOST_MIXED:
            lead, second = ranks // _BYTES, ranks % _BYTES
        elif tokens.size > _BYTES:
            long = tokens.size - _BYTES + 1  # tokens that share a lead byte
            before = np.concatenate([[0], np.cumsum(counts[tokens])])
            first = int(np.argmin(before[long:] - before[:-long]))
            inside = (ranks >= first) & (ranks < first + long)
            lead = np.where(inside, first, np.where(ranks < first, ranks, ranks - long + 1))
            second = np.where(inside, ranks - first, -1)
        code = cls(
            lead=np.zeros(IDS, np.uint8),
            second=np.full(IDS, -1, np.int16),
            num_long=int(counts[tokens[second >= 0]].sum()),
        )
        code.lead[tokens] = lead
        code.second[tokens] = second
        return code

    def num_bytes(self, num_tokens: int) -> int:
        """Return the bytes of the coded stream of a number of tokens."""
        return num_tokens + self.num_long
