"""Any folder of images, or of texts, searched to its depths, cut into shards.

    python -m imagegram.run corpus=folder corpus.path=PHOTOS tokenizer=pyramid5 num_samples=4
    python -m imagegram.run modality=text corpus=text_folder corpus.path=NOTES

The folder is listed once (``listing.py``), in an order that does not follow the names. A caption or
an info file of the same name beside an image (``cat.jpg``, ``cat.txt``, ``cat.json``) becomes its
metadata.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from imagegram.corpora.folder_shard import BESIDE, FolderShard, TextFolderShard
from imagegram.corpora.listing import Listing, list_files, stem
from imagegram.corpora.names import IMAGE_SUFFIXES, TEXT_SUFFIXES
from imagegram.corpora.webdataset import MAX_HOLDOUT, NEAR_DUPLICATE_RMS, check_policy
from imagegram.errors import CorpusError
from imagegram.images.modality import IMAGES
from imagegram.protocols import Modality
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.snapshot import Snapshot
from imagegram.texts.modality import TEXTS


@dataclass(frozen=True, kw_only=True)
class _Files(ABC):
    """What folders of images and of texts share."""

    modality: ClassVar[Modality]
    SUFFIXES: ClassVar[tuple[str, ...]]
    BESIDE: ClassVar[tuple[str, ...]] = ()
    SHARD: ClassVar[type[FolderShard]] = FolderShard
    #: What to type for the same items in other files.
    ELSE: ClassVar[str]

    name: str = field(default="folder", metadata=NOT_IDENTITY)
    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    num_shards: int | None = None
    holdout_fraction: float = 0.1
    max_holdout: int = MAX_HOLDOUT
    max_failed_fraction: float = 0.05
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_policy(self)

    @property
    @abstractmethod
    def files_per_shard(self) -> int:
        """Files of one shard."""

    @cached_property
    def _listing(self) -> Listing:
        """List the folder; once, so that all stages of a run see the same files."""
        return self._list()

    def _list(self) -> Listing:
        if self.path is None:
            raise CorpusError(f"corpus {self.name}: no folder is named; type corpus.path=FOLDER")
        root = Path(self.path)
        if not root.is_dir():
            raise CorpusError(
                f"corpus.path={self.path}: {root.absolute()} is not a folder; give one that is: "
                "corpus.path=FOLDER"
            )
        return list_files(root, noun=self.modality.noun, suffixes=self.SUFFIXES, beside=self.BESIDE)

    @property
    def snapshot(self) -> Snapshot:
        """What was found when the folder was listed.

        Raises:
            CorpusError: when no folder is named, or it is missing.
        """
        return self._listing.snapshot(str(self.path))

    def look(self) -> Snapshot:
        """Return what is found now; raises like ``snapshot``."""
        return self._list().snapshot(str(self.path))

    @property
    def shards(self) -> tuple[FolderShard, ...]:
        """The files in shards.

        Raises:
            CorpusError: when no folder is named, or it is missing or holds no image, or no text.
        """
        return self._shards

    @cached_property
    def _shards(self) -> tuple[FolderShard, ...]:
        listing = self._listing
        if not listing.items:
            raise CorpusError(
                f"corpus.path={self.path}: no file ends in {', '.join(self.SUFFIXES)} below "
                f"{listing.snapshot(str(listing.root.absolute())).line} ({self.ELSE})"
            )
        step = self.files_per_shard
        starts = range(0, len(listing.items), step)[: self.num_shards]
        return tuple(
            self._shard(number, listing, listing.items[start : start + step])
            for number, start in enumerate(starts)
        )

    def _shard(self, number: int, listing: Listing, files: tuple[str, ...]) -> FolderShard:
        possible = {f"{stem(file)}{suffix}" for file in files for suffix in self.BESIDE}
        return self.SHARD(
            name=f"{number:05d}",
            path=listing.root,
            files=files,
            beside=listing.beside & possible,
            hash_cache=self.hash_cache,
        )

    @property
    def holdout_shards(self) -> tuple[FolderShard, ...]:
        """No shard: files of all shards are held out, by content hash."""
        return ()


@dataclass(frozen=True, kw_only=True)
class FolderCorpus(_Files):
    """All images below a folder.

    Attributes:
        name: name in tables and reports.
        path: folder of the images.
        images_per_shard: files of one shard, the unit of caching and of parallel work.
        num_shards: only the first N shards; None: all.
        holdout_fraction: share of the images to hold out, near-duplicates together.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_rms: largest RMS difference, 0 ... 255, of 16x16 thumbnails of one picture.
        max_failed_fraction: share of unreadable images in a shard above which its tokenization
            fails.
        views: ``flip``: train on mirror images too, ``ten_crop``: on ten crops of each instead;
            held-out images stay as they are, and all views of an image are one source.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = IMAGES
    SUFFIXES: ClassVar[tuple[str, ...]] = IMAGE_SUFFIXES
    BESIDE: ClassVar[tuple[str, ...]] = BESIDE
    ELSE: ClassVar[str] = "tars of images are read by corpus=webdataset corpus.tars=FOLDER"
    #: 2: images in the order of a hash of their paths, links followed, hidden folders left out.
    VERSION: ClassVar[int] = 2

    images_per_shard: int = 1000
    near_duplicate_rms: float = NEAR_DUPLICATE_RMS
    views: str = field(default="none", metadata=NOT_IDENTITY)

    @property
    def near_duplicate_limit(self) -> float:
        """Return the largest RMS difference of thumbnails of one picture."""
        return self.near_duplicate_rms

    @property
    def files_per_shard(self) -> int:
        """Images of one shard."""
        return self.images_per_shard


@dataclass(frozen=True, kw_only=True)
class TextFolderCorpus(_Files):
    """All texts below a folder, a document a file.

    Attributes:
        name: name in tables and reports.
        path: folder of the texts, ``.txt`` and ``.md`` in UTF-8.
        documents_per_shard: files of one shard, the unit of caching and of parallel work.
        num_shards: only the first N shards; None: all.
        holdout_fraction: share of the texts to hold out, near-duplicates together.
        max_holdout: hold out about this many where that share would be more.
        near_duplicate_similarity: share of common phrases, 0 ... 1, from which on two texts are
            near-duplicates.
        max_failed_fraction: share of unreadable texts in a shard above which its tokenization
            fails.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = TEXTS
    views: ClassVar[str] = "none"
    SUFFIXES: ClassVar[tuple[str, ...]] = TEXT_SUFFIXES
    SHARD: ClassVar[type[FolderShard]] = TextFolderShard
    ELSE: ClassVar[str] = (
        "files of many documents are read by corpus=jsonl corpus.files=FOLDER, images by "
        "corpus=folder"
    )
    VERSION: ClassVar[int] = 1

    name: str = field(default="text_folder", metadata=NOT_IDENTITY)
    documents_per_shard: int = 1000
    near_duplicate_similarity: float = 0.8

    @property
    def near_duplicate_limit(self) -> float:
        """Smallest similarity of near-duplicates."""
        return self.near_duplicate_similarity

    @property
    def files_per_shard(self) -> int:
        """Documents of one shard."""
        return self.documents_per_shard
