"""TarShard: one WebDataset tar, read with its own accounting of what is damaged.

Readers of WebDataset tars in the wild drop what follows a cut and split interleaved samples without
a word. Here the headers are scanned first, so that every sample of the tar is either a whole record
or a record with the reason of its failure, and every image can be read again by its offset.

Layout: members of one sample follow each other and share the name up to the first dot of its last
part (``00000/0001.jpg``, ``00000/0001.txt``); ``.jpg .jpeg .png .webp`` is the image (the first
one, if there are several), ``.txt`` its caption, ``.json`` its info.
"""

from __future__ import annotations

import json
import math
import mmap
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

from imagegram.corpora.file_shard import FileShard
from imagegram.errors import CorpusError
from imagegram.records import Locator, Record
from imagegram.store.hashing import changed_while_read, file_stamp

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
_ZEROS: Final = bytes(tarfile.BLOCKSIZE)
_NUMBERS: Final = re.compile(rb"[0-7 \0]*")
#: Times and owners: what writers of WebDataset tars put there, with a fraction of a second.
_PAX: Final = re.compile(rb"(\d+) (?:mtime|atime|ctime|uid|gid|uname|gname)=[^\n]*\n")


@dataclass(frozen=True, kw_only=True)
class TarShard(FileShard):
    """An ImageShard over a tar of samples."""

    def __len__(self) -> int:
        """Records, damaged ones included."""
        samples, damage = _scan(self.path, file_stamp(self.path))
        return len(samples) + (damage is not None)

    def __iter__(self) -> Iterator[Record]:
        """Records in the order of their first members, then one for a cut, if any.

        Failures: ``interleaved_keys`` (members of the sample do not follow each other: one record
        for all of them), ``duplicate_key`` (the key was there before: every sample but the first),
        ``no_image``, ``truncated_tar`` (the file ends before the archive does: what follows the cut
        is unknown), ``corrupt_tar`` (something else than a header where one should be).

        Raises:
            CorpusError: when the tar changes meanwhile.
        """
        stamp = file_stamp(self.path)
        samples, damage = _scan(self.path, stamp)
        with self.path.open("rb") as stream:
            for sample in samples:
                yield self._record(sample, stream)
        if damage is not None:
            yield damage
        if file_stamp(self.path) != stamp:
            raise changed_while_read(self.path)

    def read(self, locator: Locator) -> bytes:
        """The encoded bytes of one image.

        Raises:
            CorpusError: when the tar is gone or ends before the image does.
        """
        try:
            with self.path.open("rb") as stream:
                return self._bytes(locator, stream)
        except FileNotFoundError:
            raise CorpusError(
                f"{self.path} is gone, so {locator.member} cannot be shown; put the tar back"
            ) from None

    def _record(self, sample: _Sample, stream: BinaryIO) -> Record:
        by_suffix = dict(sample.members)  # suffixes of one sample are distinct
        image = next((at for suffix, at in sample.members if suffix in IMAGE_SUFFIXES), None)
        failure = sample.failure or (None if image else "no_image")
        if failure or image is None:
            return Record(key=sample.key, locator=image or sample.members[0][1], failure=failure)
        caption, info = by_suffix.get(".txt"), by_suffix.get(".json")
        return Record(
            key=sample.key,
            locator=image,
            data=self._bytes(image, stream),
            caption=None if caption is None else parse_caption(self._bytes(caption, stream)),
            info=None if info is None else parse_info(self._bytes(info, stream)),
        )

    def _bytes(self, locator: Locator, stream: BinaryIO) -> bytes:
        stream.seek(locator.offset)
        data = stream.read(locator.size)
        if len(data) != locator.size:
            raise changed_while_read(self.path)
        return data


def parse_caption(data: bytes) -> str:
    """Text beside an image; undecodable bytes become U+FFFD."""
    return data.decode("utf-8", errors="replace").strip()


def parse_info(data: bytes) -> dict[str, Any]:
    """JSON beside an image as an object; what is no object is kept under ``value`` or ``text``.

    >>> parse_info(b'{"a": NaN, "b": 1e999}'), parse_info(b"[1]"), parse_info(b"{")
    ({'a': None, 'b': None}, {'value': [1]}, {'text': '{'})
    """
    text = data.decode("utf-8", errors="replace")
    try:
        # NaN and infinities are no JSON: nobody else could read the metadata back.
        value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


@dataclass(frozen=True)
class _Sample:
    key: str
    members: tuple[tuple[str, Locator], ...]
    failure: str | None = None


