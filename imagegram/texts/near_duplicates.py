"""Near-duplicates: texts whose sketches agree in most values, found exactly.

Sketches that agree in enough values agree in a whole band (``sketches.bands``), so only sketches
that share a band are compared, and no pair is missed.

>>> from imagegram.texts.sketches import sketch_texts
>>> story = "once upon a time there was a king who had a daughter and a golden ball"
>>> cluster_labels(sketch_texts([story, "another one", story.upper()]), similarity=0.8).tolist()
[0, 1, 0]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagegram.texts.sketches import NUM_VALUES, Sketches, bands, num_equal


@dataclass(frozen=True)
class SketchSearch:
    """Exact search among sketches.

    Attributes:
        sketches: (N, 128) uint32.
        least: similarity from which on two texts are near-duplicates, above 0, at most 1.
        tables: of every band, the sketches that hold each value of it.
    """

    sketches: Sketches
    least: float
    tables: tuple[dict[bytes, list[int]], ...]

    @classmethod
    def over(cls, sketches: Sketches, *, similarity: float) -> SketchSearch:
        """Prepare (N, 128) sketches."""
        sketches = np.ascontiguousarray(sketches, dtype=np.uint32).reshape(-1, NUM_VALUES)
        tables = []
        for band in bands(similarity):
            table: dict[bytes, list[int]] = {}
            for number, part in enumerate(sketches[:, band]):
                table.setdefault(part.tobytes(), []).append(number)
            tables.append(table)
        return cls(sketches, similarity, tuple(tables))

    def neighbours(self, sketch: Sketches) -> NDArray[np.int64]:
        """Indices, ascending, of the sketches that are near one (128,) sketch."""
        candidates: set[int] = set()
        for band, table in zip(bands(self.least), self.tables, strict=True):
            candidates.update(table.get(sketch[band].tobytes(), ()))
        found = np.array(sorted(candidates), dtype=np.int64)
        near = (self.sketches[found] == sketch).sum(axis=1) >= num_equal(self.least)
        return np.asarray(found[near])


def cluster_labels(sketches: Sketches, *, similarity: float) -> NDArray[np.int64]:
    """Connected components of "at least so similar".

    Args:
        sketches: (N, 128) uint32.
        similarity: of neighbours, above 0, at most 1.

    Returns:
        (N,) the lowest index of each text's component.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Exact copies are merged first: a corpus of copies would otherwise cost N**2 comparisons.
    distinct, inverse = np.unique(np.asarray(sketches), axis=0, return_inverse=True)
    if not len(distinct):
        return np.empty(0, dtype=np.int64)
    search = SketchSearch.over(distinct, similarity=similarity)
    near = [search.neighbours(sketch) for sketch in distinct]
    rows = np.repeat(np.arange(len(distinct)), [len(others) for others in near])
    pairs = coo_array((np.ones(len(rows), np.bool_), (rows, np.concatenate(near))))
    count, components = connected_components(pairs, directed=False)
    labels = components[inverse.ravel()]
    lowest = np.full(count, len(sketches), dtype=np.int64)
    np.minimum.at(lowest, labels, np.arange(len(sketches)))
    return np.asarray(lowest[labels])
