"""The engine of any sampler and any number of index shards, with side files or without.

With them it copies without a search, and searches few shards only (``carry.py``). It reads up to
two streams of the same documents: what is compared (whole tokens or coarse ids) and what is
written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from imagegram.conditions.labels import ANY
from imagegram.generators.ngram.blocks import write_blocks
from imagegram.generators.ngram.engine import Engine, Job, Needs, Request, divisor_of
from imagegram.generators.ngram.kernels import (
    Carried,
    Rows,
    Work,
    make_carried,
    make_knobs,
    make_work,
)
from imagegram.generators.ngram.search.kernel import write_rows
from imagegram.generators.ngram.search.memo import FREQUENT, MAX_ENTRIES, Memo, make_memo
from imagegram.generators.ngram.search.sides import make_sides
from imagegram.generators.ngram.search.step import Rules
from imagegram.generators.ngram.search.voters import Voters, make_voters
from imagegram.indexes.build.coarse_stage import write_coarse
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels.search import ShardViews, shard_views
from imagegram.indexes.order import Order
from imagegram.records import Tokens, Trace
from imagegram.samplers.ngram import matching_classes

#: A search costs about as much as a look at so many places.
MANY: Final = 32
#: Rows that a thread writes one after the other.
BLOCK: Final = 8
#: Rows that it writes by turns, where they read the same at the same position: what one has read is
#: still in the cache, or in memory at all, when the next one needs it.
BROAD: Final = 1024
#: Positions of a turn.
TURN: Final = 16
#: Orders tell shorter contexts from longer ones below this.
_LONGEST: Final = 65535
#: Runs that are screened, unless contexts are shorter. A short one is seldom in another shard by
#: chance, and a shard that lacks it needs no look until a context could have grown from less; a
#: long one, a whole context of most samplers, tells plain areas apart, which share all short ones.
_RUNS: Final = (12, 32)
#: The same at one position, where documents are the only choice.
_PLACED_RUNS: Final = (6, 32)
#: Memory of a thread.
Scratch = tuple[Memo, Work, Carried, Voters]


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchEngine(Engine):
    """Compiled, on threads: contexts are searched for in the suffix arrays.

    Attributes:
        files: any shards. Coarse shards that are missing are made in a temporary folder; without
            orders and screens all takes longer.
        frequent: candidates from which on a thread remembers what a context leads to.
        memo_entries: contexts that it remembers at most.
        many: places of the documents that may decide above which rare contexts are searched for.
        turn: positions of a row that are written before the next row's, where rows read the same.
    """

    frequent: int = FREQUENT
    memo_entries: int = MAX_ENTRIES
    many: int = MANY
    turn: int = TURN

    @staticmethod
    def refuses(request: Request) -> str | None:
        """Refuse nothing."""
        return None

    @staticmethod
    def needs(request: Request) -> Needs:
        """Ask for orders, and for screens of several shards; for coarse shards to compare digits.

        A context that side files cannot tell from longer ones is searched for without.
        """
        aligned = request.sampler.matching == "position"
        order = "aligned" if aligned else "suffix"
        runs: tuple[int, ...] = ()
        if request.longest >= _LONGEST:
            return Needs(order="aligned" if aligned else None, divisor=request.divisor)
        if len(request.lengths) > 1:
            limits_T = request.sampler.max_context_per_position(request.layout)
            short, long = _PLACED_RUNS if aligned else _RUNS
            longest = request.longest
            if aligned:  # half a short context is asked for half as often, and as seldom there
                short = min(short, (longest + 1) // 2)
            runs = tuple(sorted({min(short, int(limits_T.min()), longest), min(long, longest)}))
        return Needs(order=order, divisor=request.divisor, runs=runs)

    def rows(self, job: Job) -> tuple[Tokens, Trace]:
        """Write (B, T) tokens and their trace, on threads."""
        self.files.fit_to_memory()
        tokens_BT, trace = job.start()
        rows = Rows(tokens=tokens_BT, **trace)
        divisor = divisor_of(job.sampler, job.layout)
        contexts = self._contexts(divisor)
        in_place = job.sampler.matching == "position"
        orders = self.files.orders if self.files.divisor == divisor else ()
        if orders and orders[0].aligned != in_place:
            orders = ()
        aligned = in_place and bool(orders)
        views = self._views(divisor, aligned=aligned)
        knobs = make_knobs(contexts, job, aligned=aligned)
        rules = self._rules(job, contexts, divisor, aligned=aligned)
        # Alike contexts of 65,535 tokens and more cannot be told apart by an order.
        known = () if np.minimum(knobs.limits, job.shape[1]).max() >= _LONGEST else orders
        sides = make_sides(len(contexts), known, self.files.screens if known else ())
        num_documents, num_shards = self.files.num_documents, len(contexts)
        conditional = rules.anchor > 0 or rules.label_tokens > 0
        until_B, seed, num_tokens = job.until, np.uint64(job.seed), job.shape[1]
        # Which documents may decide is looked up row by row.
        together = aligned and not conditional
        turns = _turns(num_tokens, self.turn if together else num_tokens)

        def make_scratch(size: int) -> Scratch:
            carried = make_carried(size, num_shards, num_tokens)
            return (
                make_memo(num_shards, frequent=self.frequent, entries=self.memo_entries),
                make_work(carried, num_documents),
                carried,
                make_voters(
                    num_documents if conditional else 0, num_shards, num_tokens, rules.anchor
                ),
            )

        def write(scratch: Scratch, start: int, size: int) -> Iterator[int]:
            memo, work, carried, voters = scratch
            for first, stop in turns:
                write_rows(
                    views,
                    knobs,
                    rules,
                    sides,
                    memo,
                    work,
                    carried,
                    voters,
                    rows,
                    until_B,
                    seed,
                    job.samples,
                    start,
                    size,
                    first,
                    stop,
                )
                yield size * (stop - first)

        most = BROAD if together else BLOCK
        write_blocks(job, most=most, make_scratch=make_scratch, write=write)
        return tokens_BT, trace

    def _contexts(self, divisor: int) -> tuple[IndexShard, ...]:
        """Return the shards that contexts are compared in."""
        if divisor == 1:
            return self.files.shards
        if divisor == self.files.divisor:
            return self.files.coarse
        if divisor not in self._coarse_made:
            self._coarse_made[divisor] = _make_coarse(self.files.shards, divisor)
        return self._coarse_made[divisor]

    @cached_property
    def _coarse_made(self) -> dict[int, tuple[IndexShard, ...]]:
        return {}

    def _views(self, divisor: int, *, aligned: bool) -> ShardViews:
        """Return views of these shards; with the tables of their orders if aligned."""
        if divisor not in self._views_made:
            self._views_made[divisor] = shard_views(self._contexts(divisor))
        views = self._views_made[divisor]
        return over_aligned(views, self.files.orders) if aligned else views

    @cached_property
    def _views_made(self) -> dict[int, ShardViews]:
        return {}

    def _rules(
        self, job: Job, contexts: Sequence[IndexShard], divisor: int, *, aligned: bool
    ) -> Rules:
        """Return what the sampler asks of documents, as numbers."""
        sampler, labels = job.sampler, job.labels
        by_document = np.empty(0, dtype=np.int32)
        by_row = np.full(job.shape[0], ANY, dtype=np.int32)
        if labels is not None:
            by_document, by_row = labels.by_document, labels.by_row
        members = np.argsort(by_document, kind="stable").astype(np.int64)
        num_labels = 1 + max(by_document.max(initial=ANY), by_row.max(initial=ANY))
        firsts = np.searchsorted(by_document[members], np.arange(num_labels + 1))
        classes_T = matching_classes(sampler.matching, job.layout)
        last = [shard.num_tokens - shard.num_documents for shard in contexts]
        streams = [shard.tokens.ctypes.data for shard in self.files.shards]
        return Rules(
            anchor=min(sampler.anchor, job.shape[1]),
            label_tokens=0 if labels is None else labels.num_tokens,
            in_place=sampler.matching == "position",
            divisor=divisor,
            many=self.many,
            next_address=np.array(streams, dtype=np.uint64),
            first_rank=np.array([0] * len(last) if aligned else last, dtype=np.int64),
            labels=by_document,
            members=members,
            first_member=firsts.astype(np.int64),
            row_labels=by_row,
            sizes=np.bincount(classes_T)[classes_T].astype(np.int64),
        )


def _turns(num_tokens: int, most: int) -> list[tuple[int, int]]:
    """Cut positions into ranges of ``most``; return the first of each, and the one behind it."""
    return [(first, min(first + most, num_tokens)) for first in range(0, num_tokens, most)]


def over_aligned(views: ShardViews, orders: Sequence[Order]) -> ShardViews:
    """Replace the tables of views by the tables of aligned orders."""
    tables = [order.table.ctypes.data for order in orders]
    return views._replace(table_address=np.array(tables, dtype=np.uint64))


def _make_coarse(shards: Sequence[IndexShard], divisor: int) -> tuple[IndexShard, ...]:
    """Make coarse shards in a temporary folder; their memory maps outlive it."""
    coarse = []
    for shard in shards:
        with tempfile.TemporaryDirectory(prefix="imagegram-coarse-") as root:
            made = write_coarse(shard, divisor, Path(root))
            _ = made.tokens, made.table, made.offsets  # a map outlives its file
            coarse.append(made)
    return tuple(coarse)
