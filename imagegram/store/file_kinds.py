"""Recognise what a file is by its first bytes, when it is not what its name says.

>>> kind_of(b"PK" + bytes([3, 4])).noun, kind_of(b"anything else")
('a zip archive', None)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Bytes that are enough to recognise every kind.
HEAD_BYTES: Final = 512


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of file that is often found under the name of another.

    Attributes:
        name: reason that files of a corpus are counted under: ``git_lfs_pointer`` ...
        noun: in a sentence.
        mend: what to do about it; ``{path}`` stands for the file.
        start: regular expression of its first bytes.
    """

    name: str
    noun: str
    mend: str
    start: re.Pattern[bytes]


def _kind(name: str, noun: str, start: bytes, mend: str) -> FileKind:
    return FileKind(name=name, noun=noun, start=re.compile(start), mend=mend)


POINTER: Final = _kind(
    "git_lfs_pointer",
    "a Git LFS pointer, not the file itself",
    rb"version https://git-lfs\.github\.com/spec/",
    "type git lfs pull in its repository",
)
PAGE: Final = _kind(
    "web_page",
    "a web page, most likely the error message of a server",
    rb"(?i:(?:\xef\xbb\xbf)?\s*(?:<!doctype html|<html|<head|<\?xml[^>]*>\s*<(?:error|html)))",
    "download it again, and look at it in a browser if that fails",
)
GZIP: Final = _kind("gzip", "gzip-compressed", rb"\x1f\x8b\x08", "type gunzip {path}")
KINDS: Final = (
    POINTER,
    PAGE,
    GZIP,
    _kind("zip", "a zip archive", rb"PK(?:\x03\x04|\x05\x06)", "type unzip {path} -d FOLDER"),
    _kind("bzip2", "compressed by bzip2", rb"BZh[1-9]1AY&SY", "type bunzip2 -k {path}"),
    _kind("xz", "compressed by xz", rb"\xfd7zXZ\0", "type xz -dk {path}"),
    _kind("zstd", "compressed by zstd", rb"\x28\xb5\x2f\xfd", "type zstd -d {path}"),
    _kind("7z", "a 7z archive", rb"7z\xbc\xaf\x27\x1c", "type 7z x {path}"),
    _kind("rar", "a rar archive", rb"Rar!\x1a\x07", "type unrar x {path}"),
)


def kind_of(head: bytes) -> FileKind | None:
    """Return the kind that the first bytes of a file show, or None for any other.

    Args:
        head: at least ``HEAD_BYTES`` of it, where it has as many.
    """
    return next((kind for kind in KINDS if kind.start.match(head)), None)


def head_of(path: Path) -> bytes:
    """Read the first bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)
