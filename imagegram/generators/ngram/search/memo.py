"""A memory of the distributions behind frequent contexts, each computed once.

With short contexts the same huge intervals return millions of times: counting their next tokens
again would dominate everything. Each worker keeps its own memo (no locks, no waiting). A key is
the suffix itself, its matching class, and what is asked of documents; the entry remembers one
candidate, so that a look-up compares tokens instead of trusting a hash. A full memo forgets
everything and starts again. Nothing here changes a result.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.kernels import Work
from imagegram.generators.ngram.search.carry import copy_ranks
from imagegram.generators.ngram.search.step import (
    Search,
    Step,
    begins,
    locate_next,
    match,
)
from imagegram.indexes.kernels.search import Int, ShardViews, pointer_at

#: Contexts with fewer candidates are counted again each time: that is as fast as remembering.
FREQUENT: Final = 64
#: Longer suffixes are not remembered.
MAX_LENGTH: Final = 64
#: Contexts that one memo holds at most.
MAX_ENTRIES: Final = 1 << 16
_TOKENS_PER_ENTRY: Final = 64
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


class Memo(NamedTuple):
    """E entries over S shards, found by open addressing.

    Attributes:
        frequent: candidates from which on a context is remembered.
        slots: (power of two,) int32 entry number, -1 when free.
        used: (2,) int64: entries, and tokens in the pools.
        length: (E,) int64 suffix length.
        group: (E,) int64 matching class.
        anchor: (E,) int64 first tokens that documents share with the row.
        label: (E,) int64 label of the documents; -1: any.
        shard: (E,) int64 shard of one candidate.
        at: (E,) int64 its place in the stream.
        start: (E + 1,) int64: an entry's tokens lie at ``start[e] ... start[e + 1]``.
        num_contexts: (E,) int64 candidates.
        entropy: (E,) float64 bits.
        intervals: (E, 2, S) int64 first and last rank of the candidates.
        tokens: pool of distinct next tokens, ascending.
        counts: pool of their counts.
        probabilities: pool of their probabilities under the sampler.
    """

    frequent: int
    slots: NDArray[np.int32]
    used: NDArray[np.int64]
    length: NDArray[np.int64]
    group: NDArray[np.int64]
    anchor: NDArray[np.int64]
    label: NDArray[np.int64]
    shard: NDArray[np.int64]
    at: NDArray[np.int64]
    start: NDArray[np.int64]
    num_contexts: NDArray[np.int64]
    entropy: NDArray[np.float64]
    intervals: NDArray[np.int64]
    tokens: NDArray[np.uint16]
    counts: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def make_memo(num_shards: int, *, frequent: int = FREQUENT, entries: int = MAX_ENTRIES) -> Memo:
    """Make an empty memo of S shards; its memory is touched only as it fills."""
    pool = max(entries * _TOKENS_PER_ENTRY, 1 << 16)
    return Memo(
        frequent=frequent,
        slots=np.full(1 << (4 * entries - 1).bit_length(), -1, dtype=np.int32),
        used=np.zeros(2, dtype=np.int64),
        length=np.empty(entries, dtype=np.int64),
        group=np.empty(entries, dtype=np.int64),
        anchor=np.empty(entries, dtype=np.int64),
        label=np.empty(entries, dtype=np.int64),
        shard=np.empty(entries, dtype=np.int64),
        at=np.empty(entries, dtype=np.int64),
        start=np.zeros(entries + 1, dtype=np.int64),
        num_contexts=np.empty(entries, dtype=np.int64),
        entropy=np.empty(entries, dtype=np.float64),
        intervals=np.empty((entries, 2, num_shards), dtype=np.int64),
        tokens=np.empty(pool, dtype=np.uint16),
        counts=np.empty(pool, dtype=np.int64),
        probabilities=np.empty(pool, dtype=np.float64),
    )


@njit(inline="always", counts=False)
def _mix(mixed: np.uint64, token: np.uint16) -> np.uint64:
    """Mix a token into a hash."""
    mixed = (mixed ^ np.uint64(token)) * _MIX
    return mixed ^ (mixed >> np.uint64(29))


@njit(cache=True, nogil=True, counts=False)
def _first_slot(memo: Memo, step: Step, length: Int, group: Int) -> Int:
    """Return where the search for the last ``length`` tokens before a step begins."""
    mixed = (np.uint64(length) << np.uint64(32)) + np.uint64(group)
    mixed += np.uint64(step.label + 1) << np.uint64(48)
    for i in range(step.t + 1 - length, step.t + 1):
        mixed = _mix(mixed, step.history[i])
    for i in range(1, step.anchor + 1):
        mixed = _mix(mixed, step.history[i])
    return np.int64(mixed & np.uint64(memo.slots.size - 1))


@njit(inline="always", counts=False)
def _begins_alike(views: ShardViews, s: Int, index: Int, step: Step) -> bool:
    """Whether the document of a next token begins with the anchor of a step."""
    if step.anchor == 0:
        return True
    position = locate_next(views, s, index)[1]
    return begins(views, s, index - position - 1, step)


@njit(cache=True, nogil=True, counts=False)
def recall(memo: Memo, views: ShardViews, step: Step, length: Int, group: Int) -> Int:
    """Return the entry of the last ``length`` tokens before a step, among its documents; or -1.

    ``group`` is the matching class of the step.
    """
    if length > MAX_LENGTH or memo.used[0] == 0:
        return -1
    slot = _first_slot(memo, step, length, group)
    while memo.slots[slot] >= 0:
        entry = np.int64(memo.slots[slot])
        # Hashes may collide: the remembered place decides.
        if (
            memo.length[entry] == length
            and memo.group[entry] == group
            and memo.anchor[entry] == step.anchor
            and memo.label[entry] == step.label
            and match(views, memo.shard[entry], memo.at[entry], step, length) == length
            and _begins_alike(views, memo.shard[entry], memo.at[entry], step)
        ):
            return entry
        slot = (slot + 1) & (memo.slots.size - 1)
    return -1


@njit(cache=True, nogil=True, counts=False)
def first_next(views: ShardViews, ranks: NDArray[np.int64], length: Int) -> tuple[Int, Int]:
    """Return the shard of the first place that (2, S) ranks hold, and what is behind it."""
    s = np.int64(0)
    while ranks[0, s] == ranks[1, s]:
        s += 1
    return s, pointer_at(views, s, ranks[0, s]) + length


@njit(cache=True, nogil=True, counts=False)
def forget(memo: Memo) -> None:
    """Forget all entries."""
    for slot in range(memo.slots.size):
        memo.slots[slot] = -1
    memo.used[0], memo.used[1] = 0, 0


@njit(cache=True, nogil=True, counts=False)
def remember(
    memo: Memo,
    search: Search,
    work: Work,
    step: Step,
    key: tuple[Int, Int, Int],
    num_contexts: Int,
    entropy: float,
    tokens_K: NDArray[np.uint16],
    counts_K: NDArray[np.int64],
    p_K: NDArray[np.float64],
) -> None:
    """Add what :func:`recall` did not find; forget everything first when there is no room.

    The ``key`` is a shard, the place in it of one of the candidates, and the tokens before it that
    decide.
    """
    shard, at, length = key
    size = tokens_K.size
    if length > MAX_LENGTH or size > memo.tokens.size:
        return
    # Forgetting all is as simple as right: what is frequent comes back at once.
    if memo.used[0] == memo.length.size or memo.used[1] + size > memo.tokens.size:
        forget(memo)
    entry, start, group = memo.used[0], memo.used[1], np.int64(search.knobs.classes[step.t])
    memo.length[entry], memo.group[entry] = length, group
    memo.anchor[entry], memo.label[entry] = step.anchor, step.label
    memo.shard[entry], memo.at[entry] = shard, at
    memo.num_contexts[entry], memo.entropy[entry] = num_contexts, entropy
    copy_ranks(work.kept, memo.intervals[entry])
    memo.start[entry], memo.start[entry + 1] = start, start + size
    for k in range(size):
        memo.tokens[start + k], memo.counts[start + k] = tokens_K[k], counts_K[k]
        memo.probabilities[start + k] = p_K[k]
    memo.used[0], memo.used[1] = entry + 1, start + size
    slot = _first_slot(memo, step, length, group)
    while memo.slots[slot] >= 0:
        slot = (slot + 1) & (memo.slots.size - 1)
    memo.slots[slot] = entry
