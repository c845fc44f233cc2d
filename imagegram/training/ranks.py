"""Ranks: the processes that ``torchrun`` starts for one training on several nodes.

    torchrun --nnodes=2 --node-rank=R ... -m imagegram.run generator=maskgit trainer.num_nodes=2

Rank 0 runs the experiment: it owns run folder, loggers, locks and artifacts. The other ranks wait
for its courses and train each of them together with it, so they never take a lock. A rank that ends
closes its connections, which ends the others. Courses are pickled, as for worker processes: ranks
trust each other, as in every program of ``torch.distributed``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from imagegram.errors import StageError
from imagegram.training.launch import launched

if TYPE_CHECKING:
    from imagegram.training.course import Course

#: Longest time that ranks wait for each other inside a step, and to come at all.
_STEP: Final = timedelta(minutes=10)
#: Longest time between two courses: rank 0 may download, tokenize and index for days.
_COURSE: Final = timedelta(days=30)


@contextmanager
def connected() -> Iterator[None]:
    """Connect rank 0 with the others, which are sent home at the end; no-op without torchrun."""
    if not launched():
        yield
        return
    _courses()
    yield
    with suppress(StageError):  # a rank that ended meanwhile: nothing is left for it to do
        announce(None)  # not after an error: a rank that waits in a step would not receive it
    _disconnect()


def announce(course: Course | None) -> None:
    """Send a course from rank 0 to the other ranks; None: there are no more.

    Raises:
        StageError: when a rank has ended.
    """
    import torch.distributed as dist

    with ended_ranks_told():
        dist.broadcast_object_list([course], src=0, group=_courses())


def next_course() -> Course | None:
    """Return the next course of rank 0; None: there are no more, so this rank has disconnected.

    Raises:
        StageError: when a rank has ended.
    """
    import torch.distributed as dist

    received: list[Course | None] = [None]
    with ended_ranks_told():
        dist.broadcast_object_list(received, src=0, group=_courses())
    if received[0] is None:
        _disconnect()
    return received[0]


@contextmanager
def ended_ranks_told() -> Iterator[None]:
    """Turn a lost connection into an error that says what to do.

    Raises:
        StageError: when a rank has ended.
    """
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise StageError(
                "another process of this training has ended; when its messages are dealt with, "
                "start the same command on every node again: training continues from its last "
                "state"
            ) from error
        raise


@cache
def _courses() -> Any:
    """Return the group that courses are sent through; all ranks meet in the first call."""
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with ended_ranks_told():
        dist.init_process_group(backend, timeout=_STEP)
        return dist.new_group(backend="gloo", timeout=_COURSE)


def _disconnect() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()
    _courses.cache_clear()
