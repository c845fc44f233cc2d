"""Merging the next-token counts of shards: pure functions that every engine uses.

The context is chosen once for the whole corpus: the longest suffix whose continued occurrences,
*summed over all shards*, reach ``min_count``. Only then are the shards' counts added. (Testing
``min_count`` shard by shard would make the answer depend on how the corpus was cut.)

>>> contexts = [9, 5, 5, 2, 0]
>>> longest_supported(contexts.__getitem__, limit=4, min_count=2)
3
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from imagegram.records import NextTokenDist, Tokens


def longest_supported(support: Callable[[int], int], *, limit: int, min_count: int) -> int:
    """Return the largest length of at most ``limit`` with enough support; 0 if none has.

    Args:
        support: occurrences, over all shards, of the suffix of a length; decreasing in length.
        limit: longest length allowed.
        min_count: fewest occurrences wanted.
    """
    good, step = 0, 1
    while good + step <= limit and support(good + step) >= min_count:
        good += step
        step *= 2
    bad = min(good + step, limit + 1)
    while good + 1 < bad:
        middle = (good + bad) // 2
        if support(middle) >= min_count:
            good = middle
        else:
            bad = middle
    return good


def merge_next_tokens(
    parts: Sequence[tuple[Tokens, NDArray[np.uint64]]], *, suffix_len: int
) -> NextTokenDist:
    """Add the next-token counts of one context over shards.

    Args:
        parts: per shard: distinct next tokens in any order, and their counts.
        suffix_len: length of the context.

    Returns:
        The distribution, tokens ascending.
    """
    tokens = np.concatenate([tokens for tokens, _ in parts] or [np.empty(0, np.uint16)])
    counts = np.concatenate([counts for _, counts in parts] or [np.empty(0, np.uint64)])
    distinct, place = np.unique(tokens, return_inverse=True)
    summed = np.zeros(distinct.size, dtype=np.uint64)
    np.add.at(summed, place, counts.astype(np.uint64))
    return NextTokenDist(
        suffix_len=suffix_len,
        num_contexts=int(summed.sum()),
        tokens=distinct.astype(np.uint16),
        counts=summed,
    )
