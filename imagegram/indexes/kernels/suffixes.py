"""Sorting the suffixes of token rows, compiled, so that queries are in the order of a shard.

All suffixes of many rows are first grouped by their first two tokens, then every group (it fits
into the processor's cache) is sorted by four tokens at a time. Suffixes end with their row; one
that ends sorts before those that go on, as in the shards.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.kernels.memory import leading_zeros, load_swapped_u16, load_swapped_u64
from imagegram.indexes.kernels.search import Int, sort_key

#: Tokens that are compared at a time: eight bytes.
STEP: Final = 4
#: Number of tokens by which suffixes are sorted and compared: two of the group and 16 steps.
DEPTH: Final = 2 + 16 * STEP
#: Largest group that is sorted by insertion.
_FEW: Final = 12
_KEYS: Final = 65536


# ------------------------------------------------------------------------------------ four tokens


@njit(inline="always", cache=True)
def four_tokens(address: Int, available: Int) -> Int:
    """Load up to four tokens as one number that sorts like their bytes, padded with zeros."""
    if available >= STEP:
        return load_swapped_u64(address)
    value = np.uint64(0)
    for k in range(available):
        value |= load_swapped_u16(address + np.uint64(2 * k)) << np.uint64(48 - 16 * k)
    return value


@njit(inline="always", cache=True)
def equal_tokens(a: Int, b: Int) -> Int:
    """Count the first tokens, 0 ... 4, in which two numbers of :func:`four_tokens` agree."""
    return np.int64(leading_zeros(a ^ b) >> np.uint64(4))


@njit(inline="always", cache=True)
def tokens_left(position: Int, num_tokens: Int) -> Int:
    """Count the tokens from a flat position, in rows of ``num_tokens``, to the end of its row."""
    return num_tokens - np.int64(np.uint32(position) % np.uint32(num_tokens))


# ---------------------------------------------------------------------------------------- sorting


@njit(inline="always", cache=True)
def _second_key(flat: NDArray[np.uint16], i: Int, num_tokens: Int) -> Int:
    """Return 1 + sort key of the token after ``i``, or 0 at the end of a row."""
    if tokens_left(i, num_tokens) == 1:
        return np.int64(0)
    return 1 + sort_key(np.int64(flat[i + 1]))


@njit(cache=True, nogil=True)
def sort_by_pair(rows: NDArray[np.uint16], order: NDArray[np.uint32]) -> None:
    """Sort all suffixes of all rows by their first two tokens, with 4 bytes a token of scratch.

    Args:
        rows: (B, T) tokens, fewer than 2**32 of them.
        order: (B * T,) written: flat positions; a suffix of one token comes before longer ones.
    """
    flat, num_tokens = rows.ravel(), rows.shape[1]
    by_second = np.empty_like(order)
    counts = np.zeros((2, _KEYS + 2), dtype=np.int64)
    for i in range(flat.size):
        counts[0, 1 + _second_key(flat, i, num_tokens)] += 1
        counts[1, 1 + sort_key(np.int64(flat[i]))] += 1
    # Two stable counting sorts: by the second token, then by the first.
    seconds, firsts = np.cumsum(counts[0]), np.cumsum(counts[1])
    for i in range(flat.size):
        key = _second_key(flat, i, num_tokens)
        by_second[seconds[key]] = i
        seconds[key] += 1
    for i in by_second:
        key = sort_key(np.int64(flat[i]))
        order[firsts[key]] = i
        firsts[key] += 1


@njit(cache=True, nogil=True)
def sort_group(
    text: Int,
    num_tokens: Int,
    order: NDArray[np.uint32],
    keys: NDArray[np.uint64],
    shared: NDArray[np.int16],
) -> None:
    """Sort suffixes that share their first two tokens, up to :data:`DEPTH` tokens.

    Args:
        text: address of the rows.
        num_tokens: T.
        order: (n,) flat positions, sorted in place.
        keys: (n,) scratch.
        shared: (n,) written: number of tokens shared with the suffix before it, at most DEPTH; the
            first is 2.
    """
    shared[0] = 2
    # Ranges of ``order`` that agree in their first ``depth`` tokens and are still to be sorted.
    todo = [(np.int64(0), np.int64(order.size), np.int64(2))]
    while todo:
        lo, hi, depth = todo.pop()
        if hi - lo <= _FEW:
            _sort_few(text, num_tokens, order[lo:hi], shared[lo:hi], depth)
            continue
        differ = False
        for j in range(lo, hi):
            address = text + np.uint64(2 * (np.int64(order[j]) + depth))
            keys[j] = four_tokens(address, tokens_left(order[j], num_tokens) - depth)
            differ |= keys[j] != keys[lo]
        if differ:
            ranks = np.argsort(keys[lo:hi])
            keys[lo:hi] = keys[lo:hi][ranks]
            order[lo:hi] = order[lo:hi][ranks]
        end = lo
        while end < hi:
            start, end = end, end + 1
            while end < hi and keys[end] == keys[start]:
                end += 1
            full = start  # suffixes before ``full`` end within these four tokens
            if end - start > 1:
                full = _short_first(order[start:end], num_tokens, depth) + start
            if start > lo:
                left = tokens_left(order[start - 1], num_tokens)
                agree = depth + equal_tokens(keys[start - 1], keys[start])
                shared[start] = min(agree, left, tokens_left(order[start], num_tokens))
            for j in range(start + 1, min(full + 1, end)):  # the one before ends here
                shared[j] = tokens_left(order[j - 1], num_tokens)
            if depth + STEP >= DEPTH:
                shared[full + 1 : end] = DEPTH
            elif end - full > 1:
                todo.append((full, end, depth + STEP))


@njit(cache=True, nogil=True)
def compare_texts(
    a: Int, left_a: Int, b: Int, left_b: Int, depth: Int, most: Int
) -> tuple[Int, Int]:
    """Compare two runs of tokens that share their first ``depth``, up to ``most`` tokens.

    Args:
        a: address of the first run.
        left_a: its number of tokens.
        b: address of the second run.
        left_b: its number of tokens.
        depth: number of tokens known to be shared.
        most: number of shared tokens from which the runs count as equal.

    Returns:
        Shared tokens, and 1 when the second sorts before the first, else 0.
    """
    while depth < most:
        offset = np.uint64(2 * depth)
        first, second = (
            four_tokens(a + offset, left_a - depth),
            four_tokens(b + offset, left_b - depth),
        )
        agree = min(depth + equal_tokens(first, second), left_a, left_b)
        if agree < depth + STEP:
            if agree in (left_a, left_b):
                return agree, np.int64(left_b < left_a)
            return agree, np.int64(second < first)
        depth += STEP
    return np.int64(most), np.int64(0)


@njit(cache=True, nogil=True)
def _sort_few(
    text: Int, num_tokens: Int, order: NDArray[np.uint32], shared: NDArray[np.int16], depth: Int
) -> None:
    """Sort a few suffixes that share ``depth`` tokens, by insertion; keeps ``shared[0]``."""
    for j in range(1, order.size):
        new, k = order[j], j
        left, address = tokens_left(new, num_tokens), text + np.uint64(2 * np.int64(new))
        while k > 0:
            old = text + np.uint64(2 * np.int64(order[k - 1]))
            left_old = tokens_left(order[k - 1], num_tokens)
            if not compare_texts(old, left_old, address, left, depth, DEPTH)[1]:
                break
            order[k] = order[k - 1]
            k -= 1
        order[k] = new
    for j in range(1, order.size):
        first, second = np.int64(order[j - 1]), np.int64(order[j])
        shared[j] = compare_texts(
            text + np.uint64(2 * first),
            tokens_left(first, num_tokens),
            text + np.uint64(2 * second),
            tokens_left(second, num_tokens),
            depth,
            DEPTH,
        )[0]


@njit(cache=True, nogil=True)
def _short_first(order: NDArray[np.uint32], num_tokens: Int, depth: Int) -> Int:
    """Move suffixes that end before ``depth + STEP`` to the front, by length; count them."""
    short = 0
    for position in order:
        short += tokens_left(position, num_tokens) < depth + STEP
    front = 0
    for left in range(depth, depth + STEP if short else depth):
        for j in range(front, order.size):
            if tokens_left(order[j], num_tokens) == left:
                order[front], order[j] = order[j], order[front]
                front += 1
    return front
