"""Ctrl-C, ``kill`` and a closed terminal end a run in one way: closed, recorded, in one sentence.

    with interruptible() as interruptions:
        interruptions.record = record
        ...                     # a signal raises Interrupted here, and the run unwinds

The exception is a KeyboardInterrupt, so that every library does on ``kill`` what it does on Ctrl-C.
Python raises it between two steps of the main thread. Compiled code may keep that thread busy for
longer than a user or a cluster waits: then a thread of ours calls ``record`` and ends the process.
So does a second Ctrl-C.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from imagegram.executors.lifetime import SIGNALS, postponed

#: Seconds until the run begins to close, and then until it is closed.
_UNWIND_S: Final = 8.0
_CLOSE_S: Final = 20.0
#: Signals this near to each other are one: a terminal and a launcher both pass Ctrl-C on.
_ONE_S: Final = 0.7


class Interrupted(KeyboardInterrupt):
    """The process was asked to end.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


class Interruptions:
    """The signals that this process received; one object, :data:`interruptions`.

    Attributes:
        first: the first signal; None: none so far.
        closing: set by a run that began to close.
        record: writes down that the run was interrupted, from any thread.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self._raised = False
        self.closing = threading.Event()
        self.record: Callable[[], None] = lambda: None

    def __reduce__(self) -> str:
        """Stay the one object of a process: launchers send the job function to others by value."""
        return "interruptions"

    def forget(self) -> None:
        """Forget a run that is closed."""
        self.record = lambda: None
        self.closing.clear()

    @property
    def status(self) -> int:
        """Exit status of a process that ends by the first signal: 130 for Ctrl-C, 143 for kill."""
        return 128 + (self.first or signal.SIGINT)

    @property
    def error(self) -> Interrupted | None:
        """The interruption, for records; None: there was none."""
        return None if self.first is None else Interrupted(self.first)

    def say(self) -> None:
        """Tell the user on stderr, in one sentence."""
        name = signal.Signals(self.first or signal.SIGINT).name
        with contextlib.suppress(OSError):
            sys.stderr.write(
                f"\nimagegram: interrupted by {name}; what is finished is kept, and the same "
                "command goes on from there\n"
            )

    def handle(self, number: int, frame: Any) -> None:
        """Raise the first signal as an exception; later ones must not disturb the closing."""
        if postponed(number):
            return
        self.first = self.first or number  # the watching thread may have been faster
        if not self._raised:
            self._raised = True
            raise Interrupted(self.first)

    def watch(self, receiver: int) -> None:
        """End the process when it does not end by itself, or at a second signal (on a thread).

        Args:
            receiver: descriptor from which the numbers of signals are read as they arrive.
        """
        while (number := _read(receiver)) not in SIGNALS:
            if number is None:
                return  # closed: all went well
        self.first = self.first or number
        began = time.monotonic()
        threading.Thread(target=self._end_at, args=(began,), daemon=True).start()
        while (number := _read(receiver)) is not None:
            if number in SIGNALS and time.monotonic() - began > _ONE_S:
                self._end_now()

    def _end_at(self, began: float) -> None:
        if self.closing.wait(_UNWIND_S):
            time.sleep(max(began + _UNWIND_S + _CLOSE_S - time.monotonic(), 0))
        self._end_now()

    def _end_now(self) -> None:
        with contextlib.suppress(Exception):  # the process must end, recorded or not
            self.record()
        self.say()
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(self.status)


def _read(receiver: int) -> int | None:
    """Read the next signal; None at the end."""
    try:
        byte = os.read(receiver, 1)
    except OSError:
        return None
    return byte[0] if byte else None


interruptions: Final = Interruptions()


@contextmanager
def interruptible() -> Iterator[Interruptions]:
    """Raise signals as :class:`Interrupted`; inside another one, and on other threads, do nothing.

    Handlers that were set by others (a notebook, a cluster's launcher) and signals that are ignored
    (``nohup``) stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield interruptions
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    ours = {number: signal.getsignal(number) for number in SIGNALS}
    ours = {number: handler for number, handler in ours.items() if handler in usual}
    if not ours:
        yield interruptions
        return
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    threading.Thread(target=interruptions.watch, args=(receiver,), daemon=True).start()
    for number in ours:
        signal.signal(number, interruptions.handle)
    try:
        yield interruptions
    finally:
        if interruptions.first is None:  # else the process is about to end, and stays watched
            for number, handler in ours.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            os.close(sender)
