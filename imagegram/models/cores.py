"""Torch on a CPU: each piece of work on one core, many pieces in parallel on our own threads.

By default torch splits every product among all cores. That is no faster for networks of this size;
it is ten times slower when other programs use the cores, because torch's threads wait for the
slowest one after every product; and last bits then depend on the number of cores.
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
    """Limit torch to one core in this thread."""
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
    dtype: str = "float32",
) -> Iterator[Result]:
    """Apply a function to items: in parallel with one core each on a CPU, else one by one.

    Args:
        function: runs in threads, so modes set outside (autocast, inference) do not apply in it.
        items: few or small ones.
        device: where ``function`` computes.
        dtype: one of :data:`imagegram.models.dtypes.DTYPES`.
    """

    def compute(item: Item) -> Result:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return function(item)

    if device.type != "cpu":
        yield from map(compute, items)
        return

    def work(item: Item) -> Result:
        with one_core():
            return compute(item)

    workers = min(torch.get_num_threads(), len(items))
    yield from map_in_order(work, items, workers=workers)
