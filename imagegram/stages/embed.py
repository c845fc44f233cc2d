"""Embed: features of images or texts, made once and shared by all metrics that need them.

Identified by the *content* of pixels or texts, not by the stage that made them, so held-out images
have the same features whichever sampler replays them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import over_tiles, row_tiles
from imagegram.protocols import DocumentSource, Encoder, ImageSet, TextEncoder, Tokenizer
from imagegram.records import Features
from imagegram.stages.decoding import captions_of_documents, decoded
from imagegram.stages.generate import select_documents
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import NPY_HEADER, Cost, PerUnit
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact, Handle
from imagegram.store.stage import Context, Surroundings

_BATCH: Final = 64
#: Memory that torch adds to a process, in bytes.
TORCH_BYTES: Final = 300_000_000
#: Length of a feature vector in forecasts without a measured artifact: that of EfficientNet-lite0.
NUM_FEATURES: Final = 1280


@dataclass(frozen=True, kw_only=True)
class FeatureSet(Handle):
    """Features of images, in the order of the images."""

    @cached_property
    def features(self) -> Features:
        """(B, D) float32, memory-mapped."""
        return np.load(self.artifact.path / "features.npy", mmap_mode="r")  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Embed:
    """The stage that embeds an image set.

    Attributes:
        encoder: feature extractor with its preprocessing.
        images: image set.
    """

    kind: ClassVar[str] = "features"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_images", like="encoder", seconds=2.2e-3)
    encoder: Encoder | TextEncoder
    images: ImageSet

    def identity(self) -> dict[str, Any]:
        """Return the identity: encoder, and sha256 of pixels or texts."""
        own = {"class": type(self).__name__, "version": self.VERSION}
        encoder = {"encoder": identity(self.encoder)}
        if (texts := self._texts) is not None:
            return own | encoder | {"texts": texts_sha256(texts)}
        return own | encoder | {"pixels": content_sha256(self.images.images)}

    @property
    def _texts(self) -> Sequence[str] | None:
        """Texts of the set; None: it has images."""
        texts: Sequence[str] | None = getattr(self.images, "texts", None)
        return texts if getattr(self.images, "images", None) is None else None

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``features.npy``, batch by batch."""
        texts = self._texts
        images = self.images.images if texts is None else texts
        return _write(out, self.encoder, images.__getitem__, len(images), context)

    def load(self, artifact: Artifact) -> FeatureSet:
        """Return the features."""
        return FeatureSet(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee threads that encode a batch each."""
        return _cost(self, at, self.images.num_images)


@dataclass(frozen=True, kw_only=True)
class EmbedReference:
    """The stage that embeds training images, decoded from their tokens as samples are.

    Documents are taken in the order of :func:`select_documents`, without the first ``num_skipped``:
    these are the images of the ceiling, whose distance to themselves would be too small. If fewer
    others are left than were skipped, none is skipped.

    Attributes:
        encoder: feature extractor with its preprocessing.
        tokens: training documents.
        tokenizer: decoder of the documents.
        image_size: side in pixels of the decoded images, that of the samples.
        num_skipped: number of documents in the ceiling.
        max_images: largest number of images.
        seed: seed of the order.
    """

    kind: ClassVar[str] = "reference_features"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_images", like="encoder", seconds=2.2e-3)
    encoder: Encoder | TextEncoder
    tokens: TokenSet
    tokenizer: Tokenizer
    image_size: int
    num_skipped: int
    max_images: int
    seed: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``features.npy`` and ``documents.npy``, batch by batch."""
        documents = self._documents
        order = select_documents(documents.num_documents, self.seed)
        order = order[self._first :][: self.max_images]
        np.save(out / "documents.npy", order)

        def decode(rows: slice) -> Any:
            return decoded(
                self.tokenizer,
                documents.gather(order[rows]),
                captions=captions_of_documents(self.tokenizer, documents, order[rows]),
                output_size=self.image_size or None,
            )

        return _write(out, self.encoder, decode, len(order), context)

    @property
    def _documents(self) -> DocumentSource:
        """The documents as rows of one length: of texts, windows."""
        return self.tokens.windows() if self.tokenizer.spec.ragged else self.tokens

    @property
    def _first(self) -> int:
        """Place of the first embedded document in the order."""
        return self.num_skipped if self._documents.num_documents >= 2 * self.num_skipped else 0

    def load(self, artifact: Artifact) -> FeatureSet:
        """Return the features."""
        return FeatureSet(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee threads that encode a batch each."""
        return _cost(self, at, min(self._documents.num_documents - self._first, self.max_images))


def _cost(stage: Embed | EmbedReference, at: Surroundings, count: int) -> Cost:
    """Return the cost of the features of ``count`` images."""
    if found := at.find(stage):
        return Cost.found(found)
    rate = at.rate(stage, builtin=getattr(stage.encoder, "SECONDS", None))
    return Cost(
        images=count,
        disk_bytes=features_bytes(count, _num_features(stage.encoder, at)),
        memory_bytes=TORCH_BYTES,
        seconds=rate.shared(count, at.workers),
        source=rate.source,
    )


def features_bytes(num_images: int, num_features: int = NUM_FEATURES) -> int:
    """Return the bytes of (N, D) float32 features and of the document ids of a reference."""
    return num_images * (num_features * 4 + 8) + 2 * NPY_HEADER


def _num_features(encoder: Encoder | TextEncoder, at: Surroundings) -> int:
    """Return the length of a feature vector, measured if the encoder was used in this store."""
    for kind in (EmbedReference.kind, Embed.kind):
        for manifest in at.newest(kind):
            if manifest.payload.get("encoder") == identity(encoder):
                return int(manifest.facts["num_features"])
    return NUM_FEATURES


def content_sha256(array: NDArray[Any]) -> str:
    """Return the sha256 of the shape and content of an array; takes 0.7 s a gigabyte."""
    hasher = hashlib.sha256(repr(array.shape).encode())
    for first in range(0, len(array), _BATCH):
        hasher.update(np.ascontiguousarray(array[first : first + _BATCH]).data)
    return hasher.hexdigest()


def texts_sha256(texts: Sequence[str]) -> str:
    """Return the sha256 of texts in their order."""
    hasher = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.hexdigest()


def _write(
    out: Path,
    encoder: Encoder | TextEncoder,
    read: Callable[[slice], Any],
    num_images: int,
    context: Context,
) -> dict[str, Any]:
    """Write the features of all images, on threads that encode one batch each.

    Several batches on one core each are faster than one batch on several cores, and much faster
    where other processes have some of them.
    """
    device = getattr(encoder, "device", "cpu")
    task = context.progress.start(f"embed {encoder.name}", num_images, "images")
    with _one_core(encoder):
        size = max(_BATCH, getattr(encoder, "batch_size", 1))
        first, *others = row_tiles(num_images, size) or [slice(0, 0)]
        part = encoder.encode(read(first))  # alone: it loads the weights
        features = np.lib.format.open_memmap(
            out / "features.npy", mode="w+", dtype=np.float32, shape=(num_images, part.shape[1])
        )
        features[first] = part
        context.progress.advance(task, first.stop)
        workers = context.workers if device == "cpu" else 1
        encoded = over_tiles(lambda rows: encoder.encode(read(rows)), others, workers=workers)
        for rows, part in zip(others, encoded, strict=True):  # written as they come: flat memory
            features[rows] = part
            context.progress.advance(task, len(part))
        features.flush()
    context.progress.finish(task)
    return {"num_images": num_images, "num_features": int(features.shape[1])}


def _one_core(encoder: Encoder | TextEncoder) -> AbstractContextManager[None]:
    """Return the context in which torch uses one core a thread; without torch, an empty one."""
    if not hasattr(encoder, "device"):
        return nullcontext()
    from imagegram.models.cores import one_core

    return one_core()
