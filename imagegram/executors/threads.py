"""Threads inside one job, for work that releases the interpreter's lock; results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items in flight per thread: one being worked on and one waiting.
_AHEAD: Final = 2


def chunks(items: Iterable[Item], *, size: int = 16) -> Iterator[list[Item]]:
    """Yield lists of a few items, each for one thread and one step of a progress bar.

    >>> list(chunks("abcde", size=2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """Apply a function on threads; return results in order, in bounded memory.

    Items are taken in the calling thread, and only as far ahead as keeps the threads busy. The
    first error ends the iteration.

    Args:
        function: called in any thread.
        items: may be endless.
        workers: threads; 1 means the calling thread alone.

    >>> list(map_in_order(abs, [-3, 1, -2], workers=2))
    [3, 1, 2]
    """
    if workers <= 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                if len(under_way) >= _AHEAD * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
