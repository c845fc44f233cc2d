"""Scan: what a split has to know of every item of a shard, found in one pass and kept.

    keys.jsonl      one JSON string a line: the key of every readable item, in file order
    sha256.npy      (N, 32) uint8: sha256 of the encoded bytes of each
    thumbnails.npy  (N, 16, 16, 3) uint8; of texts sketches.npy (N, 128) uint32

One artifact a shard, known by the content of the shard: a corpus that grows scans its new shards
only, and splits of another policy scan nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import Unreadable
from imagegram.executors.threads import chunks, map_in_order
from imagegram.protocols import ImageShard, Modality
from imagegram.records import Record, Sketches
from imagegram.store.cost import NPY_HEADER, THUMBNAIL_BYTES, Cost, PerUnit
from imagegram.store.hashing import changed_while_read
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

KEYS: Final = "keys.jsonl"
HASHES: Final = "sha256.npy"
_HASH_BYTES: Final = 32
#: A key as a line of JSON, about.
_KEY_BYTES: Final = 24
#: Images up to which no processes are started: 20,000 of 64 x 64 pixels take one core 3 seconds,
#: as long as two processes take to start and share them.
_FEW_IMAGES: Final = 20_000


def are_few(shards: Iterable[ImageShard]) -> bool:
    """Return whether threads are about done when worker processes would only have started."""
    room = _FEW_IMAGES
    for shard in shards:  # no further than needed: a large shard takes a while to count
        room -= len(shard)
        if room < 0:
            return False
    return True


@dataclass(frozen=True, kw_only=True)
class ScannedShard:
    """The readable items of a shard; small enough to send to threads, opens files when asked.

    Attributes:
        artifact: on disk.
        modality: of the items.
    """

    artifact: Artifact
    modality: Modality

    def __len__(self) -> int:
        """Return the number of readable items, N."""
        return int(self.artifact.facts["num_scanned"])

    def keys(self) -> list[str]:
        """Read the keys of all items, in file order."""
        with (self.artifact.path / KEYS).open() as lines:
            return [json.loads(line) for line in lines]

    def hashes(self) -> NDArray[np.uint8]:
        """Map the (N, 32) uint8 sha256 of the encoded items."""
        return self._mapped(HASHES)

    def sketches(self) -> Sketches:
        """Map the (N, ...) sketches; they are not kept open, as files of many shards would be."""
        return self._mapped(self.modality.SKETCHES)

    def _mapped(self, name: str) -> NDArray[Any]:
        mode = "r" if len(self) else None  # an empty array cannot be mapped
        mapped: NDArray[Any] = np.load(self.artifact.path / name, mmap_mode=mode)  # type: ignore[arg-type]
        return mapped


@dataclass(frozen=True, kw_only=True)
class ScanShard:
    """The stage that reads every item of a shard once: key, content hash and sketch.

    Attributes:
        shard: images or texts.
        modality: of the items.
    """

    kind: ClassVar[str] = "scan_shard"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_scanned", seconds=1.9e-4)

    shard: ImageShard
    modality: Modality

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the three files; unreadable items are left out (tokenization counts them).

        Raises:
            CorpusError: when the shard changes meanwhile.
        """
        shard, modality = self.shard, self.modality
        content = shard.identity()
        hashes: list[bytes] = []
        sketches: list[Sketches] = []
        num_records = 0
        task = context.progress.start(f"scan {shard.name}", len(shard), modality.nouns)

        def look(records: Sequence[Record]) -> list[tuple[Record, tuple[bytes, Sketches] | None]]:
            return [(record, _look(record, modality)) for record in records]

        with modality.reading(), (out / KEYS).open("w") as keys:
            for some in map_in_order(look, chunks(shard), workers=context.workers):
                for record, seen in some:
                    if seen is None:
                        continue
                    keys.write(json.dumps(record.key) + "\n")
                    hashes.append(seen[0])
                    sketches.append(seen[1])
                num_records += len(some)
                context.progress.advance(task, len(some))
        context.progress.finish(task)
        if shard.identity() != content:
            raise changed_while_read(shard.path)
        whole = np.frombuffer(b"".join(hashes), dtype=np.uint8)
        np.save(out / HASHES, whole.reshape(-1, _HASH_BYTES))
        np.save(out / modality.SKETCHES, modality.stack(sketches))
        return {"num_scanned": len(hashes), "num_records": num_records}

    def load(self, artifact: Artifact) -> ScannedShard:
        """Return the handle of a finished scan."""
        return ScannedShard(artifact=artifact, modality=self.modality)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee that one core reads the items, all of which are readable."""
        if found := at.find(self):
            return Cost.found(found, parts=1, images=int(found.facts["num_scanned"]))
        count, rate = len(self.shard), at.rate(self)
        return Cost(
            artifact=at.expect(self, {"num_scanned": count, "num_records": count}),
            images=count,
            disk_bytes=count * (THUMBNAIL_BYTES + _HASH_BYTES + _KEY_BYTES) + 2 * NPY_HEADER,
            memory_bytes=count * (THUMBNAIL_BYTES + _HASH_BYTES),
            seconds=rate.seconds * count,
            source=rate.source,
        )


def _look(record: Record, modality: Modality) -> tuple[bytes, Sketches] | None:
    """Return content hash and sketch of a record; None: it is no readable item."""
    if record.failure is not None:
        return None
    try:
        item = modality.read(record.data)
    except Unreadable:  # counted, with its reason, when the shard is tokenized
        return None
    return hashlib.sha256(record.data).digest(), modality.sketch(item)
