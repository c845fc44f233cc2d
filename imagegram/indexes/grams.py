"""Counts of n-grams for smoothing: how often, after how many different tokens, and how many.

:func:`count_grams` is the definition, with dictionaries; ``kernels/grams.py`` gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.indexes.stream import DocumentStream
from imagegram.records import EOS_TOKEN_ID, Counting, GramCounts, Grams, Tokens

Gram = tuple[int, ...]
#: Counts that are told apart for the discounts: 1, 2, 3, 4.
NUM_TOLD: Final = 4


def count_grams(
    streams: Iterable[DocumentStream], longest: int, counting: Counting
) -> list[Counter[tuple[Gram, int]]]:
    """Count all n-grams of 1 ... ``longest`` tokens, by n-gram and class."""
    counts: list[Counter[tuple[Gram, int]]] = [Counter() for _ in range(longest)]
    preceded = set()
    for stream in streams:
        ids = stream.tokens.tolist()
        position = -1
        for last, token in enumerate(ids):
            position = 0 if last and ids[last - 1] == EOS_TOKEN_ID else position + 1
            if token == EOS_TOKEN_ID and not (counting.ends and last):
                continue
            cls = int(counting.class_of[position]) if counting.num_classes > 1 else 0
            for k in range(1, min(longest, last + 1) + 1):
                first = last - k + 1
                gram = tuple(ids[first : last + 1])
                if EOS_TOKEN_ID in gram[1:-1]:
                    break
                begins = k > 1 and gram[0] == EOS_TOKEN_ID
                if counting.continuations and k < longest and not begins:
                    if first == 0 or (before := (ids[first - 1], gram, cls)) in preceded:
                        continue
                    preceded.add(before)
                counts[k - 1][gram, cls] += 1
    return counts


def answer(queries: Grams, counts: Counter[tuple[Gram, int]]) -> GramCounts:
    """Answer the queries of one order from its counts."""
    sums: dict[tuple[Gram, int], list[int]] = {}
    for (gram, cls), count in counts.items():
        of_context = sums.setdefault((gram[:-1], cls), [0, 0, 0, 0])
        of_context[0] += count
        of_context[min(count, 3)] += 1
    asked = [
        (tuple(gram), cls)
        for gram, cls in zip(queries.tokens.tolist(), queries.classes.tolist(), strict=True)
    ]
    contexts = [sums.get((gram[:-1], cls), [0, 0, 0, 0]) for gram, cls in asked]
    told = Counter(counts.values())
    return GramCounts(
        own=np.array([counts[key] for key in asked], dtype=np.int64),
        contexts=np.array(contexts, dtype=np.int64).reshape(-1, 4),
        of_counts=np.array([told[count] for count in range(1, NUM_TOLD + 1)], dtype=np.int64),
    )


def different_grams(
    tokens: Tokens, classes: NDArray[np.int32]
) -> tuple[Grams, NDArray[np.integer]]:
    """Find the different n-grams among (N, k) tokens and (N,) classes.

    Returns:
        The n-grams in table order, and for each of the N its place among them.
    """
    keys = np.concatenate([tokens, classes[:, None].astype(np.uint16)], axis=1).astype("<u2")
    whole = np.ascontiguousarray(keys).view(f"V{2 * keys.shape[1]}").ravel()
    # Unstructured bytes sort as memcmp does: in the order of the suffix array.
    different, inverse = np.unique(whole, return_inverse=True)
    parts = different.view("<u2").reshape(-1, keys.shape[1])
    grams = Grams(tokens=parts[:, :-1].astype(np.uint16), classes=parts[:, -1].astype(np.int32))
    return grams, inverse.ravel()


def begin_with(queries: Sequence[Grams], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find where the queries of each order begin whose first token has at least a sort key.

    Args:
        queries: by order.
        keys: (P,) sort keys, ascending.

    Returns:
        (P, n) places among all queries, one order behind the other.
    """
    offset, columns = 0, []
    for grams in queries:
        firsts = grams.tokens[:, 0].byteswap()
        columns.append(offset + np.searchsorted(firsts, keys))
        offset += len(firsts)
    return np.stack(columns, axis=1).astype(np.int64)
