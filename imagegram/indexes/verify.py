"""Verify an index shard: every separator, and the table's entries and order.

Opening compares only sizes; this reads the files. The shallow form samples the table and takes
seconds; the deep form compares every neighbouring pair and proves that the table is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import IndexFormatError
from imagegram.indexes.format import IndexShard, check_files, read_pointers, rebuild
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES

_BLOCK: Final = 1 << 20


def verify(shard: IndexShard, *, deep: bool = False, samples: int = 100_000) -> None:
    """Check the contents of a shard: separators, table entries and their order.

    Args:
        shard: an open shard.
        deep: check every entry of the table, and that it is a permutation; else ``samples``
            neighbouring pairs spread evenly over the table.
        samples: how many pairs a shallow check compares.

    Raises:
        IndexFormatError: naming the first entry that is wrong.
    """
    check_files(shard)
    _check_offsets(shard)
    seen = np.zeros(shard.num_tokens if deep else 0, dtype=bool)
    for ranks in _rank_blocks(shard.num_tokens, deep=deep, samples=samples):
        pointers = read_pointers(shard, ranks.start, ranks.stop)
        if pointers.size and not 0 <= pointers.min() <= pointers.max() < shard.num_tokens:
            raise IndexFormatError(
                f"{shard.file('table')}: ranks {ranks.start} ... {ranks.stop - 1} hold a pointer "
                f"outside of the {shard.num_tokens} tokens; {rebuild(shard.path)}"
            )
        _check_parity(shard, ranks)
        _check_order(shard, ranks.start, pointers)
        if deep:
            seen[pointers] = True
    if not seen.all():
        raise IndexFormatError(
            f"{shard.file('table')} is no permutation: token {int(np.argmin(seen))} of the stream "
            f"is missing from it; {rebuild(shard.path)}"
        )


def _check_offsets(shard: IndexShard) -> None:
    """Check that the offsets are those of every separator but the final one, in order."""
    separators = np.flatnonzero(np.asarray(shard.tokens) == EOS_TOKEN_ID)
    expected = separators[: separators.size - shard.has_final_separator] * TOKEN_BYTES
    offsets = np.asarray(shard.offsets)
    for document in np.flatnonzero(offsets[: expected.size] != expected[: offsets.size])[:1]:
        raise IndexFormatError(
            f"{shard.file('offset')}: entry {document} points at byte {offsets[document]}, but "
            f"separator {document} lies at byte {expected[document]}; {rebuild(shard.path)}"
        )
    if offsets.size != expected.size:
        raise IndexFormatError(
            f"{shard.file('offset')} has {offsets.size} entries, but {expected.size} separators "
            f"begin a document; {rebuild(shard.path)}"
        )


def _check_parity(shard: IndexShard, ranks: range) -> None:
    """Check that pointers are even: we would round an odd byte position, other tools misread it."""
    width = shard.pointer_width
    lowest = np.asarray(shard.table[ranks.start * width : ranks.stop * width : width])
    for odd in np.flatnonzero(lowest % TOKEN_BYTES)[:1]:
        raise IndexFormatError(
            f"{shard.file('table')}: rank {ranks.start + int(odd)} holds an odd byte position, "
            f"which is inside a token; {rebuild(shard.path)}"
        )


def _rank_blocks(num_tokens: int, *, deep: bool, samples: int) -> Iterator[range]:
    """Yield ranges of ranks to compare; they overlap by one so that no pair is left out."""
    if deep or num_tokens <= samples:
        for start in range(0, num_tokens, _BLOCK):
            yield range(start, min(start + _BLOCK + 1, num_tokens))
        return
    for start in np.linspace(0, num_tokens - 2, samples, dtype=np.int64).tolist():
        yield range(start, start + 2)


def _check_order(shard: IndexShard, first_rank: int, pointers: NDArray[np.int64]) -> None:
    """Compare neighbouring suffixes in a window that doubles while they are still equal."""
    left, right = pointers[:-1], pointers[1:]
    open_pairs, depth, window = np.arange(len(left)), 0, 8
    while open_pairs.size:
        columns = depth + np.arange(window)
        keys_left = _keys(shard, left[open_pairs, None] + columns)
        keys_right = _keys(shard, right[open_pairs, None] + columns)
        differs = keys_left != keys_right
        first = differs.argmax(axis=1)
        rows = np.arange(len(open_pairs))
        decided = differs[rows, first]
        wrong = decided & (keys_left[rows, first] > keys_right[rows, first])
        for pair in open_pairs[wrong][:1]:
            rank = first_rank + int(pair)
            raise IndexFormatError(
                f"{shard.file('table')}: ranks {rank} and {rank + 1} are out of order; "
                f"{rebuild(shard.path)}"
            )
        same = open_pairs[left[open_pairs] == right[open_pairs]]
        for pair in same[:1]:
            raise IndexFormatError(
                f"{shard.file('table')}: ranks {first_rank + int(pair)} and the next hold the same "
                f"pointer; {rebuild(shard.path)}"
            )
        open_pairs, depth = open_pairs[~decided], depth + window
        window = min(window * 2, max(_BLOCK // max(open_pairs.size, 1), 8))


def _keys(shard: IndexShard, positions: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return sort keys of tokens: the bytes swapped, as memcmp compares them; -1 past the end."""
    inside = positions < shard.num_tokens
    tokens = np.asarray(shard.tokens)[np.where(inside, positions, 0)]
    keys: NDArray[np.int32] = np.where(inside, tokens.byteswap().astype(np.int32), -1)
    return keys
