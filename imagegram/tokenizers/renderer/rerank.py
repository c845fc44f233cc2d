"""Reranking: of several candidates of a sentence, the one that says what its codes say.

What a candidate says is read by the encoder of the tokenizer: it is embedded, and for ``codes``
quantized, like a sentence of the corpus.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: How candidates are judged: ``codes``, by the weights of the stages whose code comes back;
#: ``cosine``, by the cosine to the sum of the vectors of the codes; ``none``, by likelihood alone.
RERANKS: Final = ("codes", "cosine", "none")


def stage_weights(codebooks_KVD: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (K,) share of the variance that the vectors of each stage explain; sums to 1.

    >>> stage_weights(np.array([[[3.0], [-3.0]], [[1.0], [-1.0]]], np.float32)).tolist()
    [0.9, 0.1]
    """
    codebooks = np.asarray(codebooks_KVD, dtype=np.float64)
    variances = (codebooks - codebooks.mean(axis=1, keepdims=True)).var(axis=1).sum(axis=1)
    total = float(variances.sum())
    return variances / total if total > 0 else np.full(len(variances), 1 / len(variances))


def agreement(
    codes_NK: NDArray[np.int64], wanted_NK: NDArray[np.int64], weights_K: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (N,) weight of the stages whose code is the wanted one; -1 is wanted by nobody."""
    same_NK = (codes_NK == wanted_NK) & (wanted_NK >= 0)
    shares_N: NDArray[np.float64] = same_NK @ weights_K
    return shares_N


def cosines(vectors_ND: NDArray[np.float32], wanted_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the (N,) cosines of vectors of any length; 0 for a vector without direction."""
    first, second = (np.asarray(array, dtype=np.float64) for array in (vectors_ND, wanted_ND))
    products: NDArray[np.float64] = (first * second).sum(axis=1)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products /= np.where(lengths > 0, lengths, 1.0)
    return products


def best(scores_RN: NDArray[np.float64], log_probs_RN: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the (R,) candidate with the highest score; among equals the most probable one.

    >>> best(np.array([[1.0, 1.0, 0.0]]), np.array([[-3.0, -2.0, -1.0]])).tolist()
    [1]
    """
    top_RN = scores_RN >= scores_RN.max(axis=1, keepdims=True)
    chosen_R: NDArray[np.int64] = np.where(top_RN, log_probs_RN, -np.inf).argmax(axis=1)
    return chosen_R
