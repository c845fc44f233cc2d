"""A corpus to plan with: what it is and how much, without reading its images.

Content hashes are taken from memory, never computed here: a shard that was not hashed yet cannot
have been tokenized into this store either. Records of the first tars are counted in their headers,
those of the others are estimated from their sizes.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from imagegram.protocols import Corpus, ImageShard
from imagegram.records import Record

#: Of a metadata line: keys, sha256 and numbers; the rest depends on the names and texts.
_METADATA_BYTES: Final = 270
_SAMPLED_RECORDS: Final = 8


@dataclass
class RecordCounter:
    """Counts the records of shards, exactly up to a limit, from then on by their sizes.

    Attributes:
        max_counted: records that are counted one by one; None: all.
        records, size_bytes: counted so far.
        num_estimated: shards whose records were estimated.
    """

    max_counted: int | None
    records: int = 0
    size_bytes: int = 0
    num_estimated: int = 0

    def count(self, shard: ImageShard) -> int:
        """Records of a shard, damaged ones included."""
        size = shard.path.stat().st_size if shard.path.is_file() else 0
        enough = self.max_counted is not None and self.records >= self.max_counted
        if enough and size and self.size_bytes:
            self.num_estimated += 1
            return round(size * self.records / self.size_bytes)
        records = len(shard)
        self.records += records
        self.size_bytes += size
        return records


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """An image shard whose content is not hashed, and whose records are perhaps not counted.

    Attributes:
        shard: the real one.
        counter: of its corpus.
        hashes: compute a hash that is not remembered.
    """

    shard: ImageShard
    counter: RecordCounter = field(repr=False)
    hashes: bool

    @cached_property
    def known(self) -> bool:
        """Whether the content hash is known, so that a look into the store tells anything."""
        return not self._identity.startswith("unknown")

    @cached_property
    def _identity(self) -> str:
        recall = getattr(self.shard, "known_identity", None)
        if self.hashes or recall is None:
            return self.shard.identity()
        return recall() or f"unknown {self.shard.path} {self.shard.name}"

    def identity(self) -> str:
        """The content hash, or words that no stored artifact has."""
        return self._identity

    def __iter__(self) -> Iterator[Record]:
        """Records of the shard."""
        return iter(self.shard)

    def __getattr__(self, name: str) -> Any:
        """Return what the shard has under any other name."""
        return getattr(self.shard, name)

    @cached_property
    def _records(self) -> int:
        return self.counter.count(self.shard)

    def __len__(self) -> int:
        """Records, or about as many."""
        return self._records

    @cached_property
    def metadata_bytes(self) -> int:
        """Of one document's metadata line, by the first records."""
        records = list(itertools.islice(iter(self.shard), _SAMPLED_RECORDS))
        sizes = [
            len(record.key) + len(record.locator.member) + len(self.shard.name)
            + sum(len(json.dumps(text)) for text in (record.caption, record.info))
            for record in records
        ]  # fmt: skip
        return _METADATA_BYTES + (sum(sizes) // len(sizes) if sizes else 0)


@dataclass(frozen=True, kw_only=True)
class PlannedCorpus:
    """A corpus of planned shards, with the policy of the real one.

    Attributes:
        corpus: the real one.
        shards, holdout_shards: planned.
        counters: of training and held-out shards.
    """

    corpus: Corpus
    shards: tuple[PlannedShard, ...]
    holdout_shards: tuple[PlannedShard, ...]
    counters: tuple[RecordCounter, RecordCounter]

    @classmethod
    def of(cls, corpus: Corpus, *, max_counted: int | None, hashes: bool) -> PlannedCorpus:
        """Wrap a corpus.

        Args:
            corpus: the demo writes its tars when they are asked for.
            max_counted: records to count one by one in each part; None: all.
            hashes: compute hashes that are not remembered; reads the whole corpus.

        Raises:
            CorpusError: when shards are missing.
        """
        counters = RecordCounter(max_counted=max_counted), RecordCounter(max_counted=max_counted)
        train, holdout = (
            tuple(PlannedShard(shard=shard, counter=counter, hashes=hashes) for shard in shards)
            for shards, counter in zip(
                (corpus.shards, corpus.holdout_shards), counters, strict=True
            )
        )
        return cls(corpus=corpus, shards=train, holdout_shards=holdout, counters=counters)

    def __getattr__(self, name: str) -> Any:
        """Return what the corpus has under any other name."""
        return getattr(self.corpus, name)

    @property
    def num_estimated(self) -> int:
        """Shards whose records were estimated."""
        return sum(counter.num_estimated for counter in self.counters)

    @property
    def num_unknown(self) -> int:
        """Shards whose content was never hashed."""
        return sum(not shard.known for shard in (*self.shards, *self.holdout_shards))
