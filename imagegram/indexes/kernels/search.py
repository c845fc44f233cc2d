"""Compiled suffix-array searches over many shards, which all fast paths use.

Kernels receive a :class:`ShardViews` and a shard number ``s``. They read the memory maps through
raw addresses: no reference counts inside parallel loops, and any number of shards of any pointer
width in one call. Whoever holds a :class:`ShardViews` must keep its shards alive.

Suffixes are in memcmp order of their little-endian bytes, so tokens compare by their swapped
bytes (:func:`sort_key`), and a suffix that ends sorts before all that continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.errors import IndexFormatError
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels.memory import load_packed, load_u16, load_u64

#: Number of buckets of first tokens: every uint16, in sort order.
_KEYS: Final = 65536
#: Number of classes of a byte-valued stream (0 ... 255 and the separator), in sort order.
CLASSES: Final = 257
_EOS: Final = 65535

#: Integers inside kernels: compiled as int64, int or np.int64 to a type checker.
Int: TypeAlias = Any


class ShardViews(NamedTuple):
    """S shards as plain arrays; made by :func:`shard_views`.

    Attributes:
        token_address: (S,) uint64 address of the uint16 stream.
        table_address: (S,) uint64 address of the packed pointers.
        num_tokens: (S,) int64, separators included.
        pointer_width: (S,) int64 bytes.
        offset_address: (S,) uint64 address of the byte offsets of the documents.
        first_document: (S,) int64 global id of the first document.
        num_documents: (S,) int64.
        stride: (S,) int64 tokens of a document and its separator; 0 when they differ.
        firsts: (S, 65537) int64: ranks ``firsts[s, k] ... firsts[s, k + 1]`` hold the suffixes
            whose first token has sort key ``k``.
        pairs: (S, 257 * 257) int64 first rank of each pair of classes, or (S, 0) when a shard has
            ids between 256 and 65534.
    """

    token_address: NDArray[np.uint64]
    table_address: NDArray[np.uint64]
    num_tokens: NDArray[np.int64]
    pointer_width: NDArray[np.int64]
    offset_address: NDArray[np.uint64]
    first_document: NDArray[np.int64]
    num_documents: NDArray[np.int64]
    stride: NDArray[np.int64]
    firsts: NDArray[np.int64]
    pairs: NDArray[np.int64]


def shard_views(shards: Sequence[IndexShard]) -> ShardViews:
    """Collect addresses and sizes, and compute the prefix buckets (0.1 s a shard).

    Raises:
        IndexFormatError: when there is no shard at all.
    """
    if not shards:
        raise IndexFormatError("an index needs at least one shard; none was given")
    documents = np.array([shard.num_documents for shard in shards], dtype=np.int64)
    lengths = [shard.document_length for shard in shards]
    views = ShardViews(
        token_address=np.array([s.tokens.ctypes.data for s in shards], dtype=np.uint64),
        table_address=np.array([s.table.ctypes.data for s in shards], dtype=np.uint64),
        num_tokens=np.array([s.num_tokens for s in shards], dtype=np.int64),
        pointer_width=np.array([s.pointer_width for s in shards], dtype=np.int64),
        offset_address=np.array([s.offsets.ctypes.data for s in shards], dtype=np.uint64),
        first_document=np.cumsum(documents) - documents,
        num_documents=documents,
        stride=np.array([0 if n is None else n + 1 for n in lengths], dtype=np.int64),
        firsts=np.zeros((len(shards), _KEYS + 1), dtype=np.int64),
        pairs=np.zeros((len(shards), 0), dtype=np.int64),
    )
    numbers = range(len(shards))
    with ThreadPoolExecutor() as pool:
        byte_valued = all(list(pool.map(lambda s: bool(_fill_firsts(views, s)), numbers)))
        if byte_valued:
            pairs = np.zeros((len(shards), CLASSES * CLASSES), dtype=np.int64)
            views = views._replace(pairs=pairs)
            list(pool.map(lambda s: _fill_pairs(views, s), numbers))
    return views


# ------------------------------------------------------------------------------------ raw memory


@njit(inline="always", cache=True, counts=False)
def token_at(views: ShardViews, s: Int, i: Int) -> Int:
    """Return token ``i`` of the stream of shard ``s``."""
    return np.int64(load_u16(views.token_address[s] + np.uint64(2 * i)))


@njit(inline="always", cache=True, counts=False)
def pointer_at(views: ShardViews, s: Int, rank: Int) -> Int:
    """Return the stream position, in tokens, of the suffix of a rank."""
    table, width = views.table_address[s], views.pointer_width[s]
    return load_packed(table, width, views.num_tokens[s], rank) >> 1


@njit(inline="always", cache=True, counts=False)
def separator_at(views: ShardViews, s: Int, document: Int) -> Int:
    """Return the stream position of the separator before a document, counted in its shard."""
    address = views.offset_address[s] + np.uint64(8 * document)
    return np.int64(load_u64(address) >> np.uint64(1))


@njit(cache=True, nogil=True, counts=False)
def locate(views: ShardViews, s: Int, i: Int) -> tuple[Int, Int]:
    """Return the global document of token ``i`` and the position in it, -1 for its separator.

    The final separator is the last document's position ``len(document)``; -1, -1 without documents.
    """
    stride = views.stride[s]
    if stride > 0:  # equally long documents need no search
        document = min(i // stride, views.num_documents[s] - 1)
        return views.first_document[s] + document, i - document * stride - 1
    lo: Int = 0
    hi: Int = views.num_documents[s]
    while lo < hi:
        mid = (lo + hi) >> 1
        if separator_at(views, s, mid) <= i:
            lo = mid + 1
        else:
            hi = mid
    if lo == 0:
        return np.int64(-1), np.int64(-1)
    return views.first_document[s] + lo - 1, i - separator_at(views, s, lo - 1) - 1


# --------------------------------------------------------------------------------------- searches


@njit(inline="always", cache=True, counts=False)
def sort_key(token: Int) -> Int:
    """Return the sort key of a token in table order: its two bytes swapped."""
    return ((token & 255) << 8) | (token >> 8)


@njit(inline="always", cache=True, counts=False)
def key_at(views: ShardViews, s: Int, i: Int) -> Int:
    """Return the sort key of token ``i`` of the stream; -1 at its end."""
    if i >= views.num_tokens[s]:
        return -1
    return sort_key(token_at(views, s, i))


@njit(cache=True, nogil=True, counts=False)
def upper_bound(views: ShardViews, s: Int, lo: Int, hi: Int, depth: Int, key: Int) -> Int:
    """Return the first rank of [lo, hi) whose key at ``depth`` exceeds ``key``, else hi."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if key_at(views, s, pointer_at(views, s, mid) + depth) <= key:
            lo = mid + 1
        else:
            hi = mid
    return lo


