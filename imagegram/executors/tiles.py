"""Large sums over pairs of images, tile by tile: bounded memory, same bits on any threads.

Every tile is multiplied by one thread, and tiles are added in their order: so a sum does not depend
on how many workers there are. (One multiplication over all cores is not faster, and much slower
where other processes have some of them.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from imagegram.executors.threads import map_in_order

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Callback that receives the number of further units that are done.
Advance = Callable[[int], None]


def over_tiles(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Iterator[Result]:
    """Yield results in the order of ``items``; at most twice ``workers`` results wait.

    Args:
        function: called in any thread, with single-threaded linear algebra.
        items: arguments of the function.
        workers: number of threads.
    """
    with one_thread_each():
        yield from map_in_order(function, items, workers=workers)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit linear algebra to one thread: decompositions on all cores block each other."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def row_tiles(num_rows: int, size: int) -> list[slice]:
    """Return slices of the rows 0 ... num_rows - 1, each of at most ``size``."""
    return [slice(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]
