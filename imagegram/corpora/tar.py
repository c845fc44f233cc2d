"""TarShard: one WebDataset tar, read with its own accounting of what is damaged.

Readers of WebDataset tars in the wild drop what follows a cut and split interleaved samples without
a word. Here the headers are read first (``tar_headers.py``), so that every file of the tar belongs
to a whole record or to a record with the reason of its failure, and every image can be read again
by its offset, also where gzip compresses the tar.

Layout: members of one sample follow each other and share the name up to the first dot of its last
part (``00000/0001.jpg``, ``00000/0001.txt``); ``.jpg .jpeg .png .webp`` is the image (the first
one, if there are several), ``.txt`` its caption, ``.json`` its info.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import IO, Any

from imagegram.corpora.file_shard import FileShard
from imagegram.corpora.gzipped import open_plain_or_gzip
from imagegram.corpora.names import IMAGE_SUFFIXES, shown
from imagegram.corpora.tar_headers import Damage, read_headers
from imagegram.errors import CorpusError
from imagegram.records import Locator, Record
from imagegram.store.hashing import changed_while_read, file_stamp


@dataclass(frozen=True, kw_only=True)
class TarShard(FileShard):
    """A shard over a tar of samples."""

    def __len__(self) -> int:
        """Count records, damaged ones included."""
        scan = _scan(self.path, file_stamp(self.path))
        return len(scan.samples) + len(scan.hidden) + (scan.damage is not None)

    def __iter__(self) -> Iterator[Record]:
        """Yield records in the order of their first members, then hidden files, then a cut.

        Failures: ``interleaved_keys`` (members of the sample do not follow each other: one record
        for all of them), ``duplicate_key`` (the key was there before: every sample but the first),
        ``no_image``, ``hidden`` (one record a hidden file), ``truncated_tar`` (the file ends before
        the archive does: what follows the cut is unknown), ``corrupt_tar`` (something else than a
        header where one should be).

        Raises:
            CorpusError: when the tar changes meanwhile.
        """
        stamp = file_stamp(self.path)
        scan = _scan(self.path, stamp)
        with open_plain_or_gzip(self.path, stamp) as stream:
            for sample in scan.samples:
                yield self._record(sample, stream)
        for hidden in scan.hidden:
            yield Record(key=shown(hidden.member), locator=hidden, failure="hidden")
        if (damage := scan.damage) is not None:
            place = Locator(member="", offset=damage.offset, size=damage.size)
            yield Record(key=f"byte {damage.offset}", locator=place, failure=damage.reason)
        if file_stamp(self.path) != stamp:
            raise changed_while_read(self.path)

    def read(self, locator: Locator) -> bytes:
        """Return the encoded bytes of one image.

        Raises:
            CorpusError: when the tar is gone or ends before the image does.
        """
        try:
            with open_plain_or_gzip(self.path, file_stamp(self.path)) as stream:
                return self._bytes(locator, stream)
        except FileNotFoundError:
            raise CorpusError(
                f"{self.path} is gone, so {locator.member} cannot be shown; put the tar back"
            ) from None

    def _record(self, sample: _Sample, stream: IO[bytes]) -> Record:
        by_suffix = dict(sample.members)  # suffixes of one sample are distinct
        image = next((at for suffix, at in sample.members if suffix in IMAGE_SUFFIXES), None)
        failure = sample.failure or (None if image else "no_image")
        if failure or image is None:
            locator = image or sample.members[0][1]
            return Record(key=shown(sample.key), locator=locator, failure=failure)
        caption, info = by_suffix.get(".txt"), by_suffix.get(".json")
        return Record(
            key=shown(sample.key),
            locator=image,
            data=self._bytes(image, stream),
            caption=None if caption is None else parse_caption(self._bytes(caption, stream)),
            info=None if info is None else parse_info(self._bytes(info, stream)),
        )

    def _bytes(self, locator: Locator, stream: IO[bytes]) -> bytes:
        stream.seek(locator.offset)
        data = stream.read(locator.size)
        if len(data) != locator.size:
            raise changed_while_read(self.path)
        return data


def parse_caption(data: bytes) -> str:
    """Decode the text beside an image; undecodable bytes become U+FFFD."""
    return data.decode("utf-8", errors="replace").strip()


def parse_info(data: bytes) -> dict[str, Any]:
    """Parse the JSON beside an image; what is no object is kept under ``value`` or ``text``.

    >>> parse_info(b'{"a": NaN, "b": 1e999}'), parse_info(b"[1]"), parse_info(b"{")
    ({'a': None, 'b': None}, {'value': [1]}, {'text': '{'})
    """
    text = data.decode("utf-8", errors="replace")
    try:
        # NaN and infinities are no JSON: other readers could not read the metadata back.
        value = json.loads(text, parse_constant=lambda _: None, parse_float=finite)
        value = writable(value) if "\\u" in text else value
    except (ValueError, RecursionError):
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}


def writable(value: Any) -> Any:
    r"""Return a JSON value in which halves of characters of UTF-16 are replaced by U+FFFD.

    JSON can write them (``"\ud83d"``), but no file, page or terminal can hold them.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [writable(item) for item in value]
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    return value


def finite(text: str) -> float | None:
    """Read a number of JSON; None for one beyond all numbers that JSON can hold."""
    return number if math.isfinite(number := float(text)) else None


@dataclass(frozen=True)
class _Sample:
    key: str
    members: tuple[tuple[str, Locator], ...]
    failure: str | None = None


@dataclass(frozen=True)
class _Scan:
    samples: list[_Sample]
    hidden: list[Locator]
    damage: Damage | None


@lru_cache(maxsize=2)
def _scan(path: Path, stamp: str) -> _Scan:
    """Group the members of a tar to samples by their headers alone; once for each stamp."""
    headers = read_headers(path, stamp)
    runs: list[tuple[str, list[tuple[str, Locator]]]] = []
    for locator in headers.members:
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
    return _Scan(samples, headers.hidden, headers.damage)


def split_name(member: str) -> tuple[str, str]:
    """Return key and suffix of a member: the name is cut at the first dot of its last part.

    >>> split_name("a.b/0001.seg.PNG")
    ('a.b/0001', '.seg.png')
    """
    folder, slash, base = member.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return folder + slash + stem, (dot + suffix).lower()
