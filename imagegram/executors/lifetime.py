"""Worker processes never outlive the process that wants their work.

A worker leaves Ctrl-C to its parent, which ends its workers when it is interrupted itself
(:func:`ending_workers`). A parent that is killed (``kill -9``, out of memory) ends nobody: so a
worker ends with its parent (:func:`end_with_parent`). On Linux the kernel sees to that, also in the
middle of compiled code; elsewhere a thread looks once a second.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Final, Never

#: Signals that ask a process to end: Ctrl-C, kill, a closed terminal (Windows has no such signal).
SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
#: Number of the Linux call that asks for a signal when the parent ends (``man prctl``).
_PR_SET_PDEATHSIG: Final = 1
#: Seconds that a worker has to remove what is half-made.
_GRACE_S: Final = 2.0
_LOOK_S: Final = 1.0
#: Exit status of a worker that was asked to end.
STOPPED: Final = 143
#: Exit status of a worker that began to run the script of its parent, and what to say then.
UNGUARDED: Final = 78
UNGUARDED_WORDS: Final = (
    "worker processes import the script that starts them, so it must be safe to import; move what "
    'it does below a line: if __name__ == "__main__":'
)
#: Whether signals are held back on the main thread, and those that came meanwhile.
_held: Final = threading.Event()
_waiting: Final[list[int]] = []
#: Environment variable with the process id of a parent that workers end with.
_PARENT: Final = "IMAGEGRAM_PARENT"


def end_with_parent(parent: int, *, by_kernel: bool = True) -> None:
    """Let this process end when its parent ends, within a second.

    Args:
        parent: process id of the parent.
        by_kernel: ask the kernel where it can. It watches the *thread* that started this process,
            so this must be false if that thread may end earlier.
    """
    if by_kernel and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)
        return

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=look, name="parent watch", daemon=True).start()


@functools.cache
def end_with_launcher() -> None:
    """Let a process end with its parent when a launcher of Hydra, such as joblib's, started it."""
    if multiprocessing.current_process().name != "MainProcess":
        end_with_parent(os.getppid(), by_kernel=False)  # a passing thread may have started it


def begin_worker(parent: int, by_kernel: bool) -> None:
    """Prepare a worker of a pool: it ends with its parent, and on SIGTERM, but not on Ctrl-C."""
    end_with_parent(parent, by_kernel=by_kernel)
    for number in SIGNALS:
        signal.signal(number, _stop if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _stop(*_: object) -> Never:
    sys.exit(STOPPED)  # an exception, so that a job removes what is half-made


@contextmanager
def announced() -> Iterator[None]:
    """Let processes that are started inside end with this one from their first import on.

    A worker imports the package for seconds before :func:`begin_worker` is called.
    """
    if threading.current_thread() is threading.main_thread():  # else the kernel would end them
        os.environ[_PARENT] = str(os.getpid())  # early, with the thread
    try:
        yield
    finally:
        os.environ.pop(_PARENT, None)


def heed_announcement() -> None:
    """End with the parent, if it announced that; called when the package is imported."""
    if os.environ.get(_PARENT) == str(os.getppid()):
        end_with_parent(os.getppid())


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back signals, for processes that are started inside: they inherit that.

    A worker takes seconds to import the package, and Ctrl-C reaches it too: it would show where it
    was, in a traceback. :func:`begin_worker` lets the signals through.

    Another thread of this process may take a signal all the same. Its handler, which Python calls
    on the main thread, waits (:func:`postponed`): else a process that is started would never be
    told what to do, and would say so in a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    is_outer = threading.current_thread() is threading.main_thread() and not _held.is_set()
    if is_outer:
        _held.set()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if is_outer:
            _held.clear()
            while _waiting:
                signal.raise_signal(_waiting.pop())


def postponed(number: int) -> bool:
    """Return whether a signal is held back; its handler is then called again afterwards."""
    if _held.is_set():
        _waiting.append(number)
    return _held.is_set()


def refuse_in_import() -> None:
    """End a worker that runs the script of its parent, and with it what only the parent shall do.

    A spawned process first imports the file that was started, for what is defined there; what
    stands outside ``if __name__ == "__main__":`` is run once more, before any job.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        if os.environ.get(_PARENT) != str(os.getppid()):  # it was not started by an executor
            sys.stderr.write(f"imagegram: {UNGUARDED_WORDS}\n")
        os._exit(UNGUARDED)


@contextmanager
def ending_workers() -> Iterator[set[BaseProcess]]:
    """End the processes that were started inside when an interrupt comes, before it goes on.

    An ordinary error lets them finish their jobs: whoever started them waits for that.

    Yields:
        The processes that were there before.
    """
    before = set(multiprocessing.active_children())
    try:
        yield before
    except Exception:
        raise
    except BaseException:
        end([child for child in multiprocessing.active_children() if child not in before])
        raise


def end(workers: Sequence[BaseProcess]) -> None:
    """End processes: they may clean up for two seconds, then they are killed."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _GRACE_S
    for worker in workers:
        worker.join(max(deadline - time.monotonic(), 0))
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()
