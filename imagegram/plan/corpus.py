"""A corpus in a plan: its identity and number of images, without reading the images.

Content hashes come from the hash cache and are not computed here: a shard that was never hashed
cannot have been tokenized into this store. The records of the first tars are counted by their
headers; the number of records of the other tars is estimated from their sizes.
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

#: Bytes of the fixed part of a metadata line (keys, sha256, numbers); names and texts come on top.
_METADATA_BYTES: Final = 270
_SAMPLED_RECORDS: Final = 8


@dataclass
class RecordCounter:
    """Counts the records of shards, exactly up to a limit, from then on by their sizes.

    Attributes:
        max_counted: number of records that are counted one by one; None: all.
        records, size_bytes: records counted so far, and their bytes.
        num_estimated: shards whose records were estimated.
    """

    max_counted: int | None
    records: int = 0
    size_bytes: int = 0
    num_estimated: int = 0

    def count(self, shard: ImageShard) -> int:
        """Count or estimate the records of a shard, including damaged ones."""
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
    """An image shard of a plan: not hashed here, and its records perhaps only estimated.

    Attributes:
        shard: the real shard.
        counter: record counter of the corpus.
        hashes: compute a hash that is not in the hash cache.
    """

    shard: ImageShard
    counter: RecordCounter = field(repr=False)
    hashes: bool

    @cached_property
    def known(self) -> bool:
        """Whether the content hash is known, so that the store can be searched for the shard."""
        return not self._identity.startswith("unknown")

    @cached_property
    def _identity(self) -> str:
        recall = getattr(self.shard, "known_identity", None)
        if self.hashes or recall is None:
            return self.shard.identity()
        return recall() or f"unknown {self.shard.path} {self.shard.name}"

    def identity(self) -> str:
        """Return the content hash, or a text that matches no stored artifact."""
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
        """Return the number of records, counted or estimated."""
        return self._records

    @cached_property
    def metadata_bytes(self) -> int:
        """Bytes of a metadata line, averaged over the first records."""
        records = list(itertools.islice(iter(self.shard), _SAMPLED_RECORDS))
        sizes = [
            len(record.key) + len(record.locator.member) + len(self.shard.name)
            + sum(len(json.dumps(text)) for text in (record.caption, record.info))
            for record in records
        ]  # fmt: skip
        return _METADATA_BYTES + (sum(sizes) // len(sizes) if sizes else 0)


@dataclass(frozen=True, kw_only=True)
class PlannedCorpus:
    """A corpus of planned shards, with the hold-out policy of the real corpus.

    Attributes:
        corpus: the real corpus.
        shards, holdout_shards: planned shards.
        counters: record counters of training and held-out shards.
    """

    corpus: Corpus
    shards: tuple[PlannedShard, ...]
    holdout_shards: tuple[PlannedShard, ...]
    counters: tuple[RecordCounter, RecordCounter]

    @classmethod
    def of(cls, corpus: Corpus, *, max_counted: int | None, hashes: bool) -> PlannedCorpus:
        """Return the planned form of a corpus.

        Args:
            corpus: the real corpus; the demo corpus writes its tars on first use.
            max_counted: number of records to count one by one in each part; None: all.
            hashes: compute hashes that are not in the hash cache; reads the whole corpus.

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
        """Number of shards whose records were estimated."""
        return sum(counter.num_estimated for counter in self.counters)

    @property
    def num_unknown(self) -> int:
        """Number of shards whose content was never hashed."""
        return sum(not shard.known for shard in (*self.shards, *self.holdout_shards))
