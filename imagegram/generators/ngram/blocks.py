"""Blocks of rows on threads, each with scratch memory of its own.

Threads and not processes: kernels release Python's lock, and the memory maps are shared as they
are. A block of rows is one task; which thread takes it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from imagegram.generators.ngram.engine import Job

Scratch = TypeVar("Scratch")


def write_blocks(
    job: Job,
    *,
    most: int,
    make_scratch: Callable[[int], Scratch],
    write: Callable[[Scratch, int, int], None],
) -> None:
    """Write the rows of a job in blocks of ``most`` at most, on up to ``job.workers`` threads.

    Args:
        job: rows to write; its ``advance`` is called with finished tokens.
        most: rows of a block, unless threads would go idle.
        make_scratch: memory of one thread, for blocks of a given size.
        write: rows ``start ... start + size - 1``, from scratch memory, start and size.
    """
    num_rows, num_tokens = job.shape
    threads = max(1, min(job.workers, num_rows))
    block = min(most, -(-num_rows // threads))
    idle: SimpleQueue[Scratch] = SimpleQueue()
    for _ in range(threads):
        idle.put(make_scratch(block))

    def lent(start: int, size: int) -> None:
        scratch = idle.get()
        try:
            write(scratch, start, size)
        finally:  # else the other blocks would wait for it
            idle.put(scratch)

    starts = range(0, num_rows, block)
    sizes = [min(block, num_rows - start) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        for size, _ in zip(sizes, pool.map(lent, starts, sizes), strict=True):
            job.advance(size * num_tokens)
