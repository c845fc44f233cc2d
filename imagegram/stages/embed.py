"""Embed: features of images, made once and shared by every metric that asks for them.

Their identity is the *content* of the pixels, not the stage that made them: the same held-out
images under another sampler have the same features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import over_tiles, row_tiles
from imagegram.protocols import Encoder, ImageSet, Tokenizer
from imagegram.records import Features, Images
from imagegram.stages.generate import select_documents
from imagegram.stages.tokens import TokenSet
from imagegram.store.cost import NPY_HEADER, Cost
from imagegram.store.fingerprint import identity
from imagegram.store.manifest import Artifact
from imagegram.store.stage import Context, Surroundings

_BATCH: Final = 64
#: What torch adds to a process.
TORCH_BYTES: Final = 700_000_000
#: Numbers of a feature, when no artifact tells: those of EfficientNet-lite0.
NUM_FEATURES: Final = 1280


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features of images, in the order of the images."""

    artifact: Artifact

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def features(self) -> Features:
        """(B, D) float32, memory-mapped."""
        return np.load(self.artifact.path / "features.npy", mmap_mode="r")  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Embed:
    """Features of an image set.

    Attributes:
        encoder: the network and its preprocessing.
        images: what to embed.
    """

    kind: ClassVar[str] = "features"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    encoder: Encoder
    images: ImageSet

    def identity(self) -> dict[str, Any]:
        """The encoder and the sha256 of the pixels."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "encoder": identity(self.encoder),
            "pixels": content_sha256(self.images.images),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Embed batch by batch."""
        images = self.images.images
        return _write(out, self.encoder, images.__getitem__, len(images), context)

    def load(self, artifact: Artifact) -> FeatureSet:
        """Open the features."""
        return FeatureSet(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee features; their seconds are part of those of the metric that asks for them."""
        return _cost(self, at, self.images.num_images)


@dataclass(frozen=True, kw_only=True)
class EmbedReference:
    """Features of training images, as decoded from their tokens: the same codec as the samples.

    Which ones: documents in the order of :func:`select_documents`, without the first
    ``num_skipped``, which are the ceiling's own images (a distance of images to themselves would
    flatter it). In a corpus so small that fewer others are left than were skipped, all are taken.

    Attributes:
        encoder: the network and its preprocessing.
        tokens: the training documents.
        tokenizer: decodes them.
        image_size: side in pixels of the decoded images, that of the samples.
        num_skipped: documents that the ceiling took.
        max_images: how many at most.
        seed: of the order.
    """

    kind: ClassVar[str] = "reference_features"
    group: ClassVar[str] = "evaluate"
    VERSION: ClassVar[int] = 1
    encoder: Encoder
    tokens: TokenSet
    tokenizer: Tokenizer
    image_size: int
    num_skipped: int
    max_images: int
    seed: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Decode and embed batch by batch."""
        order = select_documents(self.tokens.num_documents, self.seed)
        order = order[self._first :][: self.max_images]
        np.save(out / "documents.npy", order)

        def decode(rows: slice) -> Images:
            tokens_BT = self.tokens.gather(order[rows])
            images: Images = self.tokenizer.decode(tokens_BT, output_size=self.image_size)
            return images

        return _write(out, self.encoder, decode, len(order), context)

    @property
    def _first(self) -> int:
        """Place of the first document that is taken."""
        return self.num_skipped if self.tokens.num_documents >= 2 * self.num_skipped else 0

    def load(self, artifact: Artifact) -> FeatureSet:
        """Open the features."""
        return FeatureSet(artifact=artifact)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee features; their seconds are part of those of the metric that asks for them."""
        return _cost(self, at, min(self.tokens.num_documents - self._first, self.max_images))


def _cost(stage: Embed | EmbedReference, at: Surroundings, count: int) -> Cost:
    """Cost of the features of so many images."""
    if found := at.find(stage):
        return Cost.found(found)
    return Cost(
        images=count,
        disk_bytes=features_bytes(count, _num_features(stage.encoder, at)),
        memory_bytes=TORCH_BYTES,
    )


def features_bytes(num_images: int, num_features: int = NUM_FEATURES) -> int:
    """Bytes of (N, D) float32, and of the document ids of a reference."""
    return num_images * (num_features * 4 + 8) + 2 * NPY_HEADER


def _num_features(encoder: Encoder, at: Surroundings) -> int:
    """Numbers of a feature, if the encoder was used in this store."""
    for kind in (EmbedReference.kind, Embed.kind):
        for manifest in at.newest(kind):
            if manifest.payload.get("encoder") == identity(encoder):
                return int(manifest.facts["num_features"])
    return NUM_FEATURES


def content_sha256(array: NDArray[Any]) -> str:
    """sha256 of shape and content; 0.7 s a gigabyte."""
    hasher = hashlib.sha256(repr(array.shape).encode())
    for first in range(0, len(array), _BATCH):
        hasher.update(np.ascontiguousarray(array[first : first + _BATCH]).data)
    return hasher.hexdigest()


def _write(
    out: Path,
    encoder: Encoder,
    read: Callable[[slice], Images],
    num_images: int,
    context: Context,
) -> dict[str, Any]:
    """Features of all images, batch by batch on threads: an encoder waits less than it computes.

    Several batches on one core each are faster than one batch on several cores, and much faster
    where other processes have some of them.
    """
    device = getattr(encoder, "device", "cpu")
    task = context.progress.start(f"embed {encoder.name}", num_images, "images")
    with _one_thread_each(encoder):
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


@contextmanager
def _one_thread_each(encoder: Encoder) -> Iterator[None]:
    """While several threads encode, none of them takes all cores for itself."""
    if not hasattr(encoder, "device"):  # one that does without torch
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
