"""Jobs for executors: functions that other processes import by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from imagegram.errors import StageError


def double(number: int, progress: Any) -> int:
    if number < 0:
        raise StageError(f"{number} is negative")
    return 2 * number


def square_slowly(number: int, progress: Any) -> int:
    """Report a step for each unit, and stay until the command has looked."""
    task = progress.start("square", number, "steps")
    for step in range(number):
        if step == number - 1:
            time.sleep(0.6)
        progress.advance(task)
    time.sleep(1.0)
    progress.finish(task)
    return number**2


def die_once(mark: Path, progress: Any) -> int:
    """Die at the first attempt; the second finds the mark of the first."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1
