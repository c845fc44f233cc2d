"""Torch on a CPU: every piece of work on one core, pieces side by side on threads of ours.

Torch would rather split each product among all cores. That is no faster for networks of this size,
and where other programs want the cores too it is ten times slower, because its threads wait for the
slowest after every product. It also lets the number of cores decide last bits; here it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from imagegram.executors.threads import map_in_order

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_core() -> Iterator[None]:
    """One core for all that this thread asks of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def map_on_cores(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    device: torch.device,
) -> Iterator[Result]:
    """``map``, on a CPU with one core an item; elsewhere one item after the other.

    Args:
        function: runs in threads, which know nothing of modes (autocast, inference) set outside.
        items: few, or small.
        device: where ``function`` computes.
    """
    if device.type != "cpu":
        yield from map(function, items)
        return

    def work(item: Item) -> Result:
        with one_core():
            return function(item)

    workers = min(torch.get_num_threads(), len(items))
    yield from map_in_order(work, items, workers=workers)
