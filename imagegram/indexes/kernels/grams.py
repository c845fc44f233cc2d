"""Counts of n-grams and of what stands before them, compiled: one walk over the sorted suffixes.

The suffixes of a shard that begin with the same tokens lie side by side, so every n-gram of every
order is open while the walk passes its suffixes, and closed for ever behind them. Shards are merged
as they are walked. Nothing is kept but answers to the queries, which have the same order: memory
does not grow with the corpus.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.indexes.grams import NUM_TOLD
from imagegram.indexes.kernels.search import Int, ShardViews, key_at, pointer_at, token_at
from imagegram.records import EOS_TOKEN_ID

#: The separator's sort key, the largest.
_EOS: Final = EOS_TOKEN_ID


class GramWalk(NamedTuple):
    """What is asked, and the answers.

    Attributes:
        grams: (Q, n) uint16 sort keys of the queried n-grams, those of k tokens in rows
            ``begin[k - 1] ... end[k - 1]`` in table order, of which the first k columns are read.
        classes: (Q,) int32 class of the last token of each query.
        own: (Q,) int64, written: count of the n-gram.
        contexts: (Q, 4) int64, written: sum of the counts of all n-grams of the class that begin
            with the same k - 1 tokens, and how many of them have count 1, 2, 3 or more.
        class_of: (T,) int32 class of each position of a document; of length 1: all are class 0.
        num_classes: C.
        continuations: whether n-grams of fewer than n tokens count the different tokens before
            them; not those that begin with the separator, which nothing precedes.
        ends: whether the separator behind a document is counted as a next token.
    """

    grams: NDArray[np.uint16]
    classes: NDArray[np.int32]
    own: NDArray[np.int64]
    contexts: NDArray[np.int64]
    class_of: NDArray[np.int32]
    num_classes: Int
    continuations: bool
    ends: bool


class Piece(NamedTuple):
    """The n-grams whose first token has one of some sort keys, and what is counted of all of them.

    Attributes:
        first: first sort key.
        last: end of the sort keys.
        begin: (n,) first of the queries of 1 ... n tokens that begin with these keys.
        end: (n,) their ends.
        of_counts: (n, 4) int64, raised by the number of n-grams of each order with count 1 ... 4.
        unigrams: (C, 4) int64, raised as ``contexts`` of the empty context.
    """

    first: Int
    last: Int
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    of_counts: NDArray[np.int64]
    unigrams: NDArray[np.int64]


class _Open(NamedTuple):
    """The gram of every order that the walk is in.

    Attributes:
        keys: (n,) sort keys of its tokens.
        numbers: (n,) number of the gram of k + 1 tokens, from 1.
        counts: (n, C) its count so far.
        sums: (n, C, 4) as ``contexts``, of the closed grams that share its first k tokens.
        cursors: (2, n) next query of each order, by its n-gram and by its context.
        seen: (n - 1, C, 65536) number of the gram that each token was last seen before: no set of
            tokens has to be emptied. Empty where no different tokens are counted.
    """

    keys: NDArray[np.int64]
    numbers: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    cursors: NDArray[np.int64]
    seen: NDArray[np.int64]


@njit(inline="always", cache=True)
def _order(grams: NDArray[np.uint16], q: Int, keys: NDArray[np.int64], size: Int) -> Int:
    """Return -1, 0 or 1: query ``q`` stands before, at or behind the first tokens of a gram."""
    for k in range(size):
        if grams[q, k] != keys[k]:
            return -1 if grams[q, k] < keys[k] else 1
    return 0


@njit(cache=True, nogil=True)
def _close(walk: GramWalk, piece: Piece, now: _Open, k: Int) -> None:
    """Close the open gram of k + 1 tokens, and with it the context of as many."""
    for c in range(walk.num_classes):
        count = now.counts[k, c]
        if count > 0:
            now.sums[k, c, 0] += count
            now.sums[k, c, min(count, 3)] += 1
            if count <= NUM_TOLD:
                piece.of_counts[k, count - 1] += 1
    q = now.cursors[0, k]
    while q < piece.end[k]:
        order = _order(walk.grams, q, now.keys, k + 1)
        if order > 0:
            break
        if order == 0:
            walk.own[q] = now.counts[k, walk.classes[q]]
        q += 1
    now.cursors[0, k] = q
    now.counts[k] = 0
    if k + 1 == piece.end.size:
        return
    q = now.cursors[1, k + 1]
    while q < piece.end[k + 1]:
        order = _order(walk.grams, q, now.keys, k + 1)
        if order > 0:
            break
        if order == 0:
            walk.contexts[q] = now.sums[k + 1, walk.classes[q]]
        q += 1
    now.cursors[1, k + 1] = q
    now.sums[k + 1] = 0


@njit(inline="always", cache=True)
def _count(
    views: ShardViews, walk: GramWalk, now: _Open, s: Int, position: Int, depth: Int
) -> None:
    """Count one place of the open grams of 1 ... ``depth`` tokens."""
    before = token_at(views, s, position - 1) if position > 0 else 0
    begins = now.keys[0] == _EOS
    for k in range(depth):
        if begins and k == 0 and (position == 0 or not walk.ends):
            continue  # a separator that ends no document
        c = np.int64(0)
        if walk.num_classes > 1:
            c = np.int64(walk.class_of[(position + k) % views.stride[s] - 1])
        if not walk.continuations or k == now.keys.size - 1 or (begins and k > 0):
            now.counts[k, c] += 1
        elif position > 0 and now.seen[k, c, before] != now.numbers[k]:
            now.seen[k, c, before] = now.numbers[k]
            now.counts[k, c] += 1


@njit(inline="always", cache=True)
def _num_levels(views: ShardViews, s: Int, position: Int, longest: Int, ends: bool) -> Int:
    """Return the most tokens of a gram that begins here: it does not reach into the next document.

    The separator may begin it, and end it where ends are counted.
    """
    length = np.int64(1)
    most = min(longest, views.num_tokens[s] - position)
    while length < most:
        if token_at(views, s, position + length) == _EOS:
            return length + np.int64(ends)
        length += 1
    return length


@njit(inline="always", cache=True)
def _read_head(views: ShardViews, s: Int, rank: Int, stop: Int, keys: NDArray[np.int64]) -> None:
    """Read the tokens of a shard's next suffix, if there is one."""
    if rank < stop:
        position = pointer_at(views, s, rank)
        for k in range(keys.size):
            keys[k] = key_at(views, s, position + k)


