"""Usage: seconds, processor seconds and the peak of memory while something is made.

>>> with Usage() as usage:
...     held = bytes(1)
>>> usage.seconds >= 0.0, usage.cpu_s >= 0.0
(True, True)

Memory counts anonymous pages of this process and of the processes that it started: what arrays and
libraries take. Pages of mapped files, which the system takes back when it needs them, are left out;
the kernel keeps no peak without them, so the sum is read ten times a second. It is 0 where the
system has no ``/proc``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
_PAUSE_S: Final = 0.1
#: Readings between two searches for new processes, which read a file of each on the machine.
_READINGS: Final = 10


class Usage:
    """What is used while a ``with`` block lasts.

    Attributes:
        seconds: of the clock.
        cpu_s: of processors: threads of this process, and processes of its own that have ended.
        memory_bytes: largest sum of anonymous pages.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_s = 0.0
        self.memory_bytes = 0
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        """Begin to read."""
        self._started, self._cpu = time.perf_counter(), _processor_seconds()
        self._reader.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End with a last reading."""
        self._over.set()
        self._reader.join()
        self.seconds = time.perf_counter() - self._started
        self.cpu_s = _processor_seconds() - self._cpu

    def _read(self) -> None:
        """Read until the block is left; once more then, so that a short block has a reading."""
        family = [os.getpid()]
        reading, over = 0, False
        while True:
            if reading % _READINGS == 1:  # not at once: what is short has started nothing
                family = [os.getpid(), *_descendants(os.getpid())]
            self.memory_bytes = max(self.memory_bytes, sum(map(anonymous_bytes, family)))
            if over:
                return
            reading, over = reading + 1, self._over.wait(_PAUSE_S)


def anonymous_bytes(process: int) -> int:
    """Return the bytes that a process holds apart from mapped files; 0 if it is gone."""
    try:
        resident, shared = (_PROC / str(process) / "statm").read_text().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _descendants(ancestor: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    parents = dict(_parents())
    found = [ancestor]
    for parent in found:  # grows meanwhile
        found += [process for process, its in parents.items() if its == parent]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    """Yield every process of the machine with its parent."""
    for path in _PROC.glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:  # it has ended
            continue
        yield int(path.parent.name), int(text.rpartition(")")[2].split()[1])


def _processor_seconds() -> float:
    """Return the processor seconds of this process and of those it started that have ended."""
    return sum(os.times()[:4])