@njit(cache=True, nogil=True, counts=False)
def group_end(views: ShardViews, s: Int, lo: Int, hi: Int, depth: Int, key: Int) -> Int:
    """Return :func:`upper_bound`, by galloping from ``lo``: fast for small groups."""
    step = 1
    while lo + step < hi and key_at(views, s, pointer_at(views, s, lo + step) + depth) <= key:
        lo += step
        step <<= 1
    return upper_bound(views, s, lo, min(lo + step, hi), depth, key)


@njit(cache=True, nogil=True, counts=False)
def narrow(views: ShardViews, s: Int, lo: Int, hi: Int, depth: Int, token: Int) -> tuple[Int, Int]:
    """Narrow an interval to the suffixes that continue with ``token``.

    Args:
        views: the shards.
        s: shard.
        lo: first rank; all suffixes of [lo, hi) share their first ``depth`` tokens.
        hi: end of the interval.
        depth: number of tokens that they share.
        token: the next token.

    Returns:
        Ranks [lo, hi) of the suffixes whose token at ``depth`` is ``token``; empty when lo == hi.
    """
    key = sort_key(token)
    lo = upper_bound(views, s, lo, hi, depth, key - 1)
    if lo < hi and key_at(views, s, pointer_at(views, s, lo) + depth) == key:
        return lo, group_end(views, s, lo, hi, depth, key)
    return lo, lo


@njit(inline="always", cache=True, counts=False)
def token_class(token: Int) -> Int:
    """Return the class of a token in a byte-valued stream, or -1 if no such stream holds it."""
    if token < 256:
        return token
    return 256 if token == _EOS else -1


@njit(cache=True, nogil=True, counts=False)
def prefix_bucket(
    views: ShardViews, s: Int, ids: NDArray[np.uint16], start: Int, end: Int
) -> tuple[Int, Int, Int]:
    """Look up the interval of the first one or two tokens of ``ids[start:end]``.

    Returns:
        lo, hi and the number of tokens that they share: 0 (empty query), 1 or 2.
    """
    if start >= end:
        return 0, views.num_tokens[s], 0
    key = sort_key(np.int64(ids[start]))
    lo, hi = views.firsts[s, key], views.firsts[s, key + 1]
    if end - start == 1 or lo == hi or views.pairs.shape[1] == 0:
        return lo, hi, 1
    a, b = token_class(np.int64(ids[start])), token_class(np.int64(ids[start + 1]))
    if b < 0:
        return lo, lo, 2
    cell = a * CLASSES + b
    return views.pairs[s, cell], views.pairs[s, cell + 1] if b < CLASSES - 1 else hi, 2


