"""Images or texts in Parquet files, of a dataset of the Hugging Face Hub or of a folder.

    python -m imagegram.tools.download corpus=huggingface corpus.dataset=food101
    python -m imagegram.run corpus=huggingface corpus.dataset=food101
    python -m imagegram.run corpus=huggingface corpus.dataset=FOLDER corpus.holdout_split=validation
    python -m imagegram.run corpus=huggingface_text corpus.dataset=FOLDER tokenizer=bpe

Runs read what ``tools.download`` brought, and never the network. A shard is a file.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

from imagegram.corpora.dataset_files import files_of_split
from imagegram.corpora.file_shard import snapshot_of
from imagegram.corpora.names import is_hidden
from imagegram.corpora.parquet import (
    ParquetShard,
    image_columns,
    open_parquet,
    text_columns,
)
from imagegram.corpora.webdataset import MAX_HOLDOUT, NEAR_DUPLICATE_RMS, check_policy
from imagegram.errors import ConfigError, CorpusError
from imagegram.images.modality import IMAGES
from imagegram.protocols import Modality
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.snapshot import Snapshot
from imagegram.texts.modality import TEXTS

#: In the folder of a downloaded dataset: all its Parquet files at the hub, and their sizes.
LISTING: Final = ".files.json"


@dataclass(frozen=True, kw_only=True)
class _DatasetCorpus(ABC):
    """What corpora of images and of texts share."""

    modality: ClassVar[Modality]
    VERSION: ClassVar[int] = 1

    name: str = field(default="huggingface", metadata=NOT_IDENTITY)
    dataset: str | None = field(default=None, metadata=NOT_IDENTITY)
    split: str = "train"
    config: str | None = None
    holdout_split: str | None = None
    num_shards: int | None = None
    holdout_fraction: float = 0.1
    max_holdout: int = MAX_HOLDOUT
    max_failed_fraction: float = 0.05
    revision: str = field(default="main", metadata=NOT_IDENTITY)
    downloads: str = field(default="data/huggingface", metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_policy(self)
        if self.holdout_split is not None and self.holdout_split == self.split:
            raise ConfigError(
                f"corpus.holdout_split={self.holdout_split} is corpus.split too, so nothing would "
                "be left for training; name another split, or null"
            )

    @property
    @abstractmethod
    def column(self) -> str | None:
        """The column that was named."""

    @abstractmethod
    def columns(self, file: Any) -> list[str]:
        """Return the columns of an opened file that may hold the items."""

    @property
    def shards(self) -> tuple[ParquetShard, ...]:
        """The first ``num_shards`` files of the split.

        Raises:
            CorpusError: when files are missing or cut, or it is not clear which column to read.
        """
        return self._train

    @cached_property
    def _train(self) -> tuple[ParquetShard, ...]:
        return self._open(self.split, "split", self.num_shards)

    @property
    def holdout_shards(self) -> tuple[ParquetShard, ...]:
        """The files of ``holdout_split``.

        Raises:
            CorpusError: as for :attr:`shards`.
        """
        return self._holdout

    @cached_property
    def _holdout(self) -> tuple[ParquetShard, ...]:
        if self.holdout_split is None:
            return ()
        return self._open(self.holdout_split, "holdout_split", None)

    @cached_property
    def snapshot(self) -> Snapshot:
        """What was found when the files were listed.

        Raises:
            CorpusError: as for :attr:`shards`.
        """
        return self._snapshot([shard.path for shard in (*self._train, *self._holdout)])

    def look(self) -> Snapshot:
        """Return what is found now."""
        there = self._there(self.folder)
        files = self.choose(there, self.split)[: self.num_shards]
        if self.holdout_split is not None:
            files += self.choose(there, self.holdout_split, "holdout_split")
        return self._snapshot([self.folder / file for file in files])

    def _snapshot(self, files: Sequence[Path]) -> Snapshot:
        folders = sorted({path.parent for path in files})
        return snapshot_of(files, noun="file", where=str(self.dataset), folders=folders)

    @staticmethod
    def _there(folder: Path) -> list[str]:
        """Return the Parquet files of a folder, hidden ones excepted."""
        paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]
        return [path for path in paths if not is_hidden(path)]

    @property
    def folder(self) -> Path:
        """Folder of the dataset: the one that was named, or where its download lies.

        Raises:
            CorpusError: when no dataset is named.
        """
        if self.dataset is None:
            raise CorpusError(
                f"corpus {self.name}: no dataset is named; type corpus.dataset=NAME, as on the hub "
                "(food101, owner/name), or corpus.dataset=FOLDER with Parquet files"
            )
        named = Path(self.dataset)
        return named if named.is_dir() else Path(self.downloads) / self.dataset

    def choose(self, files: Sequence[str], split: str, setting: str = "split") -> list[str]:
        """Return the files of a split, of all Parquet files of the dataset."""
        return files_of_split(
            files, dataset=str(self.dataset), split=split, config=self.config, setting=setting
        )

    def _open(self, split: str, setting: str, most: int | None) -> tuple[ParquetShard, ...]:
        folder = self.folder
        if not folder.is_dir():
            raise CorpusError(
                f"corpus {self.name}: {self.dataset} is neither a folder nor in "
                f"{Path(self.downloads).absolute()}; {self._remedy()}"
            )
        listing, found = read_listing(folder), self._there(folder)
        files = self.choose([*listing] or found, split, setting)[:most]
        if most is not None and len(files) < most:
            raise CorpusError(
                f"corpus {self.name}: {self.dataset} has {len(files)} files of split {split}, "
                f"corpus.num_shards={most} wanted; type corpus.num_shards={len(files)} or fewer"
            )
        missing = [file for file in files if file not in found]
        if missing:
            raise CorpusError(
                f"corpus {self.name}: {len(missing)} of {len(files)} files are missing in "
                f"{folder.absolute()}, first {missing[0]}; {self._remedy()}"
            )
        column = self._choose_column(folder / files[0])
        return tuple(
            ParquetShard(
                name=file.removesuffix(".parquet"),
                path=folder / file,
                column=column,
                kind=self.modality.noun,
                hash_cache=self.hash_cache,
            )
            for file in files
        )

    def _choose_column(self, path: Path) -> str:
        """Return the column of the items, as the first file has it."""
        with open_parquet(path) as file:
            columns = self.columns(file)
            every = ", ".join(field.name for field in file.schema_arrow)
        noun, nouns = self.modality.noun, self.modality.nouns
        choice = f"type corpus.{noun}=NAME, one of: {', '.join(columns)}; " if columns else ""
        if self.column in columns:
            return str(self.column)
        if self.column is not None:
            what = f"corpus.{noun}={self.column} is no column of {nouns} of {path}"
        elif len(columns) == 1:
            return columns[0]
        else:
            what = f"{path} has {len(columns) or 'no'} column{'s' * (len(columns) > 1)} of {nouns}"
        raise CorpusError(f"{what}; {choice}all its columns: {every}")

    def _remedy(self) -> str:
        words = [f"corpus.dataset={self.dataset}"]
        if self.split != "train":
            words.append(f"corpus.split={self.split}")
        for key in ("config", "holdout_split", "num_shards"):
            if (value := getattr(self, key)) is not None:
                words.append(f"corpus.{key}={value}")
        command = f"python -m imagegram.tools.download corpus={self.name}"
        return f"get it with: {command} {' '.join(words)}"


@dataclass(frozen=True, kw_only=True)
class HuggingFaceCorpus(_DatasetCorpus):
    """Images in Parquet files, and their labels.

    Attributes:
        name: what tables and reports call it.
        dataset: name on the hub, ``food101`` or ``owner/name``, or a folder of Parquet files.
        split: ``train``, ``validation``, ``test`` ..., as the names of the files tell it.
        config: configuration of the dataset; None: the only one, or the default.
        image: column of the images; None: the only one.
        holdout_split: a split that is held out whole; None: images of all files are held out, by
            content hash.
        num_shards: only the first N files; None: all.
        holdout_fraction: share of them to hold out, near-duplicates together; unused with
            ``holdout_split``.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_rms: largest RMS difference, 0 ... 255, of 16x16 thumbnails of one picture.
        max_failed_fraction: share of unreadable images in a shard above which its tokenization
            fails.
        views: ``flip``: train on mirror images too, ``ten_crop``: on ten crops of each instead;
            held-out images stay as they are, and all views of an image are one source.
        revision: branch, tag or commit on the hub.
        downloads: folder that ``tools.download`` writes datasets below.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = IMAGES

    image: str | None = None
    near_duplicate_rms: float = NEAR_DUPLICATE_RMS
    views: str = field(default="none", metadata=NOT_IDENTITY)

    @property
    def near_duplicate_limit(self) -> float:
        """Largest RMS difference of thumbnails of one picture."""
        return self.near_duplicate_rms

    @property
    def column(self) -> str | None:
        """The column of the images, if it was named."""
        return self.image

    def columns(self, file: Any) -> list[str]:
        """Return the columns of images."""
        return image_columns(file)


