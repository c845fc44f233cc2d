"""Samplers that choose at many steps beside fast-gram, one thread each, in time of the processor.

    python -m benchmarks.choosing
    python -m benchmarks.choosing --repeats 5 corpus=tiny_imagenet_20 paths.data=DATA

``benchmarks.generation`` times the same and more by the clock, two threads beside the peer's one; a
machine that other programs keep busy tells more here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from benchmarks.generation import SAMPLERS, open_bench
from benchmarks.timing import Flags, Row, main

CHOOSING = (
    "min_count=2",
    "min_count=4",
    "max_context=8",
    "max_context=6",
    "max_context=6 min_count=4",
)


def rows(flags: Flags) -> Iterator[Row]:
    """One line a sampler."""
    bench = open_bench(flags)
    model = bench.model()
    tokens = sum(shard.num_tokens for shard in model.shards)
    table = (
        f"{bench.exp.corpus.name}, {bench.exp.tokenizer.name}, {tokens:,} tokens: "
        "1 thread, peer 1 thread, time of the processor"
    )
    for what in CHOOSING:
        yield bench.row(what, SAMPLERS[what], model, alone=True, table=table)


if __name__ == "__main__":
    sys.exit(main(rows, __doc__))