@njit(cache=True, nogil=True, counts=False)
def common_length(
    views: ShardViews, s: Int, position: Int, ids: NDArray[np.uint16], start: Int, end: Int
) -> Int:
    """Count the tokens that ``ids[start:end]`` shares with the stream from ``position`` on."""
    most = min(end - start, views.num_tokens[s] - position)
    address = views.token_address[s] + np.uint64(2 * position)
    length = 0
    while length < most and load_u16(address + np.uint64(2 * length)) == ids[start + length]:
        length += 1
    return length


@njit(cache=True, nogil=True, counts=False)
def find(
    views: ShardViews, s: Int, ids: NDArray[np.uint16], start: Int, end: Int
) -> tuple[Int, Int]:
    """Find the ranks [lo, hi) of all suffixes of shard ``s`` that begin with ``ids[start:end]``.

    The empty query is found at every rank. All suffixes of an interval share the tokens that its
    first and last suffix share with the query, so these tokens are compared instead of searched.
    """
    lo, hi, depth = prefix_bucket(views, s, ids, start, end)
    length = end - start
    while lo < hi and depth < length:
        first = pointer_at(views, s, lo) + depth
        shared = common_length(views, s, first, ids, start + depth, end)
        if hi - lo > 1:
            last = pointer_at(views, s, hi - 1) + depth
            shared = min(shared, common_length(views, s, last, ids, start + depth, end))
        depth += shared
        if depth < length:
            lo, hi = narrow(views, s, lo, hi, depth, np.int64(ids[start + depth]))
            depth += 1
    return lo, hi


@njit(cache=True, nogil=True, counts=False)
def continued(views: ShardViews, s: Int, lo: Int, hi: Int, depth: Int) -> Int:
    """Return the first rank, ``lo`` or ``lo + 1``, that has a next token at ``depth``.

    At most one suffix of a shard ends exactly there, and it sorts first.
    """
    if lo < hi and pointer_at(views, s, lo) + depth >= views.num_tokens[s]:
        return lo + 1
    return lo


@njit(cache=True, nogil=True, counts=False)
def next_groups(
    views: ShardViews,
    s: Int,
    lo: Int,
    hi: Int,
    depth: Int,
    tokens: NDArray[np.uint16],
    counts: NDArray[np.uint64],
) -> Int:
    """Write every distinct token at ``depth`` and how often it occurs, in sort-key order.

    Args:
        views: the shards.
        s: shard.
        lo: first rank of an interval of suffixes that share ``depth`` tokens.
        hi: its end.
        depth: number of shared tokens.
        tokens: (min(hi - lo, 65536),) written.
        counts: like ``tokens``, written.

    Returns:
        Number of groups written; a suffix that ends at ``depth`` is in none.
    """
    number = 0
    rank = continued(views, s, lo, hi, depth)
    while rank < hi:
        token = token_at(views, s, pointer_at(views, s, rank) + depth)
        end = group_end(views, s, rank, hi, depth, sort_key(token))
        tokens[number] = token
        counts[number] = end - rank
        number += 1
        rank = end
    return number


# ---------------------------------------------------------------------------------------- buckets


@njit(cache=True, nogil=True, counts=False)
def _fill_firsts(views: ShardViews, s: Int) -> Int:
    """Fill ``views.firsts[s]``; return 1 when all ids are below 256 or the separator, else 0."""
    byte_valued, num_tokens = 1, views.num_tokens[s]
    rank: Int = 0
    key: Int = 0
    while rank < num_tokens:
        token = token_at(views, s, pointer_at(views, s, rank))
        if token_class(token) < 0:
            byte_valued = 0
        for k in range(key, sort_key(token) + 1):
            views.firsts[s, k] = rank
        key = sort_key(token) + 1
        rank = upper_bound(views, s, rank, num_tokens, 0, sort_key(token))
    for k in range(key, _KEYS + 1):
        views.firsts[s, k] = num_tokens
    return byte_valued


@njit(cache=True, nogil=True, counts=False)
def _fill_pairs(views: ShardViews, s: Int) -> None:
    """Fill ``views.pairs[s]`` by walking over the groups of every first token."""
    for a in range(CLASSES):
        key = sort_key(_EOS if a == CLASSES - 1 else a)
        lo, hi = views.firsts[s, key], views.firsts[s, key + 1]
        rank = continued(views, s, lo, hi, 1)
        b: Int = 0
        while rank < hi:
            second = token_at(views, s, pointer_at(views, s, rank) + 1)
            for k in range(b, token_class(second) + 1):
                views.pairs[s, a * CLASSES + k] = rank
            b = token_class(second) + 1
            rank = group_end(views, s, rank, hi, 1, sort_key(second))
        for k in range(b, CLASSES):
            views.pairs[s, a * CLASSES + k] = hi
