"""Weights of a mixture, by expectation-maximization.

The likelihood of given tokens is concave in the weights, so the fixed point that EM climbs to is
the best mixture there is (Jelinek, Mercer, "Interpolated estimation of Markov source parameters
from sparse data", 1980).

>>> log_probs = np.log([[0.9, 0.9, 0.1], [0.1, 0.1, 0.9]])
>>> learn_weights(log_probs).round(2).tolist()
[0.71, 0.29]
>>> learn_weights(np.log([[0.5, 0.5], [0.25, 0.125]])).round(6).tolist()
[1.0, 0.0]
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Rounds, and the change of a weight below which no more are made.
_ROUNDS: Final = 2000
_CHANGE: Final = 1e-9


def learn_weights(log_probs_KN: Array) -> Array:
    """Return the (K,) weights, none below 0 and together 1, with the most likelihood.

    Args:
        log_probs_KN: (K, N) natural logarithms of what each component gives to each token.
    """
    num_components = len(log_probs_KN)
    weights = np.full(num_components, 1.0 / num_components)
    if not log_probs_KN.size:
        return weights
    # A factor of a token has no part in it: the largest probability of each token is 1.
    p_KN = np.exp(log_probs_KN - log_probs_KN.max(axis=0))
    for _ in range(_ROUNDS):
        joint_KN = weights[:, None] * p_KN
        better = (joint_KN / joint_KN.sum(axis=0)).mean(axis=1)
        better /= better.sum()
        change = np.abs(better - weights).max()
        weights = better
        if change < _CHANGE:
            break
    return weights


def mixed_log_probs(log_probs_KN: Array, weights: Array) -> Array:
    """Return the natural logarithm of the mixture's probabilities, of any shape behind K.

    >>> mixed = mixed_log_probs(np.log([[0.5], [0.1]]), np.array([0.25, 0.75]))
    >>> round(float(np.exp(mixed[0])), 6)
    0.2
    """
    with np.errstate(divide="ignore"):
        logs = np.log(weights).reshape(-1, *[1] * (log_probs_KN.ndim - 1)) + log_probs_KN
    return np.asarray(np.logaddexp.reduce(logs, axis=0))
