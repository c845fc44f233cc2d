"""Distributions over ids and draws from them, for generators that learn a network."""

from __future__ import annotations

import torch
from torch import Tensor

from imagegram.samplers.truncation import Truncation


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


def probabilities(logits: Tensor, temperature: float, cut: Truncation) -> Tensor:
    """Return probabilities: tempered, cut, and summing to one.

    The order is that of ``samplers/truncation.py``: top-k, top-p, min-p, each divided by its sum;
    among equals the smaller id is kept.

    Args:
        logits: (..., V).
        temperature: divisor of the logits; 0: always the most probable id, the first among equals.
        cut: what is cut away; its own temperature is not used.

    Returns:
        (..., V) float64.
    """
    logits = logits.double()
    if temperature == 0.0:
        most = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, most, 1.0)
    p = (logits / temperature).softmax(dim=-1)
    if cut.top_k is not None or cut.top_p < 1.0:
        ordered, ids = p.sort(dim=-1, descending=True, stable=True)
        if cut.top_k is not None:
            ordered[..., cut.top_k :] = 0.0
            ordered /= ordered.sum(dim=-1, keepdim=True)
        if cut.top_p < 1.0:
            before = ordered.cumsum(dim=-1) - ordered
            ordered = ordered.masked_fill(before >= cut.top_p, 0.0)
            ordered /= ordered.sum(dim=-1, keepdim=True)
        p = torch.zeros_like(p).scatter_(-1, ids, ordered)
    if cut.min_p > 0.0:
        least = cut.min_p * p.amax(dim=-1, keepdim=True)
        p = p.masked_fill(p < least, 0.0)
        p /= p.sum(dim=-1, keepdim=True)
    return p


def guided(logits: Tensor, scale: float) -> Tensor:
    """Return the logits of samples from those of two passes; see ``samplers/guidance.py``.

    Args:
        logits: (2 B, ...) logits: B rows under their labels, then the same rows without.
        scale: s.

    Returns:
        (B, ...) logits; at s = 1 exactly those under the labels.
    """
    conditional, unconditional = logits.chunk(2)
    if scale == 1.0:
        return conditional
    return unconditional + scale * (conditional - unconditional)
