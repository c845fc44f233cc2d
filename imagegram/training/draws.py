"""Random draws of training, as functions of seed and step, so that any step can be the first.

>>> rows = [batch_rows(seed=0, step=step, batch_size=2, num_items=5) for step in range(5)]
>>> sorted(np.concatenate(rows).tolist())
[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Purposes of random numbers; each has a stream of its own.
ORDER: Final = 0
BATCH: Final = 1
WEIGHTS: Final = 2
DROPOUT: Final = 3
CODES: Final = 4
ERRORS: Final = 5
GUIDES: Final = 6


def generator(*, seed: int, purpose: int, number: int) -> np.random.Generator:
    """Return the random generator of one step (or one epoch) for one purpose."""
    bits = np.random.Philox(key=[seed, purpose], counter=[0, 0, 0, number])
    return np.random.Generator(bits)


def torch_seed(*, seed: int, purpose: int, number: int) -> int:
    """Return a seed for torch's random numbers, 0 ... 2**63 - 1."""
    return int(generator(seed=seed, purpose=purpose, number=number).integers(2**63))


def batch_rows(*, seed: int, step: int, batch_size: int, num_items: int) -> NDArray[np.int64]:
    """Return the (batch_size,) items of a step; every epoch has all items once, shuffled anew.

    Memory: 8 bytes an item for each of the two epochs that a batch may touch.
    """
    places = step * batch_size + np.arange(batch_size, dtype=np.int64)
    epochs, within = np.divmod(places, num_items)
    rows = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs).tolist():
        chosen = epochs == epoch
        rows[chosen] = _order(seed, epoch, num_items)[within[chosen]]
    return rows


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_items: int) -> NDArray[np.int64]:
    return generator(seed=seed, purpose=ORDER, number=epoch).permutation(num_items)
