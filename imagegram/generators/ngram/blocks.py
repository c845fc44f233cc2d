"""Blocks of rows on threads, each with scratch memory of its own.

Threads and not processes: kernels release Python's lock, and the memory maps are shared as they
are. A block of rows is one task; which thread takes it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from typing import Final, TypeVar

from imagegram.generators.ngram.engine import Job

Scratch = TypeVar("Scratch")
#: Seconds between reports of what is finished.
_REPORT_S: Final = 0.1


def write_blocks(
    job: Job,
    *,
    most: int,
    make_scratch: Callable[[int], Scratch],
    write: Callable[[Scratch, int, int], Iterator[int]],
) -> None:
    """Write the rows of a job in blocks of ``most`` at most, on up to ``job.workers`` threads.

    Args:
        job: rows to write; its ``advance`` is called with finished tokens, on this thread.
        most: rows of a block, unless threads would go idle.
        make_scratch: memory of one thread, for blocks of a given size.
        write: writes rows ``start ... start + size - 1``, from scratch memory, start and size;
            yields how many tokens it has finished, now and then.
    """
    num_rows = job.shape[0]
    threads = max(1, min(job.workers, num_rows))
    block = min(most, -(-num_rows // threads))
    idle: SimpleQueue[Scratch] = SimpleQueue()
    for _ in range(threads):
        idle.put(make_scratch(block))
    finished: SimpleQueue[int] = SimpleQueue()
    interrupted = Event()

    def lent(start: int) -> None:
        scratch = idle.get()
        try:
            for tokens in write(scratch, start, min(block, num_rows - start)):
                finished.put(tokens)
                if interrupted.is_set():
                    return
        finally:  # else the other blocks would wait for it
            idle.put(scratch)

    with ThreadPoolExecutor(threads) as pool:
        waiting = {pool.submit(lent, start) for start in range(0, num_rows, block)}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=_REPORT_S, return_when=FIRST_COMPLETED)
                for _ in range(finished.qsize()):  # not what is added meanwhile
                    job.advance(finished.get())
                for future in done:
                    future.result()
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
