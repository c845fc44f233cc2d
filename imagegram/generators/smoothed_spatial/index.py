"""PlaceCounts: what was counted of the tokens of all training documents, level by level.

``levelN_weights.npy`` (the guesses), ``levelN_places.npy``, ``levelN_depths.npy`` and
``levelN_thresholds.npy`` (the decisions, see ``spatial/tree.py``), ``levelN_counts.npy``: how often
a guess was off by how much, of every class of tokens and leaf; and ``levelN_strengths.npy``: how
many occurrences the shorter context is worth, of every class and number of decisions.

    p_d(e) = (c_d(e) + s_d p_{d-1}(e)) / (n_d + s_d),   p_{-1}(e) = 1 / ERRORS

with e the token less its guess, c_d(e) and n_d its count and the sum of all counts where the first
d decisions are the same, and s_d the strength (MacKay, Peto, "A hierarchical Dirichlet language
model", Natural Language Engineering 1, 1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.smoothed_spatial.contexts import ERRORS, Contexts
from imagegram.layout import TokenLayout
from imagegram.store.manifest import Handle

#: Files of a level.
FILES: Final = ("weights", "places", "depths", "thresholds", "counts", "strengths")


def file_of(folder: Path, level: int, name: str) -> Path:
    """Return the path of a file of a level."""
    return folder / f"level{level}_{name}.npy"


@dataclass(frozen=True, kw_only=True)
class PlaceCounts(Handle):
    """The opened counts.

    Attributes:
        layout: layout of the documents.
    """

    layout: TokenLayout

    def _load(self, level: int, name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(file_of(self.artifact.path, level, name))
        return array

    @cached_property
    def contexts(self) -> tuple[Contexts, ...]:
        """Contexts of every level."""
        return tuple(
            Contexts(*(self._load(n, name) for name in FILES[:4]))
            for n in range(self.layout.num_levels)
        )

    @cached_property
    def chances(self) -> tuple[NDArray[np.float32], ...]:
        """(J, 2^D, ERRORS) probabilities of the errors of guesses, of every level."""
        found = []
        for n, contexts in enumerate(self.contexts):
            counts, strengths = self._load(n, "counts"), self._load(n, "strengths")
            chances = np.zeros(counts.shape, dtype=np.float32)
            for cls, depth in enumerate(contexts.depths.tolist()):
                leaves = counts[cls, : 1 << depth]
                chances[cls, : 1 << depth] = smoothed_chances(leaves, strengths[cls])
            found.append(chances)
        return tuple(found)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without arrays."""
        return {"artifact": self.artifact, "layout": self.layout}


def smoothed_chances(
    counts_LE: NDArray[np.integer[Any]],
    strengths_D: NDArray[Any],
    *,
    until: int | None = None,
) -> NDArray[np.float64]:
    """Return the (2^D, ERRORS) probabilities after all D decisions.

    Args:
        counts_LE: (2^D, ERRORS) counts of every leaf.
        strengths_D: (D + 1,) or more strengths.
        until: number of decisions at which to stop: the (2^(until - 1), ERRORS) probabilities
            after one less; of 0, the (1, ERRORS) ones before any count.

    >>> chances = smoothed_chances(np.eye(2, ERRORS, dtype=int), np.array([1.0, 1.0]))
    >>> chances.shape, float(chances[0].sum().round(9))
    ((2, 511), 1.0)
    """
    depth = (len(counts_LE) - 1).bit_length()
    chances = np.full((1, ERRORS), 1.0 / ERRORS)
    for d in range(depth + 1 if until is None else until):
        counts = node_counts(counts_LE, d)
        shorter = np.repeat(chances, len(counts) // len(chances), axis=0)
        total = counts.sum(axis=1, keepdims=True)
        chances = (counts + strengths_D[d] * shorter) / (total + strengths_D[d])
    return chances


def node_counts(counts_LE: NDArray[np.integer[Any]], depth: int) -> NDArray[np.int64]:
    """Return the (2^d, ERRORS) counts after d decisions, of those of the leaves."""
    of_nodes: NDArray[np.int64] = counts_LE.reshape(1 << depth, -1, ERRORS).sum(axis=1, dtype=int)
    return of_nodes
