"""Cluster: near-duplicates among the training documents, so that one picture counts as one source.

Known by the token set and the radius: every metric and every sampler of a corpus shares it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.images.near_duplicates import cluster_labels
from imagegram.protocols import Documents
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Stage


@dataclass(frozen=True, kw_only=True)
class ClusterSet:
    """Clusters of documents."""

    artifact: Artifact

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,) lowest document id of each document's cluster."""
        return np.load(self.artifact.path / "labels.npy")  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Cluster(Stage[ClusterSet]):
    """Documents whose 16x16 thumbnails are near each other; takes 1.7 kB of memory a document.

    Attributes:
        documents: the training documents.
        near_duplicate_rms: largest RMS difference (0 ... 255) of neighbours in a cluster.
    """

    kind: ClassVar[str] = "clusters"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    documents: Documents
    near_duplicate_rms: float

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Search, write ``labels.npy`` (N,) int64."""
        task = context.progress.start("cluster near-duplicates", 1, "searches")
        blocks = [np.asarray(block) for _, block in self.documents.thumbnails_blocks()]
        labels = cluster_labels(np.concatenate(blocks), rms=self.near_duplicate_rms)
        np.save(out / "labels.npy", labels.astype(np.int64))
        context.progress.advance(task)
        context.progress.finish(task)
        return {"num_documents": len(labels), "num_clusters": len(np.unique(labels))}

    def load(self, artifact: Artifact) -> ClusterSet:
        """Open the labels."""
        return ClusterSet(artifact=artifact)
