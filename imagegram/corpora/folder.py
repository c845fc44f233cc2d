"""FolderCorpus: any folder of images, searched to its depths, cut into shards.

    python -m imagegram.run corpus=folder corpus.path=PHOTOS tokenizer=pyramid5 num_samples=4

The folder is listed once (``listing.py``), in an order that does not follow the names. A caption or
an info file of the same name beside an image (``cat.jpg``, ``cat.txt``, ``cat.json``) becomes its
metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from imagegram.corpora.listing import BESIDE, Listing, list_images, stem
from imagegram.corpora.names import IMAGE_SUFFIXES, shown
from imagegram.corpora.tar import parse_caption, parse_info
from imagegram.corpora.webdataset import MAX_HOLDOUT, NEAR_DUPLICATE_RMS, check_policy
from imagegram.errors import CorpusError
from imagegram.images.modality import IMAGES
from imagegram.protocols import Modality
from imagegram.records import Locator, Record
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.hashing import (
    changed_while_read,
    file_stamp,
    recalled_sha256,
    remembered_sha256,
)
from imagegram.store.manifest import file_sha256
from imagegram.store.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True)
class FolderShard:
    """A shard over some image files of a folder.

    Attributes:
        name: unique in its corpus.
        path: folder of the images.
        files: relative POSIX paths of the images, in order.
        beside: relative POSIX paths of their captions and infos.
        hash_cache: folder that remembers content hashes; None: hash at every call.
    """

    name: str
    path: Path
    files: tuple[str, ...]
    beside: frozenset[str] = frozenset()
    hash_cache: str | None = None

    def identity(self) -> str:
        """Return the sha256 over names and contents of the images and of the files beside them."""
        return remembered_sha256(
            what=self.path,
            key=self._key,
            stamp=self._stamp,
            compute=self._sha256,
            memory=self.hash_cache,
        )

    def known_identity(self) -> str | None:
        """Return the identity, if it is remembered; no image is read."""
        return recalled_sha256(key=self._key, stamp=self._stamp, memory=self.hash_cache)

    @property
    def _key(self) -> str:
        return "\n".join((str(self.path.absolute()), *self.files, *sorted(self.beside)))

    def __len__(self) -> int:
        """Count records, damaged ones included."""
        return len(self.files)

    def __iter__(self) -> Iterator[Record]:
        """Yield one record a file; its key is its relative path.

        Raises:
            CorpusError: when a file changes meanwhile.
        """
        stamp = self._stamp()
        for file in self.files:
            data = self._read(file)
            caption, info = (f"{stem(file)}{suffix}" for suffix in BESIDE)
            yield Record(
                key=shown(file),
                locator=Locator(member=file, offset=0, size=len(data)),
                data=data,
                caption=parse_caption(self._read(caption)) if caption in self.beside else None,
                info=parse_info(self._read(info)) if info in self.beside else None,
            )
        if self._stamp() != stamp:
            raise changed_while_read(self.path)

    def read(self, locator: Locator) -> bytes:
        """Return the encoded bytes of one image.

        Raises:
            CorpusError: when the file is gone.
        """
        return self._read(locator.member)

    def _read(self, file: str) -> bytes:
        try:
            return (self.path / file).read_bytes()
        except FileNotFoundError:
            raise CorpusError(
                f"{self.path / file} is gone; put it back, or run again to tokenize what is there"
            ) from None

    def _names(self) -> Iterator[str]:
        """Yield the images, each with what lies beside it."""
        for file in self.files:
            yield file
            yield from (
                name for suffix in BESIDE if (name := f"{stem(file)}{suffix}") in self.beside
            )

    def _stamp(self) -> str:
        stamps = [f"{name}:{_stamp_of(self.path / name)}" for name in self._names()]
        return hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()

    def _sha256(self) -> str:
        hasher = hashlib.sha256()
        for name in self._names():
            content = file_sha256(self.path / name)
            hasher.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()


@dataclass(frozen=True, kw_only=True)
class FolderCorpus:
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
    #: 2: images in the order of a hash of their paths, links followed, hidden folders left out.
    VERSION: ClassVar[int] = 2

    name: str = field(default="folder", metadata=NOT_IDENTITY)
    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    images_per_shard: int = 1000
    num_shards: int | None = None
    holdout_fraction: float = 0.1
    max_holdout: int = MAX_HOLDOUT
    near_duplicate_rms: float = NEAR_DUPLICATE_RMS
    max_failed_fraction: float = 0.05
    views: str = field(default="none", metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_policy(self)

    @property
    def near_duplicate_limit(self) -> float:
        """Return the largest RMS difference of thumbnails of one picture."""
        return self.near_duplicate_rms

    @cached_property
    def _listing(self) -> Listing:
        """List the folder; once, so that all stages of a run see the same files."""
        return self._list()

    def _list(self) -> Listing:
        if self.path is None:
            raise CorpusError("corpus folder: no folder is named; type corpus.path=FOLDER")
        root = Path(self.path)
        if not root.is_dir():
            raise CorpusError(
                f"corpus.path={self.path}: {root.absolute()} is not a folder; give one that is: "
                "corpus.path=FOLDER"
            )
        return list_images(root)

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
        """The images in shards of ``images_per_shard``.

        Raises:
            CorpusError: when no folder is named, or it is missing or holds no image.
        """
        return self._shards

    @cached_property
    def _shards(self) -> tuple[FolderShard, ...]:
        listing = self._listing
        if not listing.images:
            raise CorpusError(
                f"corpus.path={self.path}: no file ends in {', '.join(IMAGE_SUFFIXES)} below "
                f"{listing.snapshot(str(listing.root.absolute())).line} (tars of images are read "
                "by corpus=webdataset corpus.tars=FOLDER)"
            )
        step = self.images_per_shard
        starts = range(0, len(listing.images), step)[: self.num_shards]
        return tuple(
            self._shard(number, listing, listing.images[start : start + step])
            for number, start in enumerate(starts)
        )

    def _shard(self, number: int, listing: Listing, files: tuple[str, ...]) -> FolderShard:
        possible = {f"{stem(file)}{suffix}" for file in files for suffix in BESIDE}
        return FolderShard(
            name=f"{number:05d}",
            path=listing.root,
            files=files,
            beside=listing.beside & possible,
            hash_cache=self.hash_cache,
        )

    @property
    def holdout_shards(self) -> tuple[FolderShard, ...]:
        """No shard: images of all shards are held out, by content hash."""
        return ()


def _stamp_of(path: Path) -> str:
    try:
        return file_stamp(path)
    except FileNotFoundError:
        return "gone"
