"""Records and steps that the compiled generators share: plain arrays, and drawing one token.

Defined by ``reference.py``: tokens and trace are the same. One kernel call writes one image or a
block of them without Python's lock, so threads work side by side; images share nothing but
read-only maps, and each worker has its own scratch memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.engine import Job
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels.search import Int
from imagegram.samplers import ngram, truncation
from imagegram.samplers.ngram import matching_classes

_VOCABULARY: Final = 65536
#: Groups of places that share a next token, of all shards, whose tokens are read together.
_GROUPS: Final = 1024

#: What the functions below call, which compiled code would not know otherwise.
_PARTS: Final = (
    truncation.total,
    ngram.most_frequent,
    ngram.weight,
    truncation.keep_most,
    truncation.cut_improbable,
    truncation.truncate,
)
for _part in _PARTS:
    register_jitable(nogil=True)(_part)

weight = njit(cache=True, nogil=True)(ngram.weight)
keep_most = njit(cache=True, nogil=True)(truncation.keep_most)
cut_improbable = njit(cache=True, nogil=True)(truncation.cut_improbable)
distribution = njit(cache=True, nogil=True)(ngram.distribution)
draw = njit(cache=True, nogil=True)(truncation.draw)
entropy_bits = njit(cache=True, nogil=True)(truncation.entropy_bits)


class Knobs(NamedTuple):
    """The sampler, as numbers; see ``NgramSampler``.

    Attributes:
        needed: ``min_count``, at most the number of documents.
        limits: (T,) longest context of every position.
        classes: (T,) matching class of every position.
        filtered: whether only places of the new token's class are candidates.
        shifts: whether the place before a candidate was one for the token before: then a suffix
            that was too long stays too long.
        aligned: whether tables sort by position first: then all of an interval are candidates.
        ends: whether a separator behind at least one token of context is a candidate: it ends a
            row.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    needed: int
    count_documents: bool
    filtered: bool
    shifts: bool
    aligned: bool
    ends: bool
    limits: NDArray[np.int32]
    classes: NDArray[np.int32]


class Rows(NamedTuple):
    """(B, T) tokens and trace, written by the kernels."""

    tokens: NDArray[np.uint16]
    suffix_len: NDArray[np.uint16]
    num_contexts: NDArray[np.uint32]
    num_distinct: NDArray[np.uint16]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    source_document: NDArray[np.int32]
    source_position: NDArray[np.int32]


class Carried(NamedTuple):
    """What B rows carry from step to step, so that each can be left and gone on with.

    Attributes:
        last: (B, 2, S) int64 first and last rank of the candidates that decided the step before.
        narrowed: (B, S) bool whether they are narrowed to the token that was chosen then.
        reach: (B, S) int64 bound on how many of the last tokens each shard holds in a row before
            position 0; with each token it is one more.
        state: (B, 17) int64 what is known of the step before, see ``search/carry.py``.
        history: (B, T + 1) uint16 the separator, then what is compared of the tokens so far.
    """

    last: NDArray[np.int64]
    narrowed: NDArray[np.bool_]
    reach: NDArray[np.int64]
    state: NDArray[np.int64]
    history: NDArray[np.uint16]


class Work(NamedTuple):
    """Scratch memory of one worker, and what the row that it writes carries.

    Attributes:
        tally: (65536,) int64 counts by token; zero between uses.
        tokens: (65536,) uint16 distinct next tokens.
        counts: (65536,) int64 their counts.
        kept: (2, S) int64 first and last rank of the candidates that decide.
        trial: (2, S) int64 those of the suffix being tried.
        groups: (4, 1024) int64 places that share a next token, see ``search/carry.py``.
        hunt: (6, S) int64 shards that are searched, see ``search/contexts.py``.
        queue: (2, S) int64 shards with a known place, and those that are searched.
        stamps: (documents,) int64 when each document was last counted.
        clock: (1,) int64.
        last, narrowed, reach, state, history: of the row, see :class:`Carried`.
    """

    tally: NDArray[np.int64]
    tokens: NDArray[np.uint16]
    counts: NDArray[np.int64]
    kept: NDArray[np.int64]
    trial: NDArray[np.int64]
    groups: NDArray[np.int64]
    hunt: NDArray[np.int64]
    queue: NDArray[np.int64]
    stamps: NDArray[np.int64]
    clock: NDArray[np.int64]
    last: NDArray[np.int64]
    narrowed: NDArray[np.bool_]
    reach: NDArray[np.int64]
    state: NDArray[np.int64]
    history: NDArray[np.uint16]


