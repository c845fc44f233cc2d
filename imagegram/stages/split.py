"""Split: which images are held out, the same for every size of a corpus.

Whole shards are held out where the corpus names some. Elsewhere the first shard is scanned, its
near-duplicates are clustered, and a cluster is held out when a hash of its content says so: other
copies of a picture, other sizes of the corpus and other shard orders after the first do not change
the choice. Training images of *all* shards that are near-duplicates of a held-out one are left out
(``select.py``), so that no floor is measured on pictures that the model has seen.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import Unreadable
from imagegram.executors.threads import chunks, map_in_order
from imagegram.protocols import Corpus, ImageShard, Modality
from imagegram.records import Record, Sketches
from imagegram.store.cost import NPY_HEADER, PROCESS_BYTES, THUMBNAIL_BYTES, Cost, PerUnit
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Context, Surroundings

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

#: With fewer clusters than this in the first shard nothing is held out: a floor measured on a
#: handful of pictures would be noise, and a corpus of one image is a corpus too.
MIN_CLUSTERS: Final = 100

Part = Literal["train", "holdout"]
#: Why a readable image is not in a part of its corpus; all other reasons of skips are failures.
CHOSEN_SKIPS: Final = ("held_out", "not_held_out", "near_duplicate_of_holdout")


@dataclass(frozen=True, kw_only=True)
class Split:
    """The stage that chooses the held-out images of a corpus."""

    kind: ClassVar[str] = "split"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_scanned", seconds=1.9e-4)

    corpus: Corpus

    def identity(self) -> dict[str, Any]:
        """The policy and the content of the shards that are scanned, not their number."""
        return {
            "class": "Split",
            "version": self.VERSION,
            # Digests know the limit by the name that it has for images.
            "near_duplicate_rms": float(self.corpus.near_duplicate_limit),
            "holdout_fraction": None if self._whole else float(self.corpus.holdout_fraction),
            "scanned": [shard.identity() for shard in self._scanned],
        }

    @property
    def _whole(self) -> bool:
        return bool(self.corpus.holdout_shards)

    @property
    def _scanned(self) -> tuple[ImageShard, ...]:
        return self.corpus.holdout_shards or self.corpus.shards[:1]

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write ``holdout.json`` (keys by shard) and the sketches of what is held out."""
        chosen: dict[str, list[str]] = {}
        modality, sketches = self.corpus.modality, []
        num_scanned, num_clusters = 0, None
        for shard in self._scanned:
            seen = _scan(shard, modality, context)
            held = np.ones(len(seen.keys), dtype=np.bool_)
            if not self._whole:
                held, num_clusters = self._choose(seen)
            chosen[shard.identity()] = [
                key for key, is_held in zip(seen.keys, held.tolist(), strict=True) if is_held
            ]
            num_scanned += len(seen.keys)
            sketches.append(seen.sketches[held])
        (out / "holdout.json").write_text(json.dumps(chosen, indent=1) + "\n")
        np.save(out / modality.SKETCHES, np.concatenate(sketches))
        return {
            "num_holdout": sum(len(keys) for keys in chosen.values()),
            "num_scanned": num_scanned,
            "num_clusters": num_clusters,
            "whole_shards": self._whole,
        }

    def _choose(self, seen: _Scan) -> tuple[NDArray[np.bool_], int]:
        """Which scanned images are held out, and in how many clusters they all lie."""
        labels = self.corpus.modality.cluster(seen.sketches, limit=self.corpus.near_duplicate_limit)
        members: dict[int, list[str]] = defaultdict(list)
        for label, sha256 in zip(labels.tolist(), seen.hashes, strict=True):
            members[label].append(sha256)
        if len(members) < MIN_CLUSTERS:
            return np.zeros(len(labels), dtype=np.bool_), len(members)
        share = self.corpus.holdout_fraction
        held = {
            label: int(min(hashes)[:8], 16) / 2**32 < share for label, hashes in members.items()
        }
        return np.array([held[label] for label in labels.tolist()], dtype=np.bool_), len(members)

    def load(self, artifact: Artifact) -> SplitHandle:
        """The handle of a finished split."""
        return SplitHandle(artifact=artifact, corpus=self.corpus)

    def forecast(self, at: Surroundings) -> Cost:
        """Foresee that one process decodes the scanned shards."""
        if found := at.find(self):
            return Cost.found(found, images=int(found.facts["num_scanned"]))
        scanned = sum(map(len, self._scanned))
        held = scanned if self._whole else round(scanned * self.corpus.holdout_fraction)
        if not self._whole and scanned < MIN_CLUSTERS:
            held = 0
        rate = at.rate(self)
        facts = {"num_holdout": held, "num_scanned": scanned, "whole_shards": self._whole}
        artifact = at.expect(self, facts)
        return Cost(
            artifact=artifact,
            handle=self.load(artifact),
            images=scanned,
            disk_bytes=_split_bytes(held),
            memory_bytes=PROCESS_BYTES + _split_bytes(scanned),
            seconds=rate.seconds * scanned,
            source=rate.source,
        )


def _split_bytes(num_holdout: int) -> int:
    """Keys and thumbnails of the held-out images."""
    return num_holdout * (THUMBNAIL_BYTES + 24) + NPY_HEADER


