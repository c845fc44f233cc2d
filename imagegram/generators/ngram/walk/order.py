"""Records of the walking kernels: an order of an index shard, and images between two steps.

See ``indexes/order.py`` for the side files; ``generators/ngram/walk/kernel.py`` walks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import load_packed, load_u16, load_u32, load_u64
from imagegram.indexes.kernels.search import Int
from imagegram.indexes.order import Order
from imagegram.records import TOKEN_BYTES

_EOS: Final = 65535


class Walk(NamedTuple):
    """Addresses and sizes of one shard in one order; whoever holds it keeps the maps alive.

    Attributes:
        tokens, table, inverse, lcp, repeat, minima: addresses of the maps.
        num_tokens: tokens of the stream, separators included.
        pointer_width, inverse_width: bytes.
        num_documents: N.
        num_separators: N, or N + 1.
        stride: tokens of a document and its separator; 0 when they differ.
        offsets: address of the byte offset of the separator before each document.
        aligned: whether ranks sort by position first.
        ascending: whether next tokens in the order of ranks ascend: all ids are below 256.
    """

    tokens: np.uint64
    table: np.uint64
    inverse: np.uint64
    lcp: np.uint64
    repeat: np.uint64
    minima: np.uint64
    num_tokens: int
    pointer_width: int
    inverse_width: int
    num_documents: int
    num_separators: int
    stride: int
    offsets: np.uint64
    aligned: bool
    ascending: bool


def make_walk(order: Order) -> Walk:
    """Return the addresses and sizes of an order."""
    shard = order.shard
    even = shard.document_length is not None
    walk = Walk(
        tokens=np.uint64(shard.tokens.ctypes.data),
        table=np.uint64(order.table.ctypes.data),
        inverse=np.uint64(order.inverse.ctypes.data),
        lcp=np.uint64(order.lcp.ctypes.data),
        repeat=np.uint64(order.repeat.ctypes.data),
        minima=np.uint64(order.minima.ctypes.data),
        num_tokens=shard.num_tokens,
        pointer_width=order.pointer_width,
        inverse_width=order.inverse_width,
        num_documents=shard.num_documents,
        num_separators=shard.num_documents + shard.has_final_separator,
        stride=(shard.document_length or 0) + 1 if even else 0,
        offsets=np.uint64(shard.offsets.ctypes.data),
        aligned=order.aligned,
        ascending=True,
    )
    return walk._replace(ascending=bool(_ascends(walk, np.uint64(shard.table.ctypes.data))))


@njit(inline="always", cache=True, counts=False)
def token(walk: Walk, i: Int) -> Int:
    """Return token ``i`` of the stream."""
    return np.int64(load_u16(walk.tokens + np.uint64(2 * i)))


@njit(inline="always", cache=True, counts=False)
def lcp(walk: Walk, rank: Int) -> Int:
    """Return the number of tokens that the suffixes of ``rank - 1`` and ``rank`` share."""
    return np.int64(load_u16(walk.lcp + np.uint64(2 * rank)))


@njit(inline="always", cache=True, counts=False)
def repeat(walk: Walk, i: Int) -> Int:
    """Return the length of the longest prefix of the suffix at ``i`` that occurs elsewhere."""
    return np.int64(load_u16(walk.repeat + np.uint64(2 * i)))


@njit(inline="always", cache=True, counts=False)
def rank_of(walk: Walk, i: Int) -> Int:
    """Return the rank of the suffix at ``i``."""
    if walk.inverse_width == 4:
        return np.int64(load_u32(walk.inverse + np.uint64(4 * i)))
    return load_packed(walk.inverse, walk.inverse_width, walk.num_tokens, i)


@njit(inline="always", cache=True, counts=False)
def place_at(walk: Walk, rank: Int) -> Int:
    """Return the stream index of the suffix of a rank."""
    if walk.pointer_width == 4:
        return np.int64(load_u32(walk.table + np.uint64(4 * rank))) >> 1
    return load_packed(walk.table, walk.pointer_width, walk.num_tokens, rank) >> 1


@njit(inline="always", cache=True, counts=False)
def ends_stream(walk: Walk, lo: Int, length: Int) -> bool:
    """Whether the first suffix of an interval of ``length`` shared tokens ends right there.

    It sorts before those that go on. In a stream that ends with a separator, this is so for the
    context of nothing but the separator only, and nothing needs to be read for all others.
    """
    if walk.num_separators > walk.num_documents and lo < walk.num_tokens - walk.num_separators:
        return False
    return bool(place_at(walk, lo) + length == walk.num_tokens)


@njit(inline="always", cache=True, counts=False)
def is_separator(walk: Walk, i: Int) -> bool:
    """Whether token ``i`` of the stream is a separator; equally long documents need no look."""
    if walk.stride > 0:
        return bool(np.uint64(i) % np.uint64(walk.stride) == 0)
    return bool(token(walk, i) == _EOS)


@njit(cache=True, nogil=True, counts=False)
def locate(walk: Walk, place: Int) -> tuple[Int, Int]:
    """Return the document of a token of the stream, and its position inside.

    A separator lies in the document that it ends.
    """
    if walk.stride > 0:
        document = (place - 1) // walk.stride
        return document, place - document * walk.stride - 1
    lo, hi = np.int64(0), np.int64(walk.num_documents)
    while hi - lo > 1:  # the last document that begins before the place
        middle = (lo + hi) >> 1
        if _start(walk, middle) < place:
            lo = middle
        else:
            hi = middle
    return lo, place - _start(walk, lo) - 1


@njit(inline="always", cache=True, counts=False)
def _start(walk: Walk, document: Int) -> Int:
    """Return the stream index of the separator before a document."""
    return np.int64(load_u64(walk.offsets + np.uint64(8 * document)) // np.uint64(TOKEN_BYTES))


@njit(cache=True, nogil=True, counts=False)
def _ascends(walk: Walk, table: np.uint64) -> bool:
    """Whether all ids are below 256 or the separator: sort keys then ascend like ids.

    ``table`` is that of the suffix order, which needs a search for every distinct token only.
    """
    rank: Int = 0
    size = walk.num_tokens
    while rank < size:
        first = token(walk, load_packed(table, walk.pointer_width, size, rank) >> 1)
        if 256 <= first < _EOS:
            return False
        end = size
        while rank < end:
            middle = (rank + end) >> 1
            if token(walk, load_packed(table, walk.pointer_width, size, middle) >> 1) == first:
                rank = middle + 1
            else:
                end = middle
    return True


#: Rows of ``Walkers.numbers``: what is known of an image between two steps, and within one.
LENGTH: Final = 0  # tokens of the context that decides
FIRST: Final = 1  # first rank of its interval; then of the places that hold the chosen token
LAST: Final = 2  # end of that interval
SIZE: Final = 3  # places that hold the chosen token
PLACE: Final = 4  # stream index of the one that it was taken from; -1: no candidate held it
RANK: Final = 5  # rank of the suffix ``LENGTH`` tokens before the place after that one; -1: unknown
MOVED: Final = 6  # whether the token was taken from elsewhere than the place after the last
DOCUMENT: Final = 7  # of PLACE
POSITION: Final = 8  # of PLACE, inside the document
TOTAL: Final = 9  # candidates
DISTINCT: Final = 10  # distinct next tokens
TOKEN: Final = 11  # chosen, or given, or FREE
ANCHOR: Final = 12  # where PLACE is -1: stream index of some place that the context precedes
GROWN: Final = 13  # whether the context is the last one and one token more; when levels matter
_NUMBERS: Final = 14
#: Rows of ``Walkers.jobs``.
CHOOSING: Final = 0
SEEKING: Final = 1
MOVING: Final = 2
#: Rows of ``Walkers.reals``.
PROBABILITY: Final = 0
ENTROPY: Final = 1
#: In the place of a token that is to be chosen, where others are given.
FREE: Final = -1


class Block(NamedTuple):
    """Rows of a job that are written together.

    Attributes:
        start: number of the first row.
        size: B, how many there are.
        forced: whether some tokens of some rows are given.
        until: (rows of the job,) int64 how many first tokens of every row are.
        seed: seed of the job.
        samples: (rows of the job,) sample ids.
    """

    start: int
    size: int
    forced: bool
    until: NDArray[np.int64]
    seed: np.uint64
    samples: NDArray[np.uint64]


class Walkers(NamedTuple):
    """B images that take every step together.

    Attributes:
        numbers: (14, B) int64, see the constants above.
        reals: (2, B) float64 probability of the token, entropy in bits.
        history: (B, T + 1) uint16 the separator and the tokens so far.
        jobs: (3, B) int64 images that must choose; those of them of whose context a place is known
            only; and images that moved.
    """

    numbers: NDArray[np.int64]
    reals: NDArray[np.float64]
    history: NDArray[np.uint16]
    jobs: NDArray[np.int64]


def make_walkers(size: int, num_tokens: int) -> Walkers:
    """Make room for B images of T tokens."""
    history = np.zeros((size, num_tokens + 1), dtype=np.uint16)
    history[:, 0] = _EOS
    return Walkers(
        numbers=np.zeros((_NUMBERS, size), dtype=np.int64),
        reals=np.zeros((2, size), dtype=np.float64),
        history=history,
        jobs=np.zeros((3, size), dtype=np.int64),
    )
