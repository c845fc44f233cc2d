"""Random masks of the tokens of documents."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def random_masks(
    counts_B: NDArray[Any],
    num_tokens: int,
    rng: np.random.Generator,
    there_BT: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Draw (B, T) bool, ``counts_B[b]`` of them True in row b, all choices equally likely.

    With ``there_BT``, bool, they are drawn among its places, of which there have to be so many.
    """
    places_BT = rng.random((len(counts_B), num_tokens))
    if there_BT is not None:
        places_BT = np.where(there_BT, places_BT, np.inf)
    ranks_BT = places_BT.argsort(axis=1).argsort(axis=1)
    masks: NDArray[np.bool_] = ranks_BT < counts_B[:, None]
    return masks
