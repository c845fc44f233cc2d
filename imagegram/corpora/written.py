"""WrittenCorpus: texts that a corpus makes itself, written on first use as JSON lines."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import ClassVar

from imagegram.corpora.file_shard import snapshot_of
from imagegram.corpora.jsonl import JsonlShard
from imagegram.corpora.webdataset import MAX_HOLDOUT, check_policy
from imagegram.errors import CorpusError, remedy
from imagegram.protocols import Modality
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.snapshot import Snapshot
from imagegram.texts.modality import TEXTS


@dataclass(frozen=True, kw_only=True)
class WrittenCorpus(ABC):
    """What corpora share that make their own documents.

    Attributes:
        name: name in tables and reports.
        write_to: folder that the JSON lines are written below.
        documents_per_shard: documents of one shard.
        num_shards: only the first N shards; None: all.
        holdout_fraction: share of the documents to hold out, near-duplicates together.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_similarity: share of common phrases, 0 ... 1, from which on two documents
            are near-duplicates.
        max_failed_fraction: share of unreadable documents in a shard above which its tokenization
            fails.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = TEXTS
    views: ClassVar[str] = "none"

    name: str = field(metadata=NOT_IDENTITY)
    write_to: str = field(default="outputs/corpora", metadata=NOT_IDENTITY)
    documents_per_shard: int = 2000
    num_shards: int | None = None
    holdout_fraction: float = 0.1
    max_holdout: int = MAX_HOLDOUT
    near_duplicate_similarity: float = 0.8
    max_failed_fraction: float = 0.05
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Check the values."""
        check_policy(self)

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of these very documents."""

    @abstractmethod
    def documents(self) -> Iterable[tuple[str, str]]:
        """Return key and text of every document, in the order of the corpus."""

    @property
    def near_duplicate_limit(self) -> float:
        """Smallest similarity of near-duplicates."""
        return self.near_duplicate_similarity

    @property
    def shards(self) -> tuple[JsonlShard, ...]:
        """The documents, written first where they are missing.

        Raises:
            CorpusError: when they cannot be written.
            MissingDependencyError: when a package that they are of is not installed.
        """
        folder = self.folder
        if not folder.is_dir():
            size = self.documents_per_shard
            write_documents(folder, self.documents(), per_shard=size, corpus=self.name)
        paths = sorted(folder.glob("*.jsonl"))[: self.num_shards]
        return tuple(
            JsonlShard(name=path.stem, path=path, hash_cache=self.hash_cache) for path in paths
        )

    @property
    def holdout_shards(self) -> tuple[JsonlShard, ...]:
        """No shard: documents of all shards are held out, by content hash."""
        return ()

    @cached_property
    def snapshot(self) -> Snapshot:
        """The files of JSON lines; raises like ``shards``."""
        return self.look()

    def look(self) -> Snapshot:
        """Return the files that are there now; raises like ``shards``."""
        files = (shard.path for shard in self.shards)
        return snapshot_of(files, noun="file", where=str(self.folder))


def write_documents(
    folder: Path, documents: Iterable[tuple[str, str]], *, per_shard: int, corpus: str
) -> None:
    """Write documents to ``00000.jsonl`` ...; the folder appears when it is complete.

    Args:
        folder: where; what another process wrote meanwhile stays.
        documents: key and text of each.
        per_shard: documents of a file.
        corpus: name of the corpus, for messages.

    Raises:
        CorpusError: when it cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        documents = iter(documents)
        for number in count():
            some = list(islice(documents, per_shard))
            if not some:
                break
            lines = (
                json.dumps({"key": key, "text": text}, ensure_ascii=False) + "\n"
                for key, text in some
            )
            path = partial / f"{number:05d}.jsonl"
            path.write_text("".join(lines), encoding="utf-8", newline="\n")
        if not folder.is_dir():
            partial.rename(folder)
    except OSError as error:
        if folder.is_dir():
            return
        raise CorpusError(
            f"corpus {corpus} could not be written to {folder.absolute()}: "
            f"{error.strerror or error}; {remedy(error, outputs=folder)}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
