"""Blocks of images on threads, each with scratch memory of its own.

Threads and not processes: kernels release Python's lock, and the memory maps are shared as they
are. A block of images is one job; which thread takes it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

Write = Callable[[int, int], None]


def write_blocks(
    write: Write, count: int, block: int, threads: int, advance: Callable[[int], None]
) -> None:
    """Write ``count`` images in blocks on threads; ``advance`` hears of the images done."""
    starts = range(0, count, block)
    sizes = [min(block, count - start) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        for size, _ in zip(sizes, pool.map(write, starts, sizes), strict=True):
            advance(size)


def lend(
    scratches: list[tuple[Any, ...]], write: Callable[[tuple[Any, ...], int, int], None]
) -> Write:
    """``write`` with scratch memory that no other thread uses meanwhile."""
    idle: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    for scratch in scratches:
        idle.put(scratch)

    def lent(start: int, size: int) -> None:
        scratch = idle.get()
        try:
            write(scratch, start, size)
        finally:  # else the other images would wait for it
            idle.put(scratch)

    return lent
