"""Merging shards: the context is chosen before the counts are added."""

from __future__ import annotations

import numpy as np
import pytest

from imagegram.indexes.merge import longest_supported, merge_next_tokens


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 20])
@pytest.mark.parametrize("min_count", [1, 2, 3, 5, 100])
def test_the_longest_supported_length_is_found_in_any_ladder(limit: int, min_count: int) -> None:
    rng = np.random.default_rng(limit * 1000 + min_count)
    for _ in range(50):
        ladder = np.sort(rng.integers(0, 6, 21))[::-1].tolist()
        good = [n for n in range(limit + 1) if n == 0 or ladder[n] >= min_count]
        found = longest_supported(ladder.__getitem__, limit=limit, min_count=min_count)
        assert found == max(good)


def test_counts_are_added_over_shards_in_ascending_token_order() -> None:
    parts = [
        (np.array([300, 2], np.uint16), np.array([1, 5], np.uint64)),
        (np.array([], np.uint16), np.array([], np.uint64)),
        (np.array([2, 65535], np.uint16), np.array([2**40, 1], np.uint64)),
    ]
    dist = merge_next_tokens(parts, suffix_len=4)
    assert dist.tokens.tolist() == [2, 300, 65535]
    assert dist.counts.tolist() == [2**40 + 5, 1, 1]
    assert dist.num_contexts == 2**40 + 7
    assert dist.suffix_len == 4
    assert not dist.approx


def test_no_shard_has_anything_to_say() -> None:
    dist = merge_next_tokens([], suffix_len=0)
    assert (dist.num_contexts, dist.tokens.size, dist.counts.size) == (0, 0, 0)
