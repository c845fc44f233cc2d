"""Documents of different lengths: how long one is, is drawn first; what is behind it is not seen.

The network of such documents has one tensor more, ``lengths``: (T + 1,) float32 shares of training
windows with 0 ... T tokens, every length counted once more than it was found, so that none is
impossible.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagegram.records import row_sizes
from imagegram.training.objective import Items

#: Windows whose lengths are counted, evenly spread, and how many at a time.
_NUM_COUNTED: Final = 16_384
_CHUNK: Final = 1024


def keep_lengths(network: nn.Module, num_tokens: int) -> None:
    """Give a network the buffer ``lengths``, all lengths alike."""
    count = num_tokens + 1
    network.register_buffer("lengths", torch.full((count,), 1 / count))


def count_lengths(items: Items, num_tokens: int) -> Tensor:
    """Return ``lengths`` of some training windows of up to ``num_tokens`` tokens."""
    counts = np.ones(num_tokens + 1)
    for tokens_BT in _spread(items):
        counts += np.bincount(row_sizes(tokens_BT[:, :num_tokens]), minlength=num_tokens + 1)
    return torch.from_numpy(counts / counts.sum()).float()


def _spread(items: Items) -> Iterator[NDArray[Any]]:
    """Yield rows, evenly spread, some at a time."""
    num_rows = min(_NUM_COUNTED, len(items))
    rows = np.arange(num_rows) * len(items) // num_rows
    for first in range(0, num_rows, _CHUNK):
        yield items.gather(rows[first : first + _CHUNK])


def seen(there_BT: Tensor | None, *, first: bool = False) -> Tensor | None:
    """Return (B, 1, 1, T) bool, True where a position is seen by all others; None: everywhere.

    Args:
        there_BT: bool, True for the tokens of a document.
        first: whether a class token stands before them.
    """
    if there_BT is None:
        return None
    if first:
        there_BT = nn.functional.pad(there_BT, (1, 0), value=True)
    else:  # a document of no tokens sees something too, so that no sum is empty
        there_BT = there_BT | (torch.arange(there_BT.shape[1], device=there_BT.device) == 0)
    return there_BT[:, None, None]


def draw_lengths(lengths: Tensor, uniforms_B: Tensor, least_B: Tensor) -> Tensor:
    """Draw how many tokens documents have.

    Args:
        lengths: (T + 1,) shares of documents of 0 ... T tokens.
        uniforms_B: (B,) uniforms in [0, 1).
        least_B: (B,) int64 lengths that documents have at least, 0 ... T.

    Returns:
        (B,) int64 lengths.

    >>> shares = torch.tensor([0.5, 0.0, 0.5])
    >>> uniforms = torch.tensor([0.0, 0.9, 0.0], dtype=torch.float64)
    >>> draw_lengths(shares, uniforms, torch.tensor([0, 0, 1])).tolist()
    [0, 2, 2]
    """
    shares_BL = at_least(lengths, least_B)
    ends_BL = shares_BL.cumsum(dim=-1)
    wanted_B1 = (uniforms_B * ends_BL[:, -1])[:, None]
    return torch.searchsorted(ends_BL, wanted_B1, right=True)[:, 0].clamp(max=len(lengths) - 1)


def at_least(lengths: Tensor, least_B: Tensor) -> Tensor:
    """Return (B, T + 1) float64 probabilities of lengths, of those that are long enough.

    >>> at_least(torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0, 1])).tolist()
    [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]]
    """
    long_enough_BL = torch.arange(len(lengths), device=lengths.device) >= least_B[:, None]
    shares_BL = lengths.double() * long_enough_BL
    return shares_BL / shares_BL.sum(dim=-1, keepdim=True)
