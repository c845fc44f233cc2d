"""Pixels: the images of one part of a corpus, resized to one square size, as rows on disk.

    pixels.npy      (N, S, S, 3) uint8, memory-mapped
    skipped.jsonl   one line for every record that is no image of this part, with its reason

One artifact per shard, and a collection of them. Training reads random rows, which tars do not
allow: on disk an image of 64 pixels takes 12 kB, one of 256 pixels 196 kB; nothing is held in
memory. Images are decoded and skipped by the same rules as in ``stages/skips.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import CorpusError
from imagegram.executors.threads import chunks, map_in_order
from imagegram.images.decode import quiet
from imagegram.images.modality import IMAGES
from imagegram.protocols import Corpus
from imagegram.records import Images, Record
from imagegram.stages.skips import (
    SKIPPED,
    nothing_left,
    read_item,
    refuse_failures,
    skip_line,
)
from imagegram.stages.split import PartFilter, Split, SplitShard
from imagegram.store.fingerprint import identity
from imagegram.store.hashing import changed_while_read
from imagegram.store.manifest import Handle
from imagegram.store.parts import open_parts, write_parts
from imagegram.store.stage import Context, Stage
from imagegram.training.objective import Prepared

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

PIXELS: Final = "pixels.npy"


@dataclass(frozen=True, kw_only=True)
class PackShard(Stage["Artifact"]):
    """The stage that packs one part of one shard, in one pass and bounded memory.

    Attributes:
        images: one part of a shard.
        image_size: side in pixels; bilinear, the aspect ratio is squashed.
    """

    kind: ClassVar[str] = "pixel_shard"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2

    images: SplitShard
    image_size: int

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``pixels.npy`` and ``skipped.jsonl``.

        Raises:
            CorpusError: when more images than allowed cannot be read, or the shard changes.
        """
        shard, part = self.images.shard, self.images.open()
        content = shard.identity()
        task = context.progress.start(f"pack {shard.name}", len(shard), "images")
        skipped: Counter[str] = Counter()
        num_images = 0

        def read(records: Sequence[Record]) -> list[tuple[Record, Images | str]]:
            return [(record, self._read(record, part)) for record in records]

        with quiet(), (out / PIXELS).open("wb") as pixels, (out / SKIPPED).open("wb") as skips:
            self._write_header(pixels, 0)
            for some in map_in_order(read, chunks(shard), workers=context.workers):
                for record, image in some:
                    if isinstance(image, str):
                        skipped[image] += 1
                        skips.write(skip_line(record, image))
                    else:
                        pixels.write(image.tobytes())
                        num_images += 1
                context.progress.advance(task, len(some))
            pixels.seek(0)
            self._write_header(pixels, num_images)
        context.progress.finish(task)
        if shard.identity() != content:
            raise changed_while_read(shard.path)
        counts = dict(sorted(skipped.items()))
        num_records = num_images + sum(counts.values())
        allowed = self.images.split.corpus.max_failed_fraction
        refuse_failures(shard, out, allowed=allowed, num_records=num_records, skipped=counts)
        return {"num_images": num_images, "skipped": counts}

    def _read(self, record: Record, part: PartFilter) -> Images | str:
        """Return the (S, S, 3) uint8 image of a record, or the reason why it is skipped."""
        from imagegram.images.resampling import resize

        found = read_item(record, IMAGES, part)
        return found if isinstance(found, str) else resize(found[0], self.image_size)

    def _write_header(self, stream: BinaryIO, num_images: int) -> None:
        """Write the header of the array; numpy leaves room in it for any number of rows."""
        shape = (num_images, self.image_size, self.image_size, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)

    def load(self, artifact: Artifact) -> Artifact:
        """Return the artifact itself."""
        return artifact


@dataclass(frozen=True, kw_only=True)
class PackPixels(Stage["PixelSet"]):
    """The stage that packs one part of a corpus, shard by shard.

    Attributes:
        images: the same part of every shard, in the order of the corpus.
        image_size: side in pixels.
    """

    kind: ClassVar[str] = "pixels"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 2
    PARTS: ClassVar[tuple[type, ...]] = (PackShard,)

    images: tuple[SplitShard, ...]
    image_size: int

    @property
    def parts(self) -> tuple[PackShard, ...]:
        """One stage per shard."""
        return tuple(PackShard(images=shard, image_size=self.image_size) for shard in self.images)

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Pack all shards; write ``shards.json``.

        Raises:
            CorpusError: when no image is left.
        """
        shards = [context.make(part) for part in self.parts]
        write_parts(out, kind=PackShard.kind, parts=shards)
        skipped = sum((Counter(shard.facts["skipped"]) for shard in shards), Counter[str]())
        num_images = sum(int(shard.facts["num_images"]) for shard in shards)
        if not num_images:
            why = nothing_left(skipped, self.images[0].shard.path)
            raise CorpusError(f"no image is left to train on {why}")
        return {"num_images": num_images, "skipped": dict(sorted(skipped.items()))}

    def load(self, artifact: Artifact) -> PixelSet:
        """Return the handle of a finished collection."""
        return PixelSet(artifact=artifact)


@dataclass(frozen=True, kw_only=True)
class PixelSet(Handle):
    """Images of one size, rows shard by shard; small enough to send to processes."""

    def __len__(self) -> int:
        """Return the number of images, N."""
        return int(self.artifact.facts["num_images"])

    @cached_property
    def shards(self) -> tuple[Artifact, ...]:
        """The packed shards."""
        return open_parts(self.artifact)

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Number of rows up to the end of each shard."""
        return np.cumsum([shard.facts["num_images"] for shard in self.shards])

    def gather(self, rows: NDArray[np.integer[Any]]) -> Images:
        """Return the (B, S, S, 3) uint8 images of the given rows; no other row is read."""
        owners = np.searchsorted(self._ends, rows, side="right")
        images: Images | None = None
        for owner in np.unique(owners).tolist():
            chosen = owners == owner
            shard = self.shards[owner]
            first = int(self._ends[owner]) - int(shard.facts["num_images"])
            found = _mapped(shard.path / PIXELS)[rows[chosen] - first]
            if images is None:
                images = np.empty((len(rows), *found.shape[1:]), dtype=np.uint8)
            images[chosen] = found
        if images is None:
            raise ValueError("gather needs at least one row")
        return images


@lru_cache(maxsize=4096)
def _mapped(path: Path) -> Images:
    """Map the pixels of a shard, once per process, so that handles stay small."""
    mapped: Images = np.load(path, mmap_mode="r")
    return mapped


@dataclass(frozen=True, kw_only=True)
class CorpusPixels:
    """Training data from the images of a corpus; its held-out images are for validation.

    Attributes:
        corpus: without held-out images, some of the training images are used for validation.
        image_size: side in pixels.
    """

    PARTS: ClassVar[tuple[type, ...]] = (Split, PackPixels)

    corpus: Corpus
    image_size: int

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the shards, hold-out policy, and size."""
        return {
            "split": identity(Split(corpus=self.corpus)),
            "shards": [shard.identity() for shard in self.corpus.shards],
            "image_size": self.image_size,
        }

    def prepare(self, context: Context) -> Prepared:
        """Split the corpus and pack both parts."""
        split = context.make(Split(corpus=self.corpus))
        items = context.make(PackPixels(images=split.train, image_size=self.image_size))
        if not split.holdout:
            return Prepared(items=items, validation=items, validated_on="train")
        held_out = context.make(PackPixels(images=split.holdout, image_size=self.image_size))
        return Prepared(items=items, validation=held_out, validated_on="holdout")