@dataclass(frozen=True, kw_only=True)
class SplitHandle:
    """A finished split.

    Attributes:
        artifact: on disk.
        corpus: whose shards are split.
    """

    artifact: Artifact
    corpus: Corpus

    def identity(self) -> str:
        """``split/digest``."""
        return self.artifact.identity()

    @property
    def num_holdout(self) -> int:
        """Held-out images, H."""
        return int(self.artifact.facts["num_holdout"])

    @property
    def train(self) -> tuple[SplitShard, ...]:
        """The training part of every shard."""
        return tuple(SplitShard(shard=s, split=self, part="train") for s in self.corpus.shards)

    @property
    def holdout(self) -> tuple[SplitShard, ...]:
        """The held-out part; empty when nothing is held out."""
        shards = self.corpus.holdout_shards
        if not shards and self.num_holdout:
            shards = self.corpus.shards[:1]
        return tuple(SplitShard(shard=shard, split=self, part="holdout") for shard in shards)


@dataclass(frozen=True, kw_only=True)
class SplitShard:
    """One part of one shard; light enough to travel to worker processes.

    Attributes:
        shard: the images.
        split: what is held out.
        part: ``train`` or ``holdout``.
    """

    shard: ImageShard
    split: SplitHandle
    part: Part

    def identity(self) -> list[Any]:
        """Content of the shard, split and part."""
        return [self.shard.identity(), identity(self.split), self.part]

    @property
    def expected_documents(self) -> int:
        """Images of this part before any is refused; what a plan counts."""
        records, facts = len(self.shard), self.split.artifact.facts
        if facts["whole_shards"]:
            return records
        if self.part == "holdout":
            return min(self.split.num_holdout, records)
        is_scanned = self.shard.name == self.split.corpus.shards[0].name
        return records - self.split.num_holdout if is_scanned else records

    def open(self) -> PartFilter:
        """What decides, item by item, whether it belongs to this part."""
        corpus = self.split.corpus
        holdout = _load_holdout(
            self.split.artifact.path, corpus.modality, corpus.near_duplicate_limit
        )
        held_keys = holdout.keys.get(self.shard.identity())
        is_whole = held_keys is not None and self.split.artifact.facts["whole_shards"]
        return PartFilter(
            part=self.part,
            held_keys=None if is_whole else held_keys or frozenset(),
            near_held=holdout.near,
            modality=corpus.modality,
        )


@dataclass(frozen=True, kw_only=True)
class PartFilter:
    """Says of every item of a shard why it is not in a part of it.

    Attributes:
        part: ``train`` or ``holdout``.
        held_keys: keys of this shard that are held out; None: all, so that the unreadable items
            of a held-out shard are counted by their own reasons.
        near_held: from a sketch to those near-duplicates of it that are held out.
        modality: of the items.
    """

    part: Part
    held_keys: frozenset[str] | None
    near_held: Callable[[Sketches], NDArray[np.int64]]
    modality: Modality

    def skip_key(self, key: str) -> str | None:
        """``held_out`` (in train), ``not_held_out`` (in holdout) or None, before decoding."""
        is_held = self.held_keys is None or key in self.held_keys
        if self.part == "train":
            return "held_out" if is_held else None
        return None if is_held else "not_held_out"

    def skip_sketch(self, sketch: Sketches) -> str | None:
        """``near_duplicate_of_holdout`` (in train) or None, by a sketch."""
        if self.part != "train" or not len(self.near_held(sketch)):
            return None
        return "near_duplicate_of_holdout"


@dataclass(frozen=True)
class _Scan:
    keys: list[str]
    hashes: list[str]
    sketches: Sketches


@dataclass(frozen=True)
class _Holdout:
    keys: dict[str, frozenset[str]]
    near: Callable[[Sketches], NDArray[np.int64]]


@lru_cache(maxsize=4)
def _load_holdout(folder: Path, modality: Modality, limit: float) -> _Holdout:
    """Read once in every process, so that the handles stay light."""
    keys = json.loads((folder / "holdout.json").read_text())
    return _Holdout(
        keys={shard: frozenset(names) for shard, names in keys.items()},
        near=modality.search(np.load(folder / modality.SKETCHES), limit=limit),
    )


def _scan(shard: ImageShard, modality: Modality, context: Context) -> _Scan:
    """Keys, content hashes and sketches of the readable items of a shard."""
    keys: list[str] = []
    hashes: list[str] = []
    sketches: list[Sketches] = []
    task = context.progress.start(f"split {shard.name}", len(shard), modality.nouns)

    def look(records: Sequence[Record]) -> list[tuple[Record, tuple[str, Sketches] | None]]:
        return [(record, _look(record, modality)) for record in records]

    with modality.reading():
        for some in map_in_order(look, chunks(shard), workers=context.workers):
            for record, seen in some:
                if seen is None:
                    continue
                keys.append(record.key)
                hashes.append(seen[0])
                sketches.append(seen[1])
            context.progress.advance(task, len(some))
    context.progress.finish(task)
    return _Scan(keys, hashes, modality.stack(sketches))


def _look(record: Record, modality: Modality) -> tuple[str, Sketches] | None:
    """Content hash and sketch of a record; None: it is no readable item."""
    if record.failure is not None:
        return None
    try:
        item = modality.read(record.data)
    except Unreadable:  # counted, with its reason, when the shard is tokenized
        return None
    return hashlib.sha256(record.data).hexdigest(), modality.sketch(item)
