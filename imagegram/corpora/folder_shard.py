"""FolderShard: some files of a folder, each a record; images may have a caption and an info beside.

A file that changes while it is read stops the run; one that is gone is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagegram.corpora.listing import stem
from imagegram.corpora.names import shown
from imagegram.corpora.tar import parse_caption, parse_info
from imagegram.errors import CorpusError
from imagegram.records import Locator, Record
from imagegram.store.file_kinds import HEAD_BYTES, PAGE, POINTER, kind_of
from imagegram.store.hashing import (
    changed_while_read,
    file_stamp,
    recalled_sha256,
    remembered_sha256,
)
from imagegram.store.manifest import file_sha256

#: Suffixes of the caption and the info beside an image.
BESIDE: Final = (".txt", ".json")


@dataclass(frozen=True, kw_only=True)
class FolderShard:
    """A shard over some files of a folder: images, or texts.

    Attributes:
        name: unique in its corpus.
        path: the folder.
        files: relative POSIX paths of the files, in order.
        beside: relative POSIX paths of their captions and infos.
        hash_cache: folder that remembers content hashes; None: hash at every call.
    """

    name: str
    path: Path
    files: tuple[str, ...]
    beside: frozenset[str] = frozenset()
    hash_cache: str | None = None

    def identity(self) -> str:
        """Return the sha256 over names and contents of the files and of those beside them."""
        return remembered_sha256(
            what=self.path,
            key=self._key,
            stamp=self._stamp,
            compute=self._sha256,
            memory=self.hash_cache,
        )

    def known_identity(self) -> str | None:
        """Return the identity, if it is remembered; no file is read."""
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
            yield self._record(file)
        if self._stamp() != stamp:
            raise changed_while_read(self.path)

    def _record(self, file: str) -> Record:
        data = self._read(file)
        caption, info = (f"{stem(file)}{suffix}" for suffix in BESIDE)
        return Record(
            key=shown(file),
            locator=Locator(member=file, offset=0, size=len(data)),
            data=data,
            caption=parse_caption(self._read(caption)) if caption in self.beside else None,
            info=parse_info(self._read(info)) if info in self.beside else None,
        )

    def read(self, locator: Locator) -> bytes:
        """Return the bytes of one file.

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
        """Yield the files, each with what lies beside it."""
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


class TextFolderShard(FolderShard):
    """A shard over some text files of a folder."""

    def _record(self, file: str) -> Record:
        """Return the record of a file; one that is an error under the name of a text is a failure.

        Any bytes of UTF-8 are a text, those of a Git LFS pointer and of the web page of a server
        too, and nobody else would notice.
        """
        record = super()._record(file)
        kind = kind_of(record.data[:HEAD_BYTES])
        if kind in (POINTER, PAGE):
            return Record(key=record.key, locator=record.locator, failure=kind.name)
        return record


def _stamp_of(path: Path) -> str:
    try:
        return file_stamp(path)
    except FileNotFoundError:
        return "gone"
