"""Draws from distributions over ids, for generators that learn a network."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_ids(p: Tensor, uniforms: Tensor) -> Tensor:
    """Draw an id from every distribution, by the inverse of the cumulative sum.

    Args:
        p: (..., V) float64 probabilities, that of some id above 0.
        uniforms: (...) float64 in [0, 1).

    Returns:
        (...) int64 ids, none of probability 0.
    """
    cumulative = p.cumsum(dim=-1)
    # Rounding may leave the sum below 1: the uniform is a share of what the sum has reached, and so
    # stays below it.
    wanted = (uniforms * cumulative[..., -1])[..., None]
    return torch.searchsorted(cumulative, wanted, right=True)[..., 0]
