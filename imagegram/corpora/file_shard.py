"""FileShard: a shard that is one file, known by its bytes; tars and JSON lines extend it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagegram.store.hashing import file_stamp, recalled_sha256, remembered_sha256
from imagegram.store.manifest import file_sha256


@dataclass(frozen=True, kw_only=True)
class FileShard:
    """Name, place and content hash of a file.

    Attributes:
        name: unique in its corpus.
        path: the file.
        hash_cache: folder that remembers content hashes; None: hash at every call.
    """

    name: str
    path: Path
    hash_cache: str | None = None

    def identity(self) -> str:
        """Return the sha256 over the bytes of the file."""
        return remembered_sha256(
            what=self.path,
            key=str(self.path.absolute()),
            stamp=lambda: file_stamp(self.path),
            compute=lambda: file_sha256(self.path),
            memory=self.hash_cache,
        )

    def known_identity(self) -> str | None:
        """Return the identity, if it is remembered; the file is not read."""
        return recalled_sha256(
            key=str(self.path.absolute()),
            stamp=lambda: file_stamp(self.path),
            memory=self.hash_cache,
        )
