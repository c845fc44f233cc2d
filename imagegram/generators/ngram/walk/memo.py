"""The next tokens of intervals, counted, and remembered for large intervals.

With short contexts the same huge intervals return millions of times: counting their next tokens
again would dominate everything. A first rank and a depth name an interval exactly, and a class its
candidates, so a look-up compares one number. Each worker keeps its own memo (no locks, no waiting);
a full one forgets everything and starts again. Nothing here changes a result.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs, entropy_bits, truncate, weight
from imagegram.generators.ngram.walk.order import (
    Walk,
    ends_stream,
    is_separator,
    lcp,
    minimum,
    place_at,
    token,
)
from imagegram.indexes.kernels.search import Int
from imagegram.indexes.order import MINIMA_FANOUT

_VOCABULARY: Final = 65536
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
#: Intervals with fewer places are counted again each time: that is as fast as remembering.
FREQUENT: Final = 64
#: Intervals that one memo holds at most.
MAX_ENTRIES: Final = 1 << 16
_GROUPS_PER_ENTRY: Final = 32
#: Counts whose weights are computed once.
_SMALL: Final = 64
#: Classes that a key can tell apart.
MAX_CLASSES: Final = 1 << 12


class Memo(NamedTuple):
    """E entries, found by open addressing; their groups lie in G-sized pools, one after the other.

    What is not remembered is written behind the last entry, where the next one will overwrite it.

    Attributes:
        frequent: places from which on an interval is remembered.
        weights: (64, 64) float64 ``ngram.weight`` of every (largest, count).
        slots: (power of two,) int32 entry, -1 when free.
        used: (2,) int64: entries, and groups in the pools.
        key: (E,) uint64 first rank << 28 | class << 16 | length.
        start: (E + 1,) int64: the groups of an entry lie at ``start[e] ... start[e + 1]``; none
            when its candidates are too few.
        total: (E,) int64 candidates.
        entropy: (E,) float64 bits.
        first: (G,) int64 first rank of each group.
        places: (G,) int64 its candidates.
        token: (G,) uint16, ascending; only when ids do not ascend with ranks, or are forced.
        probability: (G,) float64.
        cumulative: (G,) float64 sums of the probabilities, within an entry.
    """

    frequent: int
    weights: NDArray[np.float64]
    slots: NDArray[np.int32]
    used: NDArray[np.int64]
    key: NDArray[np.uint64]
    start: NDArray[np.int64]
    total: NDArray[np.int64]
    entropy: NDArray[np.float64]
    first: NDArray[np.int64]
    places: NDArray[np.int64]
    token: NDArray[np.uint16]
    probability: NDArray[np.float64]
    cumulative: NDArray[np.float64]


def make_memo(temperature: float, *, frequent: int = FREQUENT, entries: int = MAX_ENTRIES) -> Memo:
    """Make an empty memo; its memory is touched only as it fills: 34 bytes a group."""
    pool = max(entries * _GROUPS_PER_ENTRY, _VOCABULARY + 1)
    weights = np.ones((_SMALL, _SMALL), dtype=np.float64)
    if temperature > 0.0:
        for top in range(1, _SMALL):
            for count in range(1, top):
                weights[top, count] = weight(count, top, temperature)
    return Memo(
        frequent=frequent,
        weights=weights,
        slots=np.full(1 << (4 * entries - 1).bit_length(), -1, dtype=np.int32),
        used=np.zeros(2, dtype=np.int64),
        key=np.empty(entries, dtype=np.uint64),
        start=np.zeros(entries + 1, dtype=np.int64),
        total=np.empty(entries, dtype=np.int64),
        entropy=np.empty(entries, dtype=np.float64),
        first=np.empty(pool, dtype=np.int64),
        places=np.empty(pool, dtype=np.int64),
        token=np.empty(pool, dtype=np.uint16),
        probability=np.empty(pool, dtype=np.float64),
        cumulative=np.empty(pool, dtype=np.float64),
    )


@njit(inline="always", cache=True)
def _first_slot(memo: Memo, key: np.uint64) -> Int:
    mixed = key * _MIX
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(memo.slots.size - 1))


@njit(inline="always", cache=True)
def _key(lo: Int, length: Int, group: Int) -> np.uint64:
    return np.uint64(lo) << np.uint64(28) | np.uint64(group) << np.uint64(16) | np.uint64(length)


@njit(inline="always", cache=True)
def recall(memo: Memo, lo: Int, length: Int, group: Int) -> Int:
    """Return the entry of the interval at ``lo`` that shares ``length`` tokens; -1: unknown.

    ``group`` is the class of the candidates; 0 when all are admitted.
    """
    key = _key(lo, length, group)
    slot = _first_slot(memo, key)
    while memo.slots[slot] >= 0:
        entry = np.int64(memo.slots[slot])
        if memo.key[entry] == key:
            return entry
        slot = (slot + 1) & (memo.slots.size - 1)
    return -1


@njit(cache=True, nogil=True)
def remember(
    memo: Memo,
    lo: Int,
    length: Int,
    group: Int,
    start: Int,
    number: Int,
    total: Int,
    entropy: float,
) -> None:
    """Keep the ``number`` groups behind the last entry, which begin at ``start``."""
    entry, end = memo.used[0], start + number
    memo.key[entry], memo.total[entry] = _key(lo, length, group), total
    memo.entropy[entry] = entropy
    memo.start[entry], memo.start[entry + 1] = start, end
    mass = 0.0
    for k in range(start, end):
        mass += memo.probability[k]
        memo.cumulative[k] = mass
    memo.used[0], memo.used[1] = entry + 1, end
    slot = _first_slot(memo, memo.key[entry])
    while memo.slots[slot] >= 0:
        slot = (slot + 1) & (memo.slots.size - 1)
    memo.slots[slot] = entry


@njit(inline="always", cache=True)
def room(memo: Memo, size: Int) -> Int:
    """Find room for the groups of ``size`` places; forget everything when there is none."""
    if memo.used[0] == memo.key.size or memo.used[1] + min(size, _VOCABULARY) > memo.first.size:
        forget(memo)
    return memo.used[1]


@njit(cache=True, nogil=True)
def forget(memo: Memo) -> None:
    """Forget all entries."""
    memo.slots[:] = -1
    memo.used[:] = 0


@njit(cache=True, nogil=True)
def count_groups(
    walk: Walk, memo: Memo, start: Int, lo: Int, hi: Int, length: Int, named: bool, ends: bool
) -> tuple[Int, Int]:
    """Write the groups of next tokens of an interval of suffixes that share ``length`` tokens.

    A suffix that ends with the stream, the first one, is no candidate, and the group of the
    separator, the last one, only where ``ends``. ``named``: write their tokens too, ascending.

    Returns:
        Number of groups, written from ``start`` on, and candidates in all of them.
    """
    if not walk.aligned and ends_stream(walk, lo, length):
        lo += 1
        if lo == hi:
            return 0, 0
    end, since, rank = start, lo, lo + 1
    while rank < hi:
        if lcp(walk, rank) <= length:  # the next token differs from the one before: a group ends
            memo.first[end], memo.places[end] = since, rank - since
            end, since = end + 1, rank
        elif rank % MINIMA_FANOUT == 0:
            while rank + MINIMA_FANOUT <= hi and minimum(walk, 0, rank // MINIMA_FANOUT) > length:
                rank += MINIMA_FANOUT  # all of the same group
            if rank >= hi or lcp(walk, rank) <= length:
                continue
        rank += 1
    memo.first[end], memo.places[end] = since, hi - since  # the last group ends with the interval
    end += 1
    if (
        not walk.aligned
        and not (ends and length > 0)
        and is_separator(walk, place_at(walk, hi - 1) + length)
    ):
        end, hi = end - 1, since
    if named:
        name_groups(walk, memo, start, end, length)
        if not walk.ascending:
            sort_groups(memo, start, end)
    return end - start, hi - lo


@njit(cache=True, nogil=True)
def name_groups(walk: Walk, memo: Memo, start: Int, end: Int, length: Int) -> None:
    """Write the tokens of groups, in the order of their ranks."""
    for k in range(start, end):
        memo.token[k] = token(walk, place_at(walk, memo.first[k]) + length)


@njit(cache=True, nogil=True)
def sort_groups(memo: Memo, start: Int, end: Int) -> NDArray[np.int64]:
    """Sort groups by their tokens; return where each of them stood."""
    order: NDArray[np.int64] = start + np.argsort(memo.token[start:end])
    memo.token[start:end] = memo.token[order]
    memo.first[start:end] = memo.first[order]
    memo.places[start:end] = memo.places[order]
    return order


@njit(inline="always", cache=True)
def distribute(memo: Memo, start: Int, number: Int, knobs: Knobs) -> float:
    """Write the probabilities of the groups from ``start`` on; return their entropy in bits."""
    largest: Int = 0
    for k in range(1, number):
        if memo.places[start + k] > memo.places[start + largest]:
            largest = k
    top = memo.places[start + largest]
    p_K = memo.probability[start : start + number]
    if knobs.temperature == 0.0:
        p_K[:] = 0.0
        p_K[largest] = 1.0
        return 0.0
    if number == 1:
        p_K[0] = 1.0
        return 0.0
    if top < _SMALL:
        for k in range(number):
            p_K[k] = memo.weights[top, memo.places[start + k]]
    else:
        for k in range(number):
            p_K[k] = weight(memo.places[start + k], top, knobs.temperature)
    truncate(p_K, largest, knobs.top_k, knobs.top_p, knobs.min_p)
    return float(entropy_bits(p_K))
