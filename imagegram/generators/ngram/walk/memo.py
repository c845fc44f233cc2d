"""The next tokens of intervals, counted, and remembered for large intervals.

With short contexts the same huge intervals return millions of times: counting their next tokens
again would dominate everything. A first rank and a depth name an interval exactly, and a class its
candidates, so a look-up compares one number. Each worker keeps its own memo (no locks, no waiting);
a full one forgets everything and starts again. Nothing here changes a result.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Knobs, cut_improbable, keep_most, weight
from imagegram.generators.ngram.walk.bounds import (
    BITS,
    SHIFT,
    below_bit,
    blocks_with_splits,
    from_bit,
    lowest,
    splits_in,
)
from imagegram.generators.ngram.walk.order import (
    Walk,
    ends_stream,
    is_separator,
    place_at,
    token,
)
from imagegram.indexes.kernels.memory import prefetch
from imagegram.indexes.kernels.search import Int

_VOCABULARY: Final = 65536
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
#: Intervals with fewer places are counted again each time: that is as fast as remembering.
FREQUENT: Final = 64
#: Intervals that one memo holds at most.
MAX_ENTRIES: Final = 1 << 16
_GROUPS_PER_ENTRY: Final = 32
#: Places from which on ``minima`` is asked which of them to look at.
_WIDE: Final = 256
#: Counts whose weights are computed once.
_SMALL: Final = 64
#: Relative difference that rounding does not make.
_CLEARLY: Final = 1e-12
#: Columns of ``Memo.entries``.
_KEY: Final = 0  # first rank << 28 | class << 16 | length
START: Final = 1  # its groups in the pools are START ... END - 1; none when candidates are too few
END: Final = 2
CANDIDATES: Final = 3
#: Classes that a key can tell apart.
MAX_CLASSES: Final = 1 << 12


class Memo(NamedTuple):
    """E entries, found by open addressing; their groups lie in G-sized pools, one after the other.

    What is not remembered is written behind the last entry, where the next one will overwrite it.

    Attributes:
        frequent: places from which on an interval is remembered.
        sortable: whether weights clearly ascend with counts, so that probabilities do.
        weights: (64, 64) float64 ``ngram.weight`` of every (largest, count); row 0 is for others.
        tally: (64,) int64 how many groups have each count.
        terms: (2, 64) float64 a probability, and its term of an entropy: the last for a count.
        slots: (power of two,) int32 entry, -1 when free.
        used: (2,) int64: entries, and groups in the pools.
        entries: (E, 4) int64, see the constants above.
        entropy: (E,) float64 bits.
        first: (G,) int64 first rank of each group.
        places: (G,) int64 its candidates.
        token: (G,) uint16, ascending; only when ids do not ascend with ranks, or are forced.
        probability: (G,) float64.
        cumulative: (G,) float64 sums of the probabilities, within an entry.
    """

    frequent: int
    sortable: bool
    weights: NDArray[np.float64]
    tally: NDArray[np.int64]
    terms: NDArray[np.float64]
    slots: NDArray[np.int32]
    used: NDArray[np.int64]
    entries: NDArray[np.int64]
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
    last = weights[-1]
    return Memo(
        frequent=frequent,
        sortable=bool(np.all(last[2:] - last[1:-1] > _CLEARLY * last[2:])),
        weights=weights,
        tally=np.zeros(_SMALL, dtype=np.int64),
        terms=np.full((2, _SMALL), -1.0, dtype=np.float64),
        slots=np.full(1 << (4 * entries - 1).bit_length(), -1, dtype=np.int32),
        used=np.zeros(2, dtype=np.int64),
        entries=np.empty((entries, 4), dtype=np.int64),
        entropy=np.empty(entries, dtype=np.float64),
        first=np.empty(pool, dtype=np.int64),
        places=np.empty(pool, dtype=np.int64),
        token=np.empty(pool, dtype=np.uint16),
        probability=np.empty(pool, dtype=np.float64),
        cumulative=np.empty(pool, dtype=np.float64),
    )


@njit(inline="always", cache=True, counts=False)
def _first_slot(memo: Memo, key: np.uint64) -> Int:
    mixed = key * _MIX
    return np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(memo.slots.size - 1))


@njit(inline="always", cache=True, counts=False)
def _key(lo: Int, length: Int, group: Int) -> np.uint64:
    return np.uint64(lo) << np.uint64(28) | np.uint64(group) << np.uint64(16) | np.uint64(length)


@njit(inline="always", cache=True, counts=False)
def recall(memo: Memo, lo: Int, length: Int, group: Int) -> Int:
    """Return the entry of the interval at ``lo`` that shares ``length`` tokens; -1: unknown.

    ``group`` is the class of the candidates; 0 when all are admitted.
    """
    key = _key(lo, length, group)
    slot = _first_slot(memo, key)
    while memo.slots[slot] >= 0:
        entry = np.int64(memo.slots[slot])
        if np.uint64(memo.entries[entry, _KEY]) == key:
            return entry
        slot = (slot + 1) & (memo.slots.size - 1)
    return -1


@njit(inline="always", cache=True, counts=False)
def prefetch_slot(memo: Memo, lo: Int, length: Int, group: Int) -> None:
    """Load where :func:`recall` looks first."""
    slot = _first_slot(memo, _key(lo, length, group))
    prefetch(np.uint64(memo.slots.ctypes.data) + np.uint64(4 * slot))


@njit(inline="always", cache=True, counts=False)
def prefetch_entry(memo: Memo, lo: Int, length: Int, group: Int) -> None:
    """Load the entry that :func:`recall` looks at first."""
    entry = np.int64(memo.slots[_first_slot(memo, _key(lo, length, group))])
    if entry >= 0:
        prefetch(np.uint64(memo.entries.ctypes.data) + np.uint64(32 * entry))
        prefetch(np.uint64(memo.entropy.ctypes.data) + np.uint64(8 * entry))


@njit(cache=True, nogil=True, counts=False)
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
    entry, end, key = memo.used[0], start + number, _key(lo, length, group)
    memo.entries[entry, _KEY], memo.entries[entry, CANDIDATES] = np.int64(key), total
    memo.entries[entry, START], memo.entries[entry, END] = start, end
    memo.entropy[entry] = entropy
    mass = 0.0
    for k in range(start, end):
        mass += memo.probability[k]
        memo.cumulative[k] = mass
    memo.used[0], memo.used[1] = entry + 1, end
    slot = _first_slot(memo, key)
    while memo.slots[slot] >= 0:
        slot = (slot + 1) & (memo.slots.size - 1)
    memo.slots[slot] = entry


@njit(inline="always", cache=True, counts=False)
def room(memo: Memo, size: Int) -> Int:
    """Find room for the groups of ``size`` places; forget everything when there is none."""
    if memo.used[0] == memo.entropy.size or memo.used[1] + min(size, _VOCABULARY) > memo.first.size:
        forget(memo)
    return memo.used[1]


@njit(cache=True, nogil=True, counts=False)
def forget(memo: Memo) -> None:
    """Forget all entries."""
    memo.slots[:] = -1
    memo.used[:] = 0


@njit(inline="always", cache=True, counts=False)
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
        block = rank >> SHIFT
        if hi - rank > _WIDE:  # many places share a next token: pass over blocks of one group
            wide = blocks_with_splits(walk, 0, block >> SHIFT, length + 1) & from_bit(block & BITS)
            if not wide:
                rank = ((block >> SHIFT) + 1) << (2 * SHIFT)
                continue
            block = (block & ~BITS) + lowest(wide)
            rank = max(rank, block << SHIFT)
        bits = splits_in(walk, block, length + 1) & from_bit(rank & BITS)
        if (block + 1) << SHIFT > hi:
            bits &= below_bit(hi & BITS)
        while bits:  # the next token differs from the one before: a group ends
            rank = (block << SHIFT) + lowest(bits)
            memo.first[end], memo.places[end] = since, rank - since
            end, since = end + 1, rank
            bits &= bits - np.uint64(1)
        rank = (block + 1) << SHIFT
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
            order_groups(memo, start, end)
    return end - start, hi - lo


@njit(cache=True, nogil=True, counts=False)
def name_groups(walk: Walk, memo: Memo, start: Int, end: Int, length: Int) -> None:
    """Write the tokens of groups, in the order of their ranks."""
    for k in range(start, end):
        memo.token[k] = token(walk, place_at(walk, memo.first[k]) + length)


@njit(cache=True, nogil=True)
def order_groups(memo: Memo, start: Int, end: Int) -> None:
    """Sort groups by their tokens."""
    sort_groups(memo, start, end)


@njit(cache=True, nogil=True)
def sort_groups(memo: Memo, start: Int, end: Int) -> NDArray[np.int64]:
    """Sort groups by their tokens; return where each of them stood."""
    order: NDArray[np.int64] = start + np.argsort(memo.token[start:end])
    memo.token[start:end] = memo.token[order]
    memo.first[start:end] = memo.first[order]
    memo.places[start:end] = memo.places[order]
    return order


@njit(inline="always", cache=True, counts=False)
def distribute(memo: Memo, start: Int, number: Int, knobs: Knobs) -> float:
    """Write the probabilities of the groups from ``start`` on; return their entropy in bits.

    As ``samplers/ngram.py`` defines them, but what depends on a count alone is computed once.
    """
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
    _weigh(memo, start, number, top, knobs.temperature)
    mass = 0.0
    for k in range(number):
        mass += p_K[k]
    for k in range(number):
        p_K[k] /= mass
    if 0 < knobs.top_k < number:
        keep_most(p_K, knobs.top_k, _least_kept(memo, start, number, knobs.top_k))
    if knobs.top_p < 1.0 or knobs.min_p > 0.0:
        cut_improbable(p_K, largest, knobs.top_p, knobs.min_p)
    return _entropy_bits(memo, start, number)


@njit(inline="always", cache=True, counts=False)
def _weigh(memo: Memo, start: Int, number: Int, top: Int, temperature: float) -> None:
    """Write the weights of groups of which the largest has ``top`` places."""
    if top < _SMALL:
        for k in range(start, start + number):
            memo.probability[k] = memo.weights[top, memo.places[k]]
        return
    known = memo.weights[0]  # of counts beside this one
    known[:] = -1.0
    for k in range(start, start + number):
        count = memo.places[k]
        if count >= _SMALL:
            memo.probability[k] = weight(count, top, temperature)
        else:
            if known[count] < 0.0:
                known[count] = weight(count, top, temperature)
            memo.probability[k] = known[count]


@njit(cache=True, nogil=True)
def _least_kept(memo: Memo, start: Int, number: Int, top_k: Int) -> float:
    """Find the probability that exactly ``top_k`` groups reach, or more of them equal it."""
    tally, left = memo.tally, top_k
    tally[:] = 0
    for k in range(start, start + number):
        if memo.places[k] < _SMALL:
            tally[memo.places[k]] += 1
        else:
            left -= 1
    if left <= 0 or not memo.sortable:
        p_K = memo.probability[start : start + number]
        return float(np.partition(p_K, number - top_k)[number - top_k])
    count = np.int64(_SMALL)
    while left > 0:  # probabilities ascend with counts
        count -= 1
        left -= tally[count]
    k = start
    while memo.places[k] != count:
        k += 1
    return float(memo.probability[k])


@njit(inline="always", cache=True, counts=False)
def _entropy_bits(memo: Memo, start: Int, number: Int) -> float:
    """Return what ``truncation.entropy_bits`` does; equal counts share a logarithm."""
    bits = 0.0
    for k in range(start, start + number):
        p = memo.probability[k]
        if p > 0.0:
            count = memo.places[k] & (_SMALL - 1)
            if memo.terms[0, count] != p:
                memo.terms[0, count], memo.terms[1, count] = p, p * math.log2(p)
            bits -= memo.terms[1, count]
    return bits
