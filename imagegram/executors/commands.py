"""How every command ends: with an exit status, and one sentence where something stopped it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console

from imagegram.errors import ImagegramError
from imagegram.executors.interrupts import interruptible, interruptions


def exit_cleanly(main: Callable[[], int]) -> int:
    """Run a command; return its exit status.

    A user's error becomes one line on stderr and status 1; Ctrl-C one line and 130, ``kill`` one
    line and 143; a reader that wants no more (``| head``) ends a command in silence.
    """
    try:
        with interruptible():
            return main()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            _silence(stream)
        return 0
    except ImagegramError as error:
        _say(f"imagegram: {error}")
        return 1
    except KeyboardInterrupt:
        pass
    except SystemExit:
        if interruptions.first is None:
            raise
    interruptions.say()
    return interruptions.status


def _say(line: str) -> None:
    """Write a line in red; not wrapped, so that commands in it can be copied."""
    console = Console(stderr=True, highlight=False)
    console.print(line, style="red", markup=False, soft_wrap=True)


@contextmanager
def unbroken_pipes() -> Iterator[None]:
    """Let a long command go on when nobody reads its output any more: the results are in files."""
    before = sys.stdout, sys.stderr
    stdout, stderr = (_Unbroken(stream) for stream in before)
    sys.stdout, sys.stderr = stdout, stderr
    try:
        yield
    finally:
        for stream in (stdout, stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Unbroken:
    """A text stream that drops what cannot be written because its pipe was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, if anybody reads it."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            _silence(self._stream)
            return len(text)

    def flush(self) -> None:
        """Flush, if anybody reads it."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            _silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _silence(stream: TextIO) -> None:
    """Send what is still to come to nowhere, also what is in the stream's buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