@lru_cache(maxsize=2)
def _scan(path: Path, stamp: str) -> tuple[list[_Sample], Record | None]:
    """All samples by their headers alone, and the record of a cut; once for each stamp."""
    members, damage = _read_plain_headers(path) or _read_headers(path)
    runs: list[tuple[str, list[tuple[str, Locator]]]] = []
    for locator in members:
        key, suffix = split_name(locator.member)
        same = runs and runs[-1][0] == key and suffix not in dict(runs[-1][1])
        if same:
            runs[-1][1].append((suffix, locator))
        else:
            runs.append((key, [(suffix, locator)]))
    by_key: dict[str, list[list[tuple[str, Locator]]]] = {}
    for key, run in runs:
        by_key.setdefault(key, []).append(run)
    samples, seen = [], set()
    for key, run in runs:
        again = by_key[key]
        suffixes = [suffix for suffix, _ in chain.from_iterable(again)]
        if len(again) == 1:
            samples.append(_Sample(key, tuple(run)))
        elif len(set(suffixes)) == len(suffixes):  # parts of one sample, torn apart
            if key not in seen:
                samples.append(_Sample(key, tuple(chain(*again)), "interleaved_keys"))
        else:
            samples.append(_Sample(key, tuple(run), "duplicate_key" if key in seen else None))
        seen.add(key)
    return samples, damage


def split_name(member: str) -> tuple[str, str]:
    """Key and suffix of a member: the name is cut at the first dot of its last part.

    >>> split_name("a.b/0001.seg.PNG")
    ('a.b/0001', '.seg.png')
    """
    folder, slash, base = member.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return folder + slash + stem, (dot + suffix).lower()


def _read_plain_headers(path: Path) -> tuple[list[Locator], None] | None:
    """Members of a whole tar of ordinary files, three times faster than by tarfile; None otherwise.

    Ordinary are files and folders with short names, with nothing in a pax header that concerns
    their name or size. At the first thing that is not, tarfile reads all of it.
    """
    locators: list[Locator] = []
    size, at, announced = path.stat().st_size, 0, False
    if not size:
        return None
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as tar:
        while at + tarfile.BLOCKSIZE <= size:
            header = tar[at : at + tarfile.BLOCKSIZE]
            if header == _ZEROS:
                return None if announced else (locators, None)
            kind, length = header[156], _octal(header[124:136])
            checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
            # A prefix of the name would begin at byte 345.
            numbers = header[100:156] + header[329:345]
            if length is None or checksum != _octal(header[148:156]) or header[345]:
                return None
            if not _NUMBERS.fullmatch(numbers):
                return None
            at += tarfile.BLOCKSIZE
            if kind in b"0\0":
                name = header[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
                if name.endswith("/") or at + length > size:
                    return None
                if not name.rpartition("/")[2].startswith("."):
                    locators.append(Locator(member=name, offset=at, size=length))
            elif kind == ord("x"):
                if not all(map(_is_harmless, tar[at : at + length].splitlines(keepends=True))):
                    return None
            elif kind != ord("5") or length:
                return None
            announced = kind == ord("x")
            at += -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return None


def _is_harmless(line: bytes) -> bool:
    """Whether a record of a pax header is well formed and about times or owners."""
    match = _PAX.fullmatch(line)
    return match is not None and int(match[1]) == len(line)


def _octal(field: bytes) -> int | None:
    """A number of a tar header; None for one that is written in another way."""
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else None


def _read_headers(path: Path) -> tuple[list[Locator], Record | None]:
    """Members that lie whole inside the file, and the record of a cut or of garbage."""
    size = path.stat().st_size
    locators: list[Locator] = []

    def damage(reason: str, offset: int) -> Record:
        locator = Locator(member="", offset=offset, size=max(size - offset, 0))
        return Record(key=f"byte {offset}", locator=locator, failure=reason)

    try:
        with tarfile.open(path, "r:") as tar:
            while True:
                start = tar.offset
                try:
                    info = tar.next()
                except tarfile.ReadError:
                    return locators, damage("truncated_tar", min(start, size))
                if info is None:
                    break
                if not info.isdir() and not info.name.rpartition("/")[2].startswith("."):
                    # A link has no bytes of its own: it is refused later as an empty file.
                    length = info.size if info.isreg() else 0
                    locators.append(Locator(member=info.name, offset=info.offset_data, size=length))
                if info.offset_data + info.size > size:
                    locators = [at for at in locators if at.offset + at.size <= size]
                    return locators, damage("truncated_tar", info.offset)
            end = tar.offset
    except tarfile.ReadError:
        return [], damage("truncated_tar" if size < tarfile.BLOCKSIZE else "corrupt_tar", 0)
    with path.open("rb") as stream:
        stream.seek(end)
        block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:  # every archive ends with blocks of zeros
        return locators, damage("truncated_tar", end)
    return locators, damage("corrupt_tar", end) if any(block) else None
