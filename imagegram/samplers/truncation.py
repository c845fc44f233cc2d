"""Truncation: a distribution over the next token, sharpened and cut; samplers inherit the knobs.

The order is that of top-k, then top-p, then min-p; what is left is divided by its sum.

The native kernels compile this very source, and no step leaves the order of additions open:
interpreted and compiled, they give the same bits.

>>> p_K = np.array([0.1, 0.4, 0.4, 0.1])
>>> truncate(p_K, 1, 2, 1.0, 0.0)
>>> p_K.tolist()
[0.0, 0.5, 0.5, 0.0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """Knobs that sharpen and cut a distribution over the next token.

    Attributes:
        temperature: probabilities are raised to 1/temperature; 0 takes the most probable token,
            the smallest id among equals.
        top_k: keep this many most probable tokens; None keeps all.
        top_p: then keep the fewest most probable tokens whose sum reaches this.
        min_p: then keep tokens at least this fraction as probable as the most probable one.
    """

    temperature: float = 0.9
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        require(
            0.0 <= self.temperature < math.inf,
            (
                "temperature",
                self.temperature,
                "0 (always the most probable token) or a positive number",
            ),
        )
        require(
            self.top_k is None or is_count(self.top_k),
            ("top_k", self.top_k, "a whole number of at least 1, or null to keep all tokens"),
        )
        require(0.0 < self.top_p <= 1.0, ("top_p", self.top_p, "in (0, 1]; 1 keeps all tokens"))
        require(0.0 <= self.min_p <= 1.0, ("min_p", self.min_p, "in [0, 1]; 0 keeps all tokens"))


def is_count(value: Any) -> bool:
    """Whether a knob is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def require(holds: bool, knob: tuple[str, Any, str]) -> None:
    """Refuse a value of a sampler's knob, given as (name, value, what is allowed)."""
    name, value, allowed = knob
    if not holds:
        raise ConfigError(f"sampler.{name}={value}: must be {allowed}; set sampler.{name}=VALUE")


def truncate(
    p_K: NDArray[np.float64], largest: int, top_k: int, top_p: float, min_p: float
) -> None:
    """Turn weights into probabilities, in place, without those that the knobs cut away."""
    num = p_K.size
    p_K /= total(p_K)
    if 0 < top_k < num:
        keep_most(p_K, top_k, np.partition(p_K, num - top_k)[num - top_k])
    if top_p < 1.0 or min_p > 0.0:
        cut_improbable(p_K, largest, top_p, min_p)


def keep_most(p_K: NDArray[np.float64], top_k: int, least: float) -> None:
    """Keep the ``top_k`` most probable tokens, of which ``least`` is the smallest probability."""
    equals = top_k  # of the least probable ones kept, the smaller ids are
    for i in range(p_K.size):
        equals -= p_K[i] > least
    for i in range(p_K.size):
        if p_K[i] == least and equals > 0:
            equals -= 1
        elif p_K[i] <= least:
            p_K[i] = 0.0
    p_K /= total(p_K)


def cut_improbable(p_K: NDArray[np.float64], largest: int, top_p: float, min_p: float) -> None:
    """Cut by the mass that is kept, then by the probability of the most probable token."""
    if top_p < 1.0:
        num = p_K.size
        order_K = np.argsort(-p_K, kind="mergesort")  # stable: the smaller id first among equals
        mass, kept = 0.0, 0
        while kept < num and mass < top_p:
            mass += p_K[order_K[kept]]
            kept += 1
        p_K[order_K[kept:]] = 0.0
        p_K /= total(p_K)
    if min_p > 0.0:
        p_K[p_K < min_p * p_K[largest]] = 0.0
        p_K /= total(p_K)


def total(p_K: NDArray[np.float64]) -> float:
    """Return the sum, added one by one: the same bits interpreted and compiled."""
    mass = 0.0
    for i in range(p_K.size):
        mass += p_K[i]
    return mass


def draw(p_K: NDArray[np.float64], uniform: float) -> int:
    """Return the index of the token that a uniform in [0, 1) selects by the cumulative sum.

    Rounding may leave the sum below ``uniform``: then the last possible token is meant.
    """
    cumulative, last = 0.0, 0
    for i in range(p_K.size):
        if p_K[i] > 0.0:
            cumulative += p_K[i]
            last = i
            if uniform < cumulative:
                break
    return last


def entropy_bits(p_K: NDArray[np.float64]) -> float:
    """Return the entropy of a distribution in bits."""
    bits, last, term = 0.0, 1.0, 0.0
    for i in range(p_K.size):
        if p_K[i] > 0.0:
            if p_K[i] != last:  # many are equal: one logarithm for all in a row
                last = p_K[i]
                term = last * math.log2(last)
            bits -= term
    return bits
