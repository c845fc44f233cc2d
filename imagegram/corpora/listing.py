"""Listing: all files below a folder, found once, with an account of those that are not read.

Links to folders and files are followed; a folder that several paths lead to is read once, so loops
end. Images, or texts, are put in the order of a hash of their relative paths: any prefix of them,
and any shard, is then a mixture of all folders, whatever these are called.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from imagegram.corpora.names import is_hidden, shown
from imagegram.errors import CorpusError
from imagegram.store.snapshot import Snapshot, by_suffix, plural, some

#: Stands for a suffix in counts of pipes, sockets and devices.
_SPECIAL: Final = "special"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files below a folder.

    Attributes:
        root: the folder.
        noun: what one of the items is: ``image``, ``text``.
        items: relative POSIX paths of the images or texts, in the order of the corpus.
        beside: relative POSIX paths of the captions and infos beside them.
        others: number of other files, by suffix in lower case.
        hidden: number of files by hidden file or folder.
        unreadable: folders that cannot be listed.
        repeated: paths to folders that another path leads to.
    """

    root: Path
    noun: str
    items: tuple[str, ...]
    beside: frozenset[str]
    others: Mapping[str, int]
    hidden: Mapping[str, int]
    unreadable: tuple[str, ...]
    repeated: tuple[str, ...]

    @property
    def num_hidden(self) -> int:
        """Number of hidden files."""
        return sum(self.hidden.values())

    def snapshot(self, where: str) -> Snapshot:
        """Return what a run shows and compares.

        Args:
            where: the folder, as it was given.
        """
        folders = len({item.rpartition("/")[0] for item in self.items})
        unreadable, repeated = (list(map(shown, n)) for n in (self.unreadable, self.repeated))
        left_out = ", ".join(
            f"{plural(count, noun)}{rest} ({what})"
            for count, noun, rest, what in (
                (sum(self.others.values()), "other file", "", by_suffix(self.others)),
                (self.num_hidden, "hidden file", "", some([shown(name) for name in self.hidden])),
                (len(unreadable), "folder", " UNREADABLE", some(unreadable)),
                (len(repeated), "path", " to folders that are read already", some(repeated)),
            )
            if count
        )
        found = f"{plural(len(self.items), self.noun)} in {plural(folders, 'folder')}"
        counts: dict[str, Any] = {
            f"{self.noun}s": len(self.items),
            "folders": folders,
            "others": dict(sorted(self.others.items())),
            "hidden": self.num_hidden,
            "unreadable_folders": unreadable,
            "repeated_paths": repeated,
        }
        return Snapshot(
            where=shown(where),
            found=found + (f"; {left_out}" if left_out else ""),
            counts=counts,
            files=frozenset(map(shown, (*self.items, *self.beside))),
        )


def list_files(
    root: Path, *, noun: str, suffixes: Sequence[str], beside: Sequence[str] = ()
) -> Listing:
    """List the files below a folder.

    Args:
        root: the folder.
        noun: what one of the items is.
        suffixes: of their names, in lower case.
        beside: suffixes of files that belong to the item of the same name.

    Raises:
        CorpusError: when the folder itself cannot be listed.
    """
    walk = _Walk(root)
    files = list(walk.files())
    if walk.failure is not None:
        raise CorpusError(
            f"{root.absolute()} cannot be listed: {walk.failure}; mend its permissions, or give "
            "another folder"
        )
    items = [file for file in files if _suffix(file) in suffixes]
    possible = {f"{stem(item)}{suffix}" for item in items for suffix in beside}
    found = possible.intersection(files)
    others = Counter(map(_suffix, set(files).difference(items, found)))
    others.update({_SPECIAL: walk.num_special} if walk.num_special else {})
    return Listing(
        root=root,
        noun=noun,
        items=tuple(sorted(items, key=_place)),
        beside=frozenset(found),
        others=others,
        hidden=dict(sorted(walk.hidden.items())),
        unreadable=tuple(sorted(walk.unreadable)),
        repeated=tuple(sorted(walk.repeated)),
    )


def stem(file: str) -> str:
    """Return a relative path without its suffix."""
    return PurePosixPath(file).with_suffix("").as_posix()


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def _place(file: str) -> bytes:
    """Return what decides the place of an item: a hash of its path, not the path."""
    return hashlib.sha256(os.fsencode(file)).digest()


@dataclass
class _Walk:
    """A walk over a folder: real folders first, then links to folders that were not met."""

    root: Path
    hidden: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    num_special: int = 0
    failure: str | None = None

    def files(self) -> Iterator[str]:
        """Yield the relative paths of all files that are not hidden."""
        met: set[tuple[int, int]] = set()
        folders, links = deque([""]), deque[str]()
        while folders or links:
            folder = folders.popleft() if folders else links.popleft()
            if (target := _identity(self.root / folder)) in met:
                self.repeated.append(folder)
                continue
            met.add(target)
            for name, entry in self._entries(folder):
                if is_hidden(entry.name):
                    self.hidden[name] = _num_files(entry)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif _leads_to_folder(entry):
                    links.append(name)
                elif entry.is_symlink() or entry.is_file():
                    yield name  # a link without its target is refused when it is read
                else:
                    self.num_special += 1

    def _entries(self, folder: str) -> list[tuple[str, os.DirEntry[str]]]:
        """Return relative path and entry of everything in a folder, in the order of the names."""
        try:
            with os.scandir(self.root / folder) as entries:
                found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if folder:
                self.unreadable.append(folder)
            else:
                self.failure = error.strerror or str(error)
            return []
        before = f"{folder}/" if folder else ""
        return [(before + entry.name, entry) for entry in found]


def _identity(folder: Path) -> tuple[int, int]:
    """Return device and inode of a folder; of one that cannot be asked, no other's."""
    try:
        status = folder.stat()
    except OSError:
        return (-1, hash(folder))
    return status.st_dev, status.st_ino


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a link to itself
        return False


def _num_files(entry: os.DirEntry[str]) -> int:
    """Count the files of a hidden entry: itself, or all below it."""
    if not entry.is_dir(follow_symlinks=False):
        return 1
    return sum(len(files) for _, _, files in os.walk(entry.path))
