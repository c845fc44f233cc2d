"""Choose the held-out items of a corpus: whole clusters of near-duplicates, all equally likely.

Two numbers of an item are read from the sha256 of its bytes: a *draw*, uniform in 0 ... 1, and a
*rank*. A cluster is held out when the draw of its member of lowest rank is below the share to hold
out. That is one uniform number for a cluster of any size, so all clusters are held out with the
same probability, and so are all items; copies of the same bytes have one draw and one rank.

Only items with a draw below that share can decide, so only their clusters are looked for: the
search goes from them to their near-duplicates, on to those of these, and so on. Its time grows with
the number of held-out items times the size of the corpus, its memory by 4 bytes an item.

A cluster of more than a tenth of the items to hold out (frames of one film, say, or the same
placeholder 5,000 times) stays in training: held out, it would be most of the floor, or take most
of the corpus with it. The search gives up on a cluster as soon as it is known to be so large.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.threads import map_in_order
from imagegram.protocols import Modality
from imagegram.records import Sketches
from imagegram.stages.scan import ScannedShard
from imagegram.store.stage import Context

#: With fewer clusters than this nothing is held out: a floor measured on a handful of pictures
#: would be noise, and a corpus of one image is a corpus too.
MIN_CLUSTERS: Final = 100
#: Items whose clusters are counted, where the candidates are too few to tell.
_COUNTED_ITEMS: Final = 10_000
#: A cluster is too large from more than this share of the items to hold out on ...
_LARGE_SHARE: Final = 0.1
#: ... but not with so few.
_NEVER_LARGE: Final = 10


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How items are held out.

    Attributes:
        fraction: share of the items to hold out, 0 ... 1.
        max_items: about as many at most.
        limit: where near-duplicates begin, see ``Corpus.near_duplicate_limit``.
    """

    fraction: float
    max_items: int
    limit: float

    def probability(self, num_items: int) -> float:
        """Return the probability with which each cluster of a corpus is held out.

        >>> Policy(fraction=0.1, max_items=4000, limit=6.0).probability(100_000)
        0.04
        """
        return min(self.fraction, self.max_items / max(num_items, 1))

    def largest(self, num_items: int) -> int:
        """Return the number of items from which on a cluster is not too large to be held out."""
        return max(_NEVER_LARGE, int(_LARGE_SHARE * self.probability(num_items) * num_items))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The held-out items of a corpus.

    Attributes:
        held: (H,) int64 ascending numbers of the held-out items; items count shard by shard.
        num_clusters: clusters that were met, of at least ``MIN_CLUSTERS`` if any is held out; all
            that are too large count as one.
        num_held_clusters: clusters that are held out.
        large: items met that are in clusters too large to be held out, by cluster, largest first.
    """

    held: NDArray[np.int64]
    num_clusters: int
    num_held_clusters: int = 0
    large: tuple[NDArray[np.int64], ...] = ()


def choose(shards: Sequence[ScannedShard], policy: Policy, context: Context) -> Choice:
    """Choose the held-out items of scanned shards; their order does not matter.

    Args:
        shards: all items of the corpus.
        policy: how many of them.
        context: threads and progress.
    """
    num_items = sum(map(len, shards))
    probability = policy.probability(num_items)
    if not num_items or not probability:
        return Choice(held=np.empty(0, np.int64), num_clusters=0)
    clusters = Clusters(shards, policy, context)
    clusters.explore(_drawn_below(shards, probability))
    if clusters.count() < MIN_CLUSTERS:
        clusters.explore(_drawn_below(shards, min(1.0, _COUNTED_ITEMS / num_items)))
    members, roots = clusters.members()
    is_large = clusters.sizes(roots) > clusters.max_size
    large = _by_root(members[is_large], roots[is_large])
    if (num_clusters := clusters.count()) < MIN_CLUSTERS:
        return Choice(held=np.empty(0, np.int64), num_clusters=num_clusters, large=large)
    members, roots = members[~is_large], roots[~is_large]
    draws, ranks = clusters.draws(members)
    order = np.lexsort((ranks, roots))
    is_first = np.diff(roots[order], prepend=-1) != 0
    lowest = order[is_first]  # of every cluster, the member of lowest rank
    held_roots = roots[lowest][draws[lowest] < probability]
    return Choice(
        held=members[np.isin(roots, held_roots)],
        num_clusters=num_clusters,
        num_held_clusters=len(held_roots),
        large=large,
    )


class Clusters:
    """Clusters of near-duplicates around chosen items; those of all others are not looked for.

    A *node* is a distinct sketch of items that were met; nodes of one cluster are united. A cluster
    is explored until it is complete or has more than ``max_size`` items.

    Attributes:
        max_size: items of the largest cluster that is of interest.
    """

    def __init__(self, shards: Sequence[ScannedShard], policy: Policy, context: Context) -> None:
        """Begin with no item met."""
        counts = [len(shard) for shard in shards]
        self.max_size = policy.largest(sum(counts))
        self._shards, self._limit, self._context = shards, policy.limit, context
        self._firsts = np.cumsum([0, *counts])
        self._labels = np.full(sum(counts), -1, dtype=np.int32)  # node of every item; -1: not met
        self._nodes: dict[bytes, int] = {}
        self._parents: list[int] = []
        self._sizes: list[int] = []  # items of the cluster of every root

    def explore(self, items: NDArray[np.int64]) -> None:
        """Complete the clusters of items, ascending numbers; large ones only as far as needed."""
        fresh = self._meet(items[self._labels[items] < 0])
        while fresh := [(node, sketch) for node, sketch in fresh if not self._is_large(node)]:
            found: list[NDArray[np.int64]] = []
            for near, nodes in self._search(fresh):
                unmet = self._labels[near] < 0
                for item, node in zip(near[~unmet].tolist(), nodes[~unmet].tolist(), strict=True):
                    self._unite(int(self._labels[item]), node)
                self._labels[near[unmet]] = nodes[unmet]
                for node in nodes[unmet].tolist():
                    self._sizes[self._root(node)] += 1
                found.append(near[unmet])
            fresh = self._meet(np.concatenate(found))

    def _meet(self, items: NDArray[np.int64]) -> list[tuple[int, Sketches]]:
        """Give every item a node of its sketch; return the nodes that are new, with their sketches.

        Items of clusters that are too large get none: nothing more is to be known of these.
        """
        fresh: list[tuple[int, Sketches]] = []
        for item, sketch in self._with_sketches(items):
            label = int(self._labels[item])
            if label >= 0 and self._is_large(label):
                continue
            key = sketch.tobytes()
            node = self._nodes.get(key)
            if node is None:
                node = self._nodes[key] = len(self._parents)
                self._parents.append(node)
                self._sizes.append(0)
                fresh.append((node, sketch))
            if label >= 0:
                self._unite(label, node)
            else:
                self._labels[item] = node
                self._sizes[self._root(node)] += 1
        return fresh

    def _with_sketches(self, items: NDArray[np.int64]) -> Iterator[tuple[int, Sketches]]:
        for shard, rows in self._by_shard(items):
            first = int(self._firsts[shard])
            sketches = self._shards[shard].sketches()
            for row in rows.tolist():
                yield first + row, np.array(sketches[row])

    def _by_shard(self, items: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield every shard that has some of the items, and their rows in it."""
        shard_of = np.searchsorted(self._firsts, items, side="right") - 1
        for shard in np.unique(shard_of).tolist():
            yield shard, items[shard_of == shard] - self._firsts[shard]

    def _search(
        self, fresh: Sequence[tuple[int, Sketches]]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield, shard by shard, items that are near new nodes, and one such node of each.

        Nodes that share an item are united on the way.
        """
        nodes = np.array([node for node, _ in fresh], dtype=np.int64)
        search = _Search.of([sketch for _, sketch in fresh], self._shards[0].modality, self._limit)
        progress, workers = self._context.progress, self._context.workers
        task = progress.start("near-duplicates", len(self._shards), "shards")
        every = map_in_order(search.near, self._shards, workers=workers)
        for first, (rows, queries, pairs) in zip(self._firsts.tolist(), every, strict=False):
            for one, other in pairs.tolist():
                self._unite(int(nodes[one]), int(nodes[other]))
            yield first + rows, nodes[queries]
            progress.advance(task)
        progress.finish(task)

    def _root(self, node: int) -> int:
        parents = self._parents
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    def _unite(self, one: int, other: int) -> None:
        low, high = sorted((self._root(one), self._root(other)))
        if low != high:
            self._parents[high] = low
            self._sizes[low] += self._sizes[high]

    def _is_large(self, node: int) -> bool:
        return self._sizes[self._root(node)] > self.max_size

    def count(self) -> int:
        """Count the clusters that were met; all that are too large count as one."""
        roots = [node for node, parent in enumerate(self._parents) if node == parent]
        sizes = np.array([self._sizes[root] for root in roots])
        return int((sizes <= self.max_size).sum() + (sizes > self.max_size).any())

    def members(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the (M,) ascending items that were met, and the root of each one's cluster."""
        met = np.flatnonzero(self._labels >= 0)
        roots = np.array([self._root(node) for node in range(len(self._parents))], dtype=np.int64)
        return met, roots[self._labels[met]]

    def sizes(self, roots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items that were met of the clusters of roots."""
        return np.array(self._sizes, dtype=np.int64)[roots]

    def draws(self, items: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
        """Return draws, 0 ... 1, and ranks of items, ascending numbers."""
        parts = [self._shards[shard].hashes()[rows] for shard, rows in self._by_shard(items)]
        hashes = np.concatenate([np.empty((0, 32), np.uint8), *parts])
        return _draws(hashes), _number(hashes, 8)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Search for items near some of Q sketches: asks for the fewer among the more.

    Attributes:
        queries: the sketches.
        modality: of the items.
        limit: where near-duplicates begin.
    """

    queries: Sketches
    modality: Modality
    limit: float

    @classmethod
    def of(cls, queries: Sequence[Sketches], modality: Modality, limit: float) -> _Search:
        return cls(queries=modality.stack(queries), modality=modality, limit=limit)

    @cached_property
    def _among_queries(self) -> Callable[[Sketches], NDArray[np.int64]]:
        return self.modality.search(self.queries, limit=self.limit)

    def near(
        self, shard: ScannedShard
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find the (R,) rows of a shard near a query, the lowest one near each, and (P, 2) pairs.

        Queries of a pair are near a common row; they connect all that are.
        """
        sketches = shard.sketches()
        if len(self.queries) < len(shard):
            find = self.modality.search(sketches, limit=self.limit)
            queries, rows = _flat(find(query) for query in self.queries)
        else:
            rows, queries = _flat(self._among_queries(np.asarray(one)) for one in sketches)
        order = np.lexsort((queries, rows))
        rows, queries = rows[order], queries[order]
        found, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
        lowest = queries[first]
        pairs = np.stack([lowest[inverse], queries], axis=1)
        return found, lowest, np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def _flat(
    found: Iterable[NDArray[np.int64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, of lists of indices, the number of each index's list, and the indices.

    >>> numbers, indices = _flat(map(np.array, [[5, 6], [0]]))
    >>> numbers.tolist(), indices.tolist()
    ([0, 0, 1], [5, 6, 0])
    """
    lists = list(found)
    numbers = np.repeat(np.arange(len(lists)), [len(indices) for indices in lists])
    return numbers, np.concatenate([np.empty(0, np.int64), *lists])


def _number(hashes: NDArray[np.uint8], start: int) -> NDArray[np.uint64]:
    """Return eight bytes of (N, 32) hashes as numbers, the first byte the highest."""
    parts = np.ascontiguousarray(hashes[:, start : start + 8])
    return parts.view(">u8").reshape(len(parts)).astype(np.uint64)


def _draws(hashes: NDArray[np.uint8]) -> NDArray[np.float64]:
    return _number(hashes, 0) / 2.0**64


def _drawn_below(shards: Sequence[ScannedShard], share: float) -> NDArray[np.int64]:
    """Return the ascending numbers of the items whose draw is below a share."""
    firsts = itertools.accumulate((len(shard) for shard in shards), initial=0)
    below = [
        first + np.flatnonzero(_draws(shard.hashes()) < share)
        for first, shard in zip(firsts, shards, strict=False)
    ]
    return np.concatenate(below)


def _by_root(members: NDArray[np.int64], roots: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Return members by root, the most first."""
    sets = [members[roots == root] for root in np.unique(roots)]
    return tuple(sorted(sets, key=lambda found: (-len(found), found[0])))