def make_knobs(shards: Sequence[IndexShard], job: Job, *, aligned: bool) -> Knobs:
    """Return the sampler as numbers, for tables that are ``aligned`` or not."""
    sampler = job.sampler
    needed = min(sampler.min_count, sum(shard.num_documents for shard in shards))
    return Knobs(
        temperature=float(sampler.temperature),
        top_k=sampler.top_k or 0,
        top_p=float(sampler.top_p),
        min_p=float(sampler.min_p),
        needed=needed,
        # Aligned places are one a document, and one place is one document.
        count_documents=sampler.count_documents and not aligned and needed > 1,
        filtered=sampler.matching != "free" and not aligned,
        shifts=sampler.matching != "level",
        aligned=aligned,
        ends=job.ragged,
        limits=sampler.max_context_per_position(job.layout),
        classes=matching_classes(sampler.matching, job.layout),
    )


def make_carried(num_rows: int, num_shards: int, num_tokens: int) -> Carried:
    """Make memory for what rows of T tokens carry."""
    return Carried(
        last=np.zeros((num_rows, 2, num_shards), dtype=np.int64),
        narrowed=np.zeros((num_rows, num_shards), dtype=np.bool_),
        reach=np.zeros((num_rows, num_shards), dtype=np.int64),
        state=np.zeros((num_rows, 17), dtype=np.int64),
        history=np.zeros((num_rows, num_tokens + 1), dtype=np.uint16),
    )


def make_work(carried: Carried, num_documents: int) -> Work:
    """Make the scratch memory of one worker, for the first of its rows."""
    num_shards = carried.reach.shape[1]
    return Work(
        tally=np.zeros(_VOCABULARY, dtype=np.int64),
        tokens=np.empty(_VOCABULARY, dtype=np.uint16),
        counts=np.empty(_VOCABULARY, dtype=np.int64),
        kept=np.zeros((2, num_shards), dtype=np.int64),
        trial=np.zeros((2, num_shards), dtype=np.int64),
        groups=np.zeros((4, _GROUPS), dtype=np.int64),
        hunt=np.zeros((6, num_shards), dtype=np.int64),
        queue=np.zeros((2, num_shards), dtype=np.int64),
        stamps=np.zeros(num_documents, dtype=np.int64),
        clock=np.zeros(1, dtype=np.int64),
        last=carried.last[0],
        narrowed=carried.narrowed[0],
        reach=carried.reach[0],
        state=carried.state[0],
        history=carried.history[0],
    )


@njit(inline="always", counts=False)
def work_on(work: Work, carried: Carried, row: Int) -> Work:
    """Return the scratch memory with what another row carries."""
    return Work(
        work.tally,
        work.tokens,
        work.counts,
        work.kept,
        work.trial,
        work.groups,
        work.hunt,
        work.queue,
        work.stamps,
        work.clock,
        carried.last[row],
        carried.narrowed[row],
        carried.reach[row],
        carried.state[row],
        carried.history[row],
    )


@njit(cache=True, nogil=True)
def sort_tally(work: Work, num_distinct: Int) -> None:
    """Sort the tokens that were tallied, move their counts beside them, zero the tally."""
    tokens_K = work.tokens[:num_distinct]
    tokens_K.sort()
    for i in range(num_distinct):
        work.counts[i] = work.tally[tokens_K[i]]
        work.tally[tokens_K[i]] = 0


@njit(inline="always", counts=False)
def tally(work: Work, num_distinct: Int, token: Int, count: Int) -> Int:
    """Count a token; return the number of distinct ones."""
    if work.tally[token] == 0:
        work.tokens[num_distinct] = token
        num_distinct += 1
    work.tally[token] += count
    return num_distinct


@njit(cache=True, nogil=True, counts=False)
def choose(
    rows: Rows,
    b: Int,
    t: Int,
    forced: bool,
    uniform: float,
    tokens_K: NDArray[np.uint16],
    p_K: NDArray[np.float64],
) -> Int:
    """Write the token and its probability; return its index among the candidates or -1."""
    chosen = np.int64(draw(p_K, uniform))
    if forced:
        chosen = np.int64(np.searchsorted(tokens_K, rows.tokens[b, t]))
        if chosen == tokens_K.size or tokens_K[chosen] != rows.tokens[b, t]:
            return -1
    rows.tokens[b, t] = tokens_K[chosen]
    rows.probability[b, t] = p_K[chosen]
    return chosen


@njit(inline="always", counts=False)
def note(rows: Rows, b: Int, t: Int, length: Int, total: Int, distinct: Int, bits: float) -> None:
    """Write the trace of a step that does not depend on the token that is chosen."""
    rows.suffix_len[b, t] = length
    rows.num_contexts[b, t] = total
    rows.num_distinct[b, t] = distinct
    rows.entropy[b, t] = bits


@njit(inline="always", counts=False)
def which(count: Int, uniform: float) -> Int:
    """Return the number of the candidate, among ``count``, that a uniform selects."""
    return min(np.int64(uniform * count), count - 1)
