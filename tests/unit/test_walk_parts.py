"""Parts of the walk beside their definitions: ends of intervals, groups, distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.generators.ngram.kernels import Knobs
from imagegram.generators.ngram.walk.bounds import interval_end, interval_start
from imagegram.generators.ngram.walk.memo import count_groups, distribute, make_memo
from imagegram.generators.ngram.walk.order import Walk
from imagegram.samplers.ngram import distribution
from imagegram.samplers.truncation import entropy_bits

FANOUT = 32


def walk_over(lcp: np.ndarray) -> tuple[Walk, list[np.ndarray]]:
    """A walk that knows nothing but ``lcp`` and its minima; and what must be kept alive."""
    levels, below = [], lcp
    while not levels or below.size > FANOUT:
        below = np.array(
            [part.min() for part in np.split(below, range(FANOUT, below.size, FANOUT))]
        )
        levels.append(below.astype(np.uint16))
    minima = np.concatenate(levels)
    walk = Walk(
        tokens=np.uint64(0),
        table=np.uint64(0),
        inverse=np.uint64(0),
        lcp=np.uint64(lcp.ctypes.data),
        repeat=np.uint64(0),
        minima=np.uint64(minima.ctypes.data),
        num_tokens=lcp.size,
        pointer_width=4,
        inverse_width=4,
        num_documents=1,
        num_separators=2,
        stride=1,
        offsets=np.uint64(0),
        aligned=True,  # then all places of an interval are candidates, and none is read
        ascending=True,
    )
    return walk, [lcp, minima]


def lcps(size: int, rare: float, seed: int) -> np.ndarray:
    """Shared lengths, small ones ever ``rare``-r, so that intervals are short and very long."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.geometric(rare, size), 5) + 60 * (random.random(size) < 0.5)
    lengths[random.random(size) < rare] = 65535
    lcp = (65535 - lengths).astype(np.uint16) if seed % 2 else lengths.astype(np.uint16)
    lcp[0] = 0
    return lcp


@settings(max_examples=80, deadline=None)
@given(
    size=st.one_of(st.integers(1, 140), st.sampled_from([1023, 1024, 1025, 32768, 33000, 40000])),
    rare=st.sampled_from([0.5, 0.05, 0.001, 0.00005]),
    seed=st.integers(0, 1000),
)
def test_intervals_end_at_the_nearest_smaller_length(size: int, rare: float, seed: int) -> None:
    lcp = lcps(size, rare, seed)
    walk, _kept = walk_over(lcp)
    random = np.random.default_rng(seed)
    ranks = {0, size - 1, *random.integers(0, size, 6).tolist()}
    for rank in sorted(ranks):
        for depth in {1, 3, int(lcp[random.integers(size)]) or 1, 65535}:
            smaller = np.flatnonzero(lcp < depth)
            start = int(smaller[smaller <= rank].max())
            end = int(min(smaller[smaller > rank], default=size))
            assert (interval_start(walk, rank, depth), interval_end(walk, rank, depth)) == (
                start,
                end,
            )
            if end < size or start > 0:
                continue
            memo = make_memo(1.0, entries=1)
            number, total = count_groups(walk, memo, 0, start, end, depth - 1, False, False)
            assert (number, total) == (1, end - start)


@settings(max_examples=80, deadline=None)
@given(
    size=st.one_of(st.integers(2, 140), st.sampled_from([1024, 1025, 5000, 40000])),
    rare=st.sampled_from([0.5, 0.05, 0.001]),
    seed=st.integers(0, 1000),
)
def test_groups_are_what_lies_between_small_lengths(size: int, rare: float, seed: int) -> None:
    lcp = lcps(size, rare, seed)
    walk, _kept = walk_over(lcp)
    length = min(int(np.median(lcp)), 65533)  # contexts are shorter than what lcp can tell
    begin = seed % (size // 2 + 1)
    stops = np.flatnonzero(lcp <= length)
    lo = int(stops[stops <= begin].max())
    hi = int(stops[-1]) if stops[-1] > lo else size
    memo = make_memo(1.0, entries=2000)
    number, total = count_groups(walk, memo, 3, lo, hi, length, False, False)
    firsts = [lo, *stops[(stops > lo) & (stops < hi)].tolist()]
    assert memo.first[3 : 3 + number].tolist() == firsts
    assert memo.places[3 : 3 + number].tolist() == np.diff([*firsts, hi]).tolist()
    assert total == hi - lo


@settings(max_examples=300, deadline=None)
@given(
    counts=st.lists(
        st.one_of(st.integers(1, 4), st.integers(1, 70), st.integers(60, 5000)),
        min_size=1,
        max_size=60,
    ),
    temperature=st.sampled_from([0.0, 1e-3, 0.1, 0.9, 1.0, 3.0, 1e9, 1e16]),
    top_k=st.sampled_from([0, 1, 2, 5, 20]),
    top_p=st.sampled_from([1.0, 0.7]),
    min_p=st.sampled_from([0.0, 0.3]),
)
def test_probabilities_are_those_of_the_sampler(
    counts: list[int], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    memo, number = make_memo(temperature, entries=1), len(counts)
    nothing = np.zeros(0, dtype=np.int32)
    flags = {"count_documents": False, "filtered": False, "shifts": True, "aligned": True}
    knobs = Knobs(
        temperature, top_k, top_p, min_p, 1, **flags, ends=False, limits=nothing, classes=nothing
    )
    for _ in range(2):  # what one distribution leaves behind changes no other
        memo.places[7 : 7 + number] = counts
        bits = distribute(memo, 7, number, knobs)
        wanted = distribution(np.array(counts), temperature, top_k, top_p, min_p)
        assert memo.probability[7 : 7 + number].tolist() == wanted.tolist()
        assert bits == entropy_bits(wanted)
        counts = counts[::-1]


@pytest.mark.parametrize(("temperature", "sortable"), [(0.9, True), (1e16, False), (1e-3, False)])
def test_weights_that_hardly_differ_are_not_sorted_by_their_counts(
    temperature: float, sortable: bool
) -> None:
    assert make_memo(temperature).sortable is sortable
