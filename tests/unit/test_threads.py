"""Work in threads comes back in order, in bounded numbers, and its errors are not lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegram.executors.threads import chunks, map_in_order


@given(st.lists(st.integers(), max_size=40), st.integers(1, 5), st.integers(1, 7))
def test_results_come_in_order(items: list[int], workers: int, size: int) -> None:
    chunked = list(chunks(items, size=size))
    assert [item for chunk in chunked for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunked[:-1])
    assert list(map_in_order(sum, chunked, workers=workers)) == [sum(chunk) for chunk in chunked]


@pytest.mark.parametrize("workers", [1, 3])
def test_items_are_drawn_only_as_far_ahead_as_needed(workers: int) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            drawn.append(len(drawn))
            yield drawn[-1]

    results = map_in_order(lambda n: n * n, endless(), workers=workers)
    assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
    assert len(drawn) <= 10 + 2 * workers
    results.close()  # type: ignore[attr-defined]


def test_two_threads_work_at_once() -> None:
    meeting = threading.Barrier(2, timeout=30)  # passes only when two calls wait at it together
    assert len(list(map_in_order(lambda _: meeting.wait(), range(4), workers=2))) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_it(workers: int) -> None:
    results = map_in_order(lambda n: 1 // (n - 3), range(100), workers=workers)
    with pytest.raises(ZeroDivisionError):
        list(results)
