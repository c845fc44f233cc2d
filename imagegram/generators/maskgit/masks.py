"""Random masks of the tokens of documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def random_masks(
    counts_B: NDArray[Any], num_tokens: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw (B, T) bool, ``counts_B[b]`` of them True in row b, all choices equally likely."""
    ranks_BT = rng.random((len(counts_B), num_tokens)).argsort(axis=1).argsort(axis=1)
    masks: NDArray[np.bool_] = ranks_BT < counts_B[:, None]
    return masks
