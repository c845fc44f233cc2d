"""FolderCorpus: any folder of images, searched to its depths, cut into shards.

    python -m imagegram.run corpus=folder corpus.path=PHOTOS tokenizer=pyramid5 num_samples=4

The order is that of the relative POSIX paths. A caption or an info file of the same name beside an
image (``cat.jpg``, ``cat.txt``, ``cat.json``) becomes its metadata.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

from imagegram.corpora.tar import IMAGE_SUFFIXES, parse_caption, parse_info
from imagegram.corpora.webdataset import NEAR_DUPLICATE_RMS, check_policy
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


@dataclass(frozen=True, kw_only=True)
class FolderShard:
    """An ImageShard over some image files of a folder.

    Attributes:
        name: unique in its corpus.
        path: the folder.
        files: relative POSIX paths of the images, in order.
        hash_cache: folder that remembers content hashes; None: hash at every call.
    """

    name: str
    path: Path
    files: tuple[str, ...]
    hash_cache: str | None = None

    def identity(self) -> str:
        """sha256 over names and contents of the images and of the files beside them."""
        return remembered_sha256(
            what=self.path,
            key=self._key,
            stamp=self._stamp,
            compute=self._sha256,
            memory=self.hash_cache,
        )

    def known_identity(self) -> str | None:
        """The identity, if it is remembered; no image is read."""
        return recalled_sha256(key=self._key, stamp=self._stamp, memory=self.hash_cache)

    @property
    def _key(self) -> str:
        return "\n".join((str(self.path.absolute()), *self.files))

    def __len__(self) -> int:
        """Records, damaged ones included."""
        return len(self.files)

    def __iter__(self) -> Iterator[Record]:
        """One record a file. Images that share their name up to the suffix keep it in their keys.

        Raises:
            CorpusError: when a file changes meanwhile.
        """
        stamp = self._stamp()
        stems = Counter(_stem(file) for file in self.files)
        for file in self.files:
            data = self._read(file)
            caption, info = (self.path / f"{_stem(file)}{suffix}" for suffix in (".txt", ".json"))
            yield Record(
                key=_stem(file) if stems[_stem(file)] == 1 else file,
                locator=Locator(member=file, offset=0, size=len(data)),
                data=data,
                caption=parse_caption(caption.read_bytes()) if caption.is_file() else None,
                info=parse_info(info.read_bytes()) if info.is_file() else None,
            )
        if self._stamp() != stamp:
            raise changed_while_read(self.path)

    def read(self, locator: Locator) -> bytes:
        """The encoded bytes of one image.

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

    def _present(self) -> Iterator[tuple[str, Path]]:
        for file in self.files:
            stem = _stem(file)
            for name in (file, f"{stem}.txt", f"{stem}.json"):
                if name == file or (self.path / name).is_file():
                    yield name, self.path / name

    def _stamp(self) -> str:
        stamps = [
            f"{name}:{file_stamp(path) if path.exists() else 'gone'}"
            for name, path in self._present()
        ]
        return hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()

    def _sha256(self) -> str:
        hasher = hashlib.sha256()
        for name, path in self._present():
            hasher.update(f"{name}\0{file_sha256(path)}\n".encode("utf-8", "surrogateescape"))
        return hasher.hexdigest()


@dataclass(frozen=True, kw_only=True)
class FolderCorpus:
    """All images below a folder.

    Attributes:
        name: what tables and reports call it.
        path: the folder.
        images_per_shard: files of one shard, the unit of caching and of parallel work.
        num_shards: only the first N shards; None: all.
        holdout_fraction: share of the first shard's near-duplicate clusters to hold out.
        near_duplicate_rms: largest RMS difference, 0 ... 255, of 16x16 thumbnails of one picture.
        max_failed_fraction: share of unreadable images in a shard above which its tokenization
            fails.
        hash_cache: folder that remembers content hashes; None: hash at every run.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 1

    name: str = field(default="folder", metadata=NOT_IDENTITY)
    path: str | None = field(default=None, metadata=NOT_IDENTITY)
    images_per_shard: int = 1000
    num_shards: int | None = None
    holdout_fraction: float = 0.1
    near_duplicate_rms: float = NEAR_DUPLICATE_RMS
    max_failed_fraction: float = 0.05
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_policy(self)

    @property
    def near_duplicate_limit(self) -> float:
        """Largest RMS difference of thumbnails of one picture."""
        return self.near_duplicate_rms

    @property
    def shards(self) -> tuple[FolderShard, ...]:
        """The images in shards of ``images_per_shard``.

        Raises:
            CorpusError: when no folder is named, or it is missing or holds no image.
        """
        if self.path is None:
            raise CorpusError("corpus folder: no folder is named; type corpus.path=FOLDER")
        root = Path(self.path)
        if not root.is_dir():
            raise CorpusError(
                f"corpus.path={self.path}: {root.absolute()} is not a folder; give one that is: "
                "corpus.path=FOLDER"
            )
        files = sorted(
            path.relative_to(root).as_posix()
            for path in root.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not path.name.startswith(".")
            and (path.is_file() or _leads_nowhere(path))
        )
        if not files:
            raise CorpusError(
                f"corpus.path={self.path}: no file below {root.absolute()} ends in "
                f"{', '.join(IMAGE_SUFFIXES)} (tars of images are read by corpus=webdataset "
                "corpus.tars=FOLDER)"
            )
        step = self.images_per_shard
        starts = range(0, len(files), step)[: self.num_shards]
        return tuple(
            FolderShard(
                name=f"{number:05d}",
                path=root,
                files=tuple(files[start : start + step]),
                hash_cache=self.hash_cache,
            )
            for number, start in enumerate(starts)
        )

    @property
    def holdout_shards(self) -> tuple[FolderShard, ...]:
        """None: images are held out of the first shard by content hash."""
        return ()


def _leads_nowhere(path: Path) -> bool:
    """A link without its target: listed, so that reading it is refused instead of forgotten."""
    return path.is_symlink() and not path.exists()


def _stem(file: str) -> str:
    return PurePosixPath(file).with_suffix("").as_posix()
