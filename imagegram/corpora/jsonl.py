"""JsonlShard: documents of text as JSON lines, read with its own accounting of what is damaged.

One object a line, its text under ``text``; ``key`` or ``id`` names it, else the number of its line.
What else the object holds becomes its metadata. Every line is a record or a record with the reason
of its failure, and every document can be read again by the offset of its line, also where gzip
compresses the file.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from imagegram.corpora.file_shard import FileShard
from imagegram.corpora.gzipped import GzipStream, gzip_index, open_plain_or_gzip
from imagegram.corpora.names import shown
from imagegram.corpora.tar import finite, writable
from imagegram.errors import CorpusError
from imagegram.records import Locator, Record
from imagegram.store.file_kinds import GZIP, head_of, kind_of
from imagegram.store.hashing import changed_while_read, file_stamp
from imagegram.texts.decode import MAX_BYTES

#: Fields that a line is named by, where none is chosen.
KEYS: Final = ("key", "id")
_BUFFER_BYTES: Final = 1 << 18
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, kw_only=True)
class JsonlShard(FileShard):
    """A shard over the lines of one file, plain or compressed by gzip.

    Attributes:
        text: field of the text.
        key: field that names a document; None: ``key`` or ``id``.
        label: field that becomes the ``label`` of the metadata; None: what is called so.
    """

    text: str = "text"
    key: str | None = None
    label: str | None = None

    def identity(self) -> str:
        """Return a sha256 over the content of the file and the choice of fields."""
        return self._of_fields(super().identity())

    def known_identity(self) -> str | None:
        """Return the identity, if it is remembered; the file is not read."""
        known = super().known_identity()
        return None if known is None else self._of_fields(known)

    def _of_fields(self, sha256: str) -> str:
        fields = (self.text, self.key, self.label)
        if fields == ("text", None, None):
            return sha256
        return hashlib.sha256(json.dumps([sha256, *fields]).encode()).hexdigest()

    def __len__(self) -> int:
        """Count records, damaged ones included.

        Raises:
            CorpusError: when the file is of another kind.
        """
        check_lines(self.path)
        return sum(1 for _ in self._lines(file_stamp(self.path)))

    def __iter__(self) -> Iterator[Record]:
        """Yield one record a line.

        Failures: ``malformed_json``, ``not_utf8``, ``no_text``, ``duplicate_key``, ``too_large``;
        ``truncated_lines`` (the file ends inside a line) and ``corrupt_gzip`` (what is compressed
        is damaged), behind which an unknown number of lines is lost.

        Raises:
            CorpusError: when the file is of another kind, or changes meanwhile.
        """
        check_lines(self.path)
        stamp = file_stamp(self.path)
        seen = set()
        for number, (locator, line) in enumerate(self._lines(stamp)):
            if isinstance(line, bytes):
                record = self._record(line, number, locator)
            else:
                record = Record(key=f"line {number + 1}", locator=locator, failure=line)
            if record.failure is None and record.key in seen:
                record = Record(key=record.key, locator=locator, failure="duplicate_key")
            seen.add(record.key)
            yield record
        if file_stamp(self.path) != stamp:
            raise changed_while_read(self.path)

    def _lines(self, stamp: str) -> Iterator[tuple[Locator, bytes | str]]:
        """Yield place and bytes of every line, or the reason why it has none; memory is bounded."""
        with open_plain_or_gzip(self.path, stamp) as stream:
            damage = None
            if isinstance(stream, GzipStream):
                reasons = {None: None, "truncated": "truncated_lines", "corrupt": "corrupt_gzip"}
                damage = reasons[gzip_index(self.path, stamp).failure]
                stream = io.BufferedReader(stream, _BUFFER_BYTES)
            offset = 0
            while line := stream.readline(MAX_BYTES):
                size, end = len(line), line
                while not end.endswith(b"\n") and (end := stream.readline(MAX_BYTES)):
                    size += len(end)
                locator = Locator(member=self.path.name, offset=offset, size=size)
                offset += size
                if damage is not None and not end.endswith(b"\n"):
                    offset -= size
                    break
                yield locator, line if size == len(line) else "too_large"
            if damage is not None:
                yield Locator(member=self.path.name, offset=offset, size=0), damage

    def read(self, locator: Locator) -> bytes:
        """Return the text of one document, as UTF-8.

        Raises:
            CorpusError: when the file is gone, or another line stands there.
        """
        try:
            with open_plain_or_gzip(self.path, file_stamp(self.path)) as stream:
                record = self._record(_bytes_at(stream, locator), 0, locator)
        except FileNotFoundError:
            raise CorpusError(
                f"{self.path} is gone, so its documents cannot be shown; put the file back"
            ) from None
        if record.failure is not None:
            raise changed_while_read(self.path)
        return record.data

    def _record(self, line: bytes, number: int, locator: Locator) -> Record:
        nameless = f"line {number + 1}"
        try:
            # JSON's own: halves of characters are refused when the text is read.
            written = line.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
            values = json.loads(written, parse_constant=lambda _: None, parse_float=finite)
        except (ValueError, RecursionError) as error:
            failure = "not_utf8" if isinstance(error, UnicodeDecodeError) else "malformed_json"
            if not line.endswith(b"\n"):
                failure = "truncated_lines"
            return Record(key=nameless, locator=locator, failure=failure)
        text = values.get(self.text) if isinstance(values, dict) else None
        if not isinstance(text, str):
            return Record(key=nameless, locator=locator, failure="no_text")
        keys = KEYS if self.key is None else (self.key,)
        key = next((values[name] for name in keys if name in values), nameless)
        info: dict[str, Any] = {
            name: value for name, value in values.items() if name not in (self.text, *keys)
        }
        if self.label is not None:
            info["label"] = values.get(self.label)
        if b"\\u" in line:
            info = writable(info)
        data = text.encode("utf-8", "surrogatepass")
        return Record(key=shown(str(key)), locator=locator, data=data, info=info or None)


def _bytes_at(stream: IO[bytes], locator: Locator) -> bytes:
    stream.seek(locator.offset)
    return stream.read(locator.size)


def check_lines(path: Path) -> None:
    """Refuse a file that is something else under the name of JSON lines.

    Raises:
        CorpusError: naming what it is, and what to do about it.
    """
    head = head_of(path)
    kind = kind_of(head)
    if kind is GZIP:
        return
    if kind is not None:
        raise CorpusError(f"{path} is {kind.noun}; {kind.mend.format(path=path)}")
    if head.startswith(_UTF16):
        raise CorpusError(f"{path} is UTF-16; type iconv -f UTF-16 -t UTF-8 {path} > NEW.jsonl")
    if head.startswith(b"PAR1"):
        raise CorpusError(f"{path} is a Parquet file; give it a name that ends in .parquet")
    if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise CorpusError(
            f"{path} is one JSON array, not an object a line; type jq -c '.[]' {path} > NEW.jsonl"
        )
