"""JsonlCorpus: documents in files of many: JSON lines, plain or compressed by gzip, or Parquet.

    python -m imagegram.run modality=text corpus=jsonl corpus.files=FOLDER
    python -m imagegram.run modality=text corpus=jsonl corpus.files=a.jsonl.gz corpus.text=body

A shard is a file; ``num_shards`` takes the first N, so that the sizes of one corpus are nested and
share their artifacts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from imagegram.corpora.file_shard import snapshot_of
from imagegram.corpora.jsonl import JsonlShard, check_lines
from imagegram.corpora.parquet import ParquetShard, open_parquet, text_columns
from imagegram.corpora.patterns import Files, Patterns, listed
from imagegram.corpora.webdataset import MAX_HOLDOUT, check_policy
from imagegram.errors import ConfigError, CorpusError
from imagegram.protocols import Modality
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.snapshot import Snapshot, some
from imagegram.texts.modality import TEXTS

#: Names of files in a folder of documents.
SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".parquet")
Shards: TypeAlias = tuple[JsonlShard | ParquetShard, ...]


@dataclass(frozen=True, kw_only=True)
class JsonlCorpus:
    """Documents in JSON lines or Parquet files.

    Attributes:
        name: name in tables and reports.
        files: the training files: a file, a folder of files, a glob, a pattern like
            ``{00000..00009}.jsonl``, or a list of these; sorted inside a folder or glob.
        num_shards: only the first N of them; None: all.
        holdout_files: files that are held out whole, in the same forms; None: documents of all
            training files are held out, by content hash.
        text: field of the text of a document.
        id: field that names it; None: ``key`` or ``id``, in Parquet the number of the row. A line
            without it is known by its number.
        label: field that conditions find as ``label``; None: what is called so.
        holdout_fraction: share of the documents to hold out, near-duplicates together; unused with
            ``holdout_files``.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_similarity: share of common phrases, 0 ... 1, from which on two documents
            are near-duplicates.
        max_failed_fraction: share of unreadable documents in a shard above which its tokenization
            fails.
        hint: what to do when files are missing.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = TEXTS
    views: ClassVar[str] = "none"
    VERSION: ClassVar[int] = 1

    name: str = field(default="jsonl", metadata=NOT_IDENTITY)
    files: str | tuple[str, ...] | None = field(default=None, metadata=NOT_IDENTITY)
    num_shards: int | None = None
    holdout_files: str | tuple[str, ...] | None = field(default=None, metadata=NOT_IDENTITY)
    text: str = "text"
    id: str | None = None
    label: str | None = None
    holdout_fraction: float = 0.1
    max_holdout: int = MAX_HOLDOUT
    near_duplicate_similarity: float = 0.8
    max_failed_fraction: float = 0.05
    hint: str | None = field(default=None, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Accept YAML lists and check the values."""
        for name in ("files", "holdout_files"):
            if not isinstance(value := getattr(self, name), str | None):
                object.__setattr__(self, name, tuple(str(item) for item in value))
        for name in ("id", "label"):
            if getattr(self, name) == self.text:
                raise ConfigError(
                    f"corpus.{name}={self.text} is the field of the texts too, corpus.text; name "
                    f"another field, or corpus.{name}=null"
                )
        check_policy(self)

    @property
    def near_duplicate_limit(self) -> float:
        """Smallest similarity of near-duplicates."""
        return self.near_duplicate_similarity

    @property
    def shards(self) -> Shards:
        """The first ``num_shards`` files.

        Raises:
            CorpusError: when one is missing or of another kind, with what mends it.
        """
        return self._train

    @cached_property
    def _train(self) -> Shards:
        if self.files is None:
            raise CorpusError(
                f"corpus {self.name}: no files are named; type corpus.files=FOLDER, a file, a "
                "glob, a list [a.jsonl,b.jsonl] or a pattern 'corpus.files={00000..00009}.jsonl'"
            )
        return self._open(self.files, "files", self.num_shards)

    @property
    def holdout_shards(self) -> Shards:
        """Files that are held out whole; raises like ``shards``."""
        return self._holdout

    @cached_property
    def _holdout(self) -> Shards:
        held = self.holdout_files
        return () if held is None else self._open(held, "holdout_files", None)

    @cached_property
    def snapshot(self) -> Snapshot:
        """What was found when the files were listed; raises like ``shards``."""
        return self._snapshot([shard.path for shard in (*self._train, *self._holdout)])

    def look(self) -> Snapshot:
        """Return what is found now."""
        paths = self._named(self.files, "files").paths(self.num_shards)
        paths += self._named(self.holdout_files, "holdout_files").paths()
        return self._snapshot([path for path in paths if path.is_file()])

    def _snapshot(self, files: list[Path]) -> Snapshot:
        patterns = [*listed(self.files), *listed(self.holdout_files)]
        return snapshot_of(files, noun="file", where=some(patterns), folders=map(Path, patterns))

    def _named(self, patterns: Patterns, setting: str) -> Files:
        return Files(
            patterns=patterns,
            corpus=self.name,
            setting=f"corpus.{setting}",
            noun="file",
            suffixes=SUFFIXES,
        )

    def _open(self, patterns: Patterns, setting: str, most: int | None) -> Shards:
        remedy = self.hint or (
            f"check corpus.{setting} and corpus.num_shards; files of a folder end in "
            f"{', '.join(SUFFIXES)}"
        )
        found = self._named(patterns, setting).find(most, remedy=remedy)
        return tuple(self._shard(name, path) for name, path in found.items())

    def _shard(self, name: str, path: Path) -> JsonlShard | ParquetShard:
        if path.suffix != ".parquet":
            check_lines(path)
            return JsonlShard(
                name=name,
                path=path,
                text=self.text,
                key=self.id,
                label=self.label,
                hash_cache=self.hash_cache,
            )
        with open_parquet(path) as file:
            columns = text_columns(file)
        if self.text not in columns:
            raise CorpusError(
                f"{path} has no column of texts {self.text}; type corpus.text=NAME, one of its "
                f"columns of strings: {', '.join(columns) or 'none'}"
            )
        return ParquetShard(
            name=name,
            path=path,
            column=self.text,
            kind="text",
            key=self.id,
            label=self.label,
            hash_cache=self.hash_cache,
        )
