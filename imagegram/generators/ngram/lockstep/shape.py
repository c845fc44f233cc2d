"""Counts to probabilities on a device, with the bits of ``samplers/ngram.py``.

Additions happen one by one in ascending token order, as there; divisions and products are IEEE on
every device. Powers and logarithms are not: they differ between libraries in the last bit. So
powers come from the host, by the definition's own ``weight``; the entropy is computed on the
device, and where an error of its last bits could show in float32, on the host.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from imagegram.samplers.ngram import NgramSampler, weight
from imagegram.samplers.truncation import entropy_bits

#: Counts below this have their powers in a table.
SIDE: Final = 256


class Shaped(NamedTuple):
    """E distributions over up to K tokens each.

    Attributes:
        probability: (K, E) float64, 0 for what was cut away and behind the last token.
        cumulative: (K, E) float64 sums of the probabilities up to each token.
        last: (E,) int64 last token that can be drawn.
        entropy: (E,) float32 bits.
    """

    probability: Tensor
    cumulative: Tensor
    last: Tensor
    entropy: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaper:
    """A sampler's temperature and truncation, for many contexts at once."""

    sampler: NgramSampler
    device: torch.device

    def shape(self, counts_KE: Tensor, *, bounded: bool) -> Shaped:
        """Turn counts into distributions.

        Args:
            counts_KE: (K, E) int64, E >= 2: counts by ascending token id, then zeros; at least one
                of a column is not zero.
            bounded: whether all are known to be below :data:`SIDE`.
        """
        p_KE = self._probabilities(counts_KE, bounded)
        positive = p_KE > 0
        numbers = torch.arange(len(p_KE), device=self.device)[:, None]
        last_E = (numbers * positive).amax(0)
        return Shaped(p_KE, running_sum(p_KE), last_E, _entropy(p_KE, positive))

    def _probabilities(self, counts_KE: Tensor, bounded: bool) -> Tensor:
        """Compute ``samplers.ngram.distribution``, line by line, for all columns."""
        top_k, top_p, min_p = self.sampler.top_k or 0, self.sampler.top_p, self.sampler.min_p
        largest_E = counts_KE.argmax(0, keepdim=True)  # the first among equals
        if self.sampler.temperature == 0.0:
            zeros = torch.zeros(counts_KE.shape, dtype=torch.float64, device=self.device)
            return zeros.scatter_(0, largest_E, 1.0)
        p_KE = _normalized(self._powers(counts_KE, counts_KE.gather(0, largest_E), bounded))
        if top_k or top_p < 1.0:
            order_KE = (-p_KE).sort(dim=0, stable=True).indices
            numbers_KE = torch.arange(len(p_KE), device=self.device)[:, None].expand_as(order_KE)
            rank_KE = torch.empty_like(order_KE).scatter_(0, order_KE, numbers_KE)
            if top_k:
                cut_KE = _normalized(torch.where(rank_KE < top_k, p_KE, 0.0))
                p_KE = torch.where((counts_KE > 0).sum(0) > top_k, cut_KE, p_KE)
            if top_p < 1.0:
                mass_KE = running_sum(p_KE.gather(0, order_KE)).roll(1, 0)
                mass_KE[0] = 0.0
                kept_KE = (mass_KE < top_p).gather(0, rank_KE)
                p_KE = _normalized(torch.where(kept_KE, p_KE, 0.0))
        if min_p > 0.0:
            least_E = min_p * p_KE.gather(0, largest_E)
            p_KE = _normalized(torch.where(p_KE < least_E, 0.0, p_KE))
        return p_KE

    def _powers(self, counts_KE: Tensor, top_E: Tensor, bounded: bool) -> Tensor:
        """Return ``(count / top) ** (1 / temperature)``."""
        if bounded:
            return self._power_table[counts_KE + top_E * SIDE]
        small_E = top_E < SIDE
        powers_KE = self._power_table[torch.where(small_E, counts_KE + top_E * SIDE, 0)]
        large = (~small_E[0]).nonzero().squeeze(1)
        ratios = counts_KE[:, large].double() / top_E[:, large].double()
        distinct, number = torch.unique(ratios, return_inverse=True)
        temperature = self.sampler.temperature
        table = [weight(ratio, 1, temperature) for ratio in distinct.tolist()]
        powers_KE[:, large] = torch.tensor(table, dtype=torch.float64, device=self.device)[number]
        return powers_KE

    @cached_property
    def _power_table(self) -> Tensor:
        """(SIDE * SIDE,) power of count / top at ``count + top * SIDE``."""
        temperature, table = self.sampler.temperature, np.zeros((SIDE, SIDE))
        for top in range(1, SIDE):
            table[top, 1 : top + 1] = [weight(n, top, temperature) for n in range(1, top + 1)]
        return torch.from_numpy(table.ravel()).to(self.device)


def running_sum(values_KE: Tensor) -> Tensor:
    """Sum the rows from the first one on, added one by one."""
    if _adds_in_order(values_KE.device):
        return values_KE.cumsum(0)
    sums_KE = values_KE.clone()
    for above, row in itertools.pairwise(sums_KE):
        row += above
    return sums_KE


@functools.cache
def _adds_in_order(device: torch.device) -> bool:
    """Whether torch adds down the columns of a matrix one by one; one row at a time, CUDA does not.

    Nothing promises that it will stay so: a column of numbers whose sum depends on the order asks.
    """
    values_KE = np.random.Generator(np.random.Philox(0)).random((3000, 4))
    sums_KE = torch.from_numpy(values_KE).to(device).cumsum(0).cpu().numpy()
    return np.array_equal(sums_KE, np.cumsum(values_KE, axis=0))


def _normalized(weights_KE: Tensor) -> Tensor:
    return weights_KE / running_sum(weights_KE)[-1]


def _entropy(p_KE: Tensor, positive_KE: Tensor) -> Tensor:
    """Return (E,) float32 bits of entropy: the definition's float64 sum, rounded."""
    terms_KE = p_KE * p_KE.log2()
    bits_E = -torch.where(positive_KE, terms_KE, 0.0).sum(0)
    # Far more than the error of any logarithm and any order of additions.
    error = (len(p_KE) + 8) * 2.0**-46
    rounded_E = bits_E.float()
    unsure_E = ((bits_E - error).float() != (bits_E + error).float()) & (positive_KE.sum(0) > 1)
    for e in unsure_E.nonzero().ravel().tolist():
        rounded_E[e] = entropy_bits(p_KE[:, e].cpu().numpy())
    return torch.where(positive_KE.sum(0) > 1, rounded_E, 0.0)
