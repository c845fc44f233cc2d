"""Open an index with ``fastgram.GramEngine`` itself and compare random queries with ours.

    python -m benchmarks.agreement outputs/artifacts/index/DIGEST --queries 10000

Half of the queries are runs of the corpus, half are runs with one token changed; lengths 1 ... 40.
Counts and next-token counts must be equal, one by one. One difference is fast-gram's and is taken
out: it counts the end of every shard as one more separator after the context that ends there.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from fastgram import GramEngine

from imagegram.indexes import Index, open_index
from imagegram.records import EOS_TOKEN_ID


def random_query(rng: np.random.Generator, index: Index) -> list[int]:
    """A run of a random shard, cut anywhere, every second one with a changed token."""
    stream = index.shards[rng.integers(len(index.shards))].tokens
    length = int(rng.integers(1, 41))
    start = int(rng.integers(len(stream) - length + 1))
    query = stream[start : start + length].tolist()
    if rng.random() < 0.5:
        query[rng.integers(length)] = int(rng.integers(0, 256))
    return [int(token) for token in query]


def main() -> int:
    """Compare; exit status 1 at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("index")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    index = open_index(flags.index)
    engine = GramEngine([str(shard.path) for shard in index.shards], eos_token_id=EOS_TOKEN_ID)
    rng = np.random.default_rng(flags.seed)
    seconds = {"native": 0.0, "fast-gram": 0.0}
    for _ in range(flags.queries):
        query = random_query(rng, index)
        started = time.perf_counter()
        count, dist = index.count(query), index.next_token(query)
        seconds["native"] += time.perf_counter() - started
        started = time.perf_counter()
        support = dist.num_contexts + len(index.shards)  # exact from the number of occurrences on
        their_count = engine.count(query)["count"]
        answer = engine.ntd(query, max_support=support)
        seconds["fast-gram"] += time.perf_counter() - started
        theirs = {t: entry["cont_cnt"] for t, entry in answer["result_by_token_id"].items()}
        deciding = query[len(query) - dist.suffix_len :]
        if deciding == [EOS_TOKEN_ID]:
            theirs[EOS_TOKEN_ID] -= len(index.shards)
            theirs = {token: number for token, number in theirs.items() if number}
        ours = dict(zip(dist.tokens.tolist(), dist.counts.tolist(), strict=True))
        if (count, dist.suffix_len, ours) != (their_count, answer["suffix_len"], theirs):
            print(f"DIFFERENT for {query}: {count} {dist} and {their_count} {answer}")
            return 1
    print(
        f"{flags.queries:,} queries equal over {len(index.shards)} shards, "
        f"{index.num_tokens:,} tokens; native {seconds['native']:.1f} s, "
        f"fast-gram {seconds['fast-gram']:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
