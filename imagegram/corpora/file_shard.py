"""FileShard: a shard that is one file, known by its bytes; tars and JSON lines extend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from imagegram.corpora.names import is_hidden, shown
from imagegram.store.hashing import file_stamp, recalled_sha256, remembered_sha256
from imagegram.store.manifest import file_sha256, human_bytes
from imagegram.store.snapshot import Snapshot, by_suffix, plural, some


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


def snapshot_of(
    files: Iterable[Path], *, noun: str, where: str, folders: Iterable[Path] = ()
) -> Snapshot:
    """Return a snapshot of whole files, and of what else lies in their folders.

    Args:
        files: files that are read.
        noun: what one of them is.
        where: they were looked for, as it was given.
        folders: folders that are read as a whole; what is no folder is passed over.
    """
    paths = list(files)
    read = {path.absolute() for path in paths}
    others: Counter[str] = Counter()
    hidden, inner = [], []
    for folder in folders:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if is_hidden(path.name):
                hidden.append(shown(path.name))
            elif path.is_dir():
                inner.append(shown(path.name))
            elif path.absolute() not in read:
                others[path.suffix.lower()] += 1
    size = sum(path.stat().st_size for path in paths)
    left_out = ", ".join(
        f"{plural(count, noun)}{rest} ({what})"
        for count, noun, rest, what in (
            (others.total(), "other file", "", by_suffix(others)),
            (len(hidden), "hidden file", "", some(hidden)),
            (len(inner), "folder", " not searched", some(inner)),
        )
        if count
    )
    counts = {f"{noun}s": len(paths), "size_bytes": size, "others": dict(sorted(others.items()))}
    return Snapshot(
        where=shown(where),
        found=f"{plural(len(paths), noun)} of {human_bytes(size)}"
        + (f"; {left_out}" if left_out else ""),
        counts={**counts, "hidden": len(hidden), "folders_not_searched": inner},
        files=frozenset(shown(str(path)) for path in paths),
    )
