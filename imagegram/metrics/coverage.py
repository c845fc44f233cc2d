"""Use of the training corpus: the share of pictures that were sources, and how unevenly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Measured


def usage_scores(
    credited_N: NDArray[np.int64], clusters_N: NDArray[np.int64]
) -> dict[str, Measured]:
    """Return the scores of an image set from the tokens credited to each training cluster.

    ``source_coverage``: share of all clusters that are the source of at least one phrase; it grows
    with the number of images. ``source_gini``: Gini coefficient of the credited tokens over all
    clusters, unused ones included: 0 when all are used alike, 1 - 1/M when one of M is used alone.

    Both have no interval: a bootstrap repeats images, and a sample with repetitions uses fewer
    clusters.

    Args:
        credited_N: tokens credited to the cluster with this id, 0 where there is no such cluster.
        clusters_N: cluster of each training document: the lowest document id in it.
    """
    used_M = credited_N[np.unique(clusters_N)]
    if not used_M.any():
        nothing = Measured(value=None, note="no token is credited to a training image")
        return {"source_coverage": Measured(value=0.0), "source_gini": nothing}
    return {
        "source_coverage": Measured(value=float((used_M > 0).mean())),
        "source_gini": Measured(value=gini(used_M)),
    }


def gini(amounts_M: NDArray[np.int64]) -> float:
    """Return the Gini coefficient: mean difference of two random amounts over twice the mean.

    >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 8]))
    (0.0, 0.75)
    """
    ordered = np.sort(amounts_M).astype(np.float64)
    ranks = 2 * np.arange(1, ordered.size + 1) - ordered.size - 1
    return float((ranks * ordered).sum() / (ordered.size * ordered.sum()))
