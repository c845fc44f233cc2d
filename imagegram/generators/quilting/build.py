"""BuildQuilting: the pictures that training documents decode to, with thumbnails of them.

pixels.npy      (N, S, S, 3) uint8
thumbnails.npy  (N, G, G, 3) uint32, sums of the pixels of each of G x G squares
clusters.npy    (N,) int64, near-duplicates have one number
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from imagegram.errors import ConfigError
from imagegram.generators.quilting.model import CLUSTERS, PIXELS, THUMBNAILS, QuiltingModel
from imagegram.generators.quilting.quilt import sums_of
from imagegram.stages.cluster import Cluster
from imagegram.stages.decoding import captions_of_documents, decoded
from imagegram.stages.tokens import TokenSet
from imagegram.stages.validation import clusters_of
from imagegram.store.arrays import ArrayFiles
from imagegram.store.cost import Cost, PerUnit
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings

#: Documents that are decoded at a time.
_BATCH: Final = 256


@dataclass(frozen=True, kw_only=True)
class BuildQuilting:
    """The stage that decodes all training documents.

    Attributes:
        tokens: training documents.
        guide_size: side of the thumbnails, G.
        near_duplicate_limit: documents that are more alike are one image; None: each is one.
        tokenizer: that wrote them, with its weights.
        mirror: of the model.
    """

    kind: ClassVar[str] = "quilting"
    group: ClassVar[str] = "fit"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (Cluster,)
    RATE: ClassVar[PerUnit] = PerUnit("num_documents", "image_size", seconds=1.0e-5)
    tokens: TokenSet
    guide_size: int
    near_duplicate_limit: float | None = None
    tokenizer: Any = field(metadata=NOT_IDENTITY)
    mirror: bool = field(metadata=NOT_IDENTITY)

    @property
    def image_size(self) -> int:
        """Side of a picture, S."""
        return int(self.tokenizer.image_size)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Decode the documents and sum their pixels.

        Raises:
            ConfigError: without documents.
        """
        count = self.tokens.num_documents
        if not count:
            raise ConfigError("generator=quilting needs training documents; give more images")
        np.save(out / f"{CLUSTERS}.npy", clusters_of(self.tokens, context))
        task = context.progress.start("decode", count, "images")
        with ArrayFiles(out, count) as files:
            for first in range(0, count, _BATCH):
                ids = np.arange(first, min(first + _BATCH, count))
                captions = captions_of_documents(self.tokenizer, self.tokens, ids)
                items = decoded(self.tokenizer, self.tokens.gather(ids), captions=captions)
                pixels = np.stack(items)
                files.append(PIXELS, pixels)
                files.append(THUMBNAILS, sums_of(pixels, self.image_size // self.guide_size))
                context.progress.advance(task, len(ids))
        context.progress.finish(task)
        return {"num_documents": count, "image_size": self.image_size}

    def load(self, artifact: Artifact) -> QuiltingModel:
        """Return the model."""
        return QuiltingModel(artifact=artifact, tokenizer=self.tokenizer, mirror=self.mirror)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee one thread over all documents."""
        if found := at.find(self):
            return Cost.found(found, handle=self.load(found))
        count, rate = self.tokens.num_documents, at.rate(self)
        facts = {"num_documents": count, "image_size": self.image_size}
        expected = at.expect(self, facts)
        return Cost(
            artifact=expected,
            handle=self.load(expected),
            disk_bytes=count * (3 * self.image_size**2 + 12 * self.guide_size**2 + 8),
            memory_bytes=_BATCH * 6 * self.image_size**2,
            seconds=rate.seconds * count * self.image_size,
            source=rate.source,
        )
