"""The engine that walks through one index shard with its side files, and never searches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.ngram.blocks import write_blocks
from imagegram.generators.ngram.engine import Engine, Job, Needs, Request
from imagegram.generators.ngram.kernels import Rows, make_knobs
from imagegram.generators.ngram.walk.candidates import Sieve, make_sieve
from imagegram.generators.ngram.walk.kernel import write_rows
from imagegram.generators.ngram.walk.memo import (
    FREQUENT,
    MAX_CLASSES,
    MAX_ENTRIES,
    Memo,
    make_memo,
)
from imagegram.generators.ngram.walk.order import Block, Walk, Walkers, make_walk, make_walkers
from imagegram.records import Tokens, Trace
from imagegram.samplers.ngram import matching_classes

Scratch = tuple[Memo, Sieve | None, Walkers, NDArray[np.bool_] | None]

#: Images that a thread takes through each step together: enough for their misses to overlap.
BLOCK: Final = 32
#: Side files tell shorter contexts from longer ones below this.
_LONGEST: Final = 65535


@dataclass(frozen=True, kw_only=True, eq=False)
class WalkEngine(Engine):
    """Compiled, on threads: contexts are carried from token to token.

    Attributes:
        files: one shard and its order.
        frequent: places from which on a thread remembers what an interval leads to.
        memo_entries: intervals that it remembers at most.
    """

    frequent: int = FREQUENT
    memo_entries: int = MAX_ENTRIES

    @staticmethod
    def refuses(request: Request) -> str | None:
        """Refuse conditions on documents, several shards, and shards without side files."""
        if request.conditions:
            return f"a walk cannot do {request.conditions[0]}"
        if len(request.lengths) != 1:
            return f"a walk goes over one index shard, and this index has {len(request.lengths)}"
        if request.longest >= _LONGEST:
            return f"a walk knows contexts below {_LONGEST} tokens"
        needs = WalkEngine.needs(request)
        classes_T = matching_classes(request.sampler.matching, request.layout)
        if needs.order == "suffix" and classes_T.max() >= MAX_CLASSES:
            return f"a walk tells {MAX_CLASSES} classes of positions apart"
        if request.made is not None and request.made != needs:
            return f"the {needs.order} order of the index shard was not made"
        return None

    @staticmethod
    def needs(request: Request) -> Needs:
        """Ask for an order: of suffixes, or by position first."""
        return Needs(order="aligned" if request.sampler.matching == "position" else "suffix")

    @staticmethod
    def kernels(request: Request) -> tuple[str, ...]:
        """Name this package where rows do not end early, and every place is a candidate."""
        sampler = request.sampler
        is_free = sampler.matching == "free" and not sampler.count_documents
        if request.ragged or not (is_free or sampler.matching == "position"):
            return ()
        return ("imagegram.generators.ngram.walk",)

    @cached_property
    def walk(self) -> Walk:
        """Shard with its side files, as the kernels read it."""
        return make_walk(self.files.orders[0])

    def rows(self, job: Job) -> tuple[Tokens, Trace]:
        """Write (B, T) tokens and their trace, on threads."""
        self.files.fit_to_memory()
        tokens_BT, trace = job.start()
        rows = Rows(tokens=tokens_BT, **trace)
        walk, until_B = self.walk, job.until
        forced = bool(until_B.any())
        knobs = make_knobs(self.files.shards, job, aligned=walk.aligned)

        def make_scratch(size: int) -> Scratch:
            memo = make_memo(knobs.temperature, frequent=self.frequent, entries=self.memo_entries)
            ended = np.zeros(size, dtype=np.bool_) if job.ragged else None
            walkers = make_walkers(size, job.shape[1])
            return memo, make_sieve(walk, knobs, memo), walkers, ended

        def write(scratch: Scratch, start: int, size: int) -> Iterator[int]:
            block = Block(start, size, forced, until_B, np.uint64(job.seed), job.samples)
            write_rows(walk, knobs, *scratch, rows, block)
            yield size * job.shape[1]

        write_blocks(job, most=BLOCK, make_scratch=make_scratch, write=write)
        return tokens_BT, trace
