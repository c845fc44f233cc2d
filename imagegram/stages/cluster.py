"""Cluster: near-duplicates among the training documents, so that one picture counts as one source.

Identified by token set and radius, so all metrics and samplers of a corpus share the clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imagegram.images.modality import IMAGES
from imagegram.protocols import Documents, Modality
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact, Handle
from imagegram.store.stage import Context, Stage


@dataclass(frozen=True, kw_only=True)
class ClusterSet(Handle):
    """Clusters of documents."""

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) lowest document id of each document's cluster."""
        return np.load(self.artifact.path / "labels.npy")  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Cluster(Stage[ClusterSet]):
    """The stage that finds documents with similar sketches; takes 3.3 kB of memory an image.

    Attributes:
        documents: training documents.
        near_duplicate_rms: bound of near-duplicates, an RMS difference of thumbnails or a
            similarity of texts (``Corpus.near_duplicate_limit``); its name is part of digests.
        modality: kind of the documents.
    """

    kind: ClassVar[str] = "clusters"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    documents: Documents
    near_duplicate_rms: float
    modality: Modality = field(default=IMAGES, metadata=NOT_IDENTITY)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``labels.npy``, (N,) int64."""
        task = context.progress.start("cluster near-duplicates", 1, "searches")
        blocks = [np.asarray(block) for _, block in self.documents.sketch_blocks()]
        labels = self.modality.cluster(np.concatenate(blocks), limit=self.near_duplicate_rms)
        if self.documents.num_views > 1:
            labels = _with_views(labels, len(labels) // self.documents.num_views)
        np.save(out / "labels.npy", labels.astype(np.int64))
        context.progress.advance(task)
        context.progress.finish(task)
        return {"num_documents": len(labels), "num_clusters": len(np.unique(labels))}

    def load(self, artifact: Artifact) -> ClusterSet:
        """Return the clusters."""
        return ClusterSet(artifact=artifact)


def _with_views(labels_N: NDArray[np.integer[Any]], num_images: int) -> NDArray[np.int64]:
    """Join clusters that hold views of one image; document i is of image i % num_images.

    >>> _with_views(np.array([0, 1, 2, 3, 0, 5]), 3).tolist()
    [0, 0, 2, 0, 0, 2]
    """
    size = len(labels_N)
    documents = np.arange(size)
    joined = np.concatenate([labels_N, documents % num_images])
    edges = coo_array((np.ones(2 * size), (np.tile(documents, 2), joined)), shape=(size, size))
    _, components = connected_components(edges, directed=False)
    _, firsts, inverse = np.unique(components, return_index=True, return_inverse=True)
    return np.asarray(firsts[inverse])
