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
    """The stage that finds documents with similar sketches; takes 1.7 kB of memory an image.

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
        np.save(out / "labels.npy", labels.astype(np.int64))
        context.progress.advance(task)
        context.progress.finish(task)
        return {"num_documents": len(labels), "num_clusters": len(np.unique(labels))}

    def load(self, artifact: Artifact) -> ClusterSet:
        """Return the clusters."""
        return ClusterSet(artifact=artifact)