@njit(inline="always", cache=True)
def _first_shard(
    heads: NDArray[np.int64], stops: NDArray[np.int64], keys: NDArray[np.int64]
) -> Int:
    """Return the shard whose next suffix is the first of all; -1: there is none."""
    s = np.int64(-1)
    for other in range(heads.size):
        if heads[other] < stops[other]:
            k = np.int64(0)
            while s >= 0 and k < keys.shape[1] and keys[other, k] == keys[s, k]:
                k += 1
            if s < 0 or (k < keys.shape[1] and keys[other, k] < keys[s, k]):
                s = np.int64(other)
    return s


@njit(cache=True, nogil=True)
def walk_grams(views: ShardViews, walk: GramWalk, piece: Piece) -> None:
    """Count the n-grams of a piece."""
    longest, num_classes = piece.end.size, walk.num_classes
    heads, stops = views.firsts[:, piece.first].copy(), views.firsts[:, piece.last].copy()
    keys = np.full((heads.size, longest), -1, dtype=np.int64)
    for s in range(heads.size):
        _read_head(views, s, heads[s], stops[s], keys[s])
    now = _Open(
        keys=np.zeros(longest, dtype=np.int64),
        numbers=np.zeros(longest, dtype=np.int64),
        counts=np.zeros((longest, num_classes), dtype=np.int64),
        sums=np.zeros((longest, num_classes, 4), dtype=np.int64),
        cursors=np.empty((2, longest), dtype=np.int64),
        seen=np.zeros(
            (longest - 1 if walk.continuations else 0, num_classes, 65536), dtype=np.int64
        ),
    )
    now.cursors[0], now.cursors[1] = piece.begin, piece.begin
    depth, s = np.int64(0), _first_shard(heads, stops, keys)
    while s >= 0:
        position = pointer_at(views, s, heads[s])
        levels, shared = _num_levels(views, s, position, longest, walk.ends), np.int64(0)
        while shared < min(levels, depth) and keys[s, shared] == now.keys[shared]:
            shared += 1
        for k in range(depth - 1, shared - 1, -1):
            _close(walk, piece, now, k)
        for k in range(shared, levels):
            now.keys[k] = keys[s, k]
            now.numbers[k] += 1
        depth = levels
        _count(views, walk, now, s, position, depth)
        heads[s] += 1
        _read_head(views, s, heads[s], stops[s], keys[s])
        s = _first_shard(heads, stops, keys)
    for k in range(depth - 1, -1, -1):
        _close(walk, piece, now, k)
    piece.unigrams[:] += now.sums[0]
