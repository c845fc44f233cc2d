"""The memory that a stage may use on this machine.

>>> budget_bytes(1.5)
1500000000
>>> 0 < budget_bytes(None) <= available_bytes()
True
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from imagegram.errors import ConfigError

#: Share of the available memory that is used when ``runtime.memory_gb`` is null; the rest stays
#: for pages of open files.
_SHARE: Final = 0.75
_GIGABYTE: Final = 10**9


def budget_bytes(memory_gb: float | None) -> int:
    """Return the bytes of memory that stages may use.

    Args:
        memory_gb: ``runtime.memory_gb``, in units of 10**9 bytes; None: three quarters of what is
            available now.

    Raises:
        ConfigError: when it is not positive.
    """
    if memory_gb is None:
        return int(available_bytes() * _SHARE)
    if not memory_gb > 0:
        raise ConfigError(
            f"runtime.memory_gb must be above 0 gigabytes, received {memory_gb}; type "
            "runtime.memory_gb=null for three quarters of what is available"
        )
    return int(memory_gb * _GIGABYTE)


def available_bytes() -> int:
    """Return the bytes that are available without swapping, within the limit of a container.

    The limit is that of control group v2. On systems other than Linux: half of all memory.
    """
    known = [bytes_ for bytes_ in (_of_system(), _of_container()) if bytes_ is not None]
    if known:
        return max(min(known), 0)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _of_system() -> int | None:
    return _number(Path("/proc/meminfo"), "MemAvailable:", unit=1024)


def _of_container() -> int | None:
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::/")[2].partition("\n")[0]
        folder = Path("/sys/fs/cgroup") / group
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # no such files, or the word "max": there is no limit
        return None
    cached = _number(folder / "memory.stat", "inactive_file")
    return limit - used + (cached or 0)


def _number(path: Path, key: str, unit: int = 1) -> int | None:
    """Read the number after a key in a file of ``key number`` lines; None when it is missing."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    return next((int(line[1]) * unit for line in lines if line[:1] == [key]), None)