@dataclass(frozen=True, kw_only=True)
class HuggingFaceTextCorpus(_DatasetCorpus):
    """Texts in Parquet files, a document a row.

    Attributes:
        name: what tables and reports call it.
        dataset: name on the hub, ``wikitext`` or ``owner/name``, or a folder of Parquet files.
        split: ``train``, ``validation``, ``test`` ..., as the names of the files tell it.
        config: configuration of the dataset; None: the only one, or the default.
        text: column of the texts; None: ``text``, or the only one of strings.
        holdout_split: a split that is held out whole; None: texts of all files are held out, by
            content hash.
        num_shards: only the first N files; None: all.
        holdout_fraction: share of them to hold out, near-duplicates together; unused with
            ``holdout_split``.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_similarity: share of common phrases, 0 ... 1, from which on two documents
            are near-duplicates.
        max_failed_fraction: share of unreadable texts in a shard above which its tokenization
            fails.
        revision: branch, tag or commit on the hub.
        downloads: folder that ``tools.download`` writes datasets below.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = TEXTS
    views: ClassVar[str] = "none"

    text: str | None = None
    near_duplicate_similarity: float = 0.8

    @property
    def near_duplicate_limit(self) -> float:
        """Smallest similarity of near-duplicates."""
        return self.near_duplicate_similarity

    @property
    def column(self) -> str | None:
        """The column of the texts, if it was named."""
        return self.text

    def columns(self, file: Any) -> list[str]:
        """Return the columns of strings; ``text`` alone where none was named and it is there."""
        columns = text_columns(file)
        return ["text"] if self.text is None and "text" in columns else columns


def read_listing(folder: Path) -> dict[str, int]:
    """Return all Parquet files of a downloaded dataset and their sizes; {} of other folders."""
    try:
        listed: Any = json.loads((folder / LISTING).read_text())
    except (OSError, ValueError):
        return {}
    return {str(file): int(size) for file, size in listed.items()}
