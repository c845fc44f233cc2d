"""JsonlShard: documents of text as JSON lines, read with its own accounting of what is damaged.

One object a line, its text under ``text``; ``key`` or ``id`` names it, else the number of its line.
What else the object holds becomes its metadata. Every line is a record or a record with the reason
of its failure, and every document can be read again by the offset of its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagegram.corpora.file_shard import FileShard
from imagegram.corpora.names import shown
from imagegram.corpora.tar import writable
from imagegram.errors import CorpusError
from imagegram.records import Locator, Record
from imagegram.store.file_kinds import head_of, kind_of
from imagegram.store.hashing import changed_while_read, file_stamp


@dataclass(frozen=True, kw_only=True)
class JsonlShard(FileShard):
    """A shard over the lines of one file."""

    def __len__(self) -> int:
        """Count lines, damaged ones included.

        Raises:
            CorpusError: when the file is of another kind.
        """
        check_lines(self.path)
        with self.path.open("rb") as lines:
            return sum(1 for _ in lines)

    def __iter__(self) -> Iterator[Record]:
        """Yield one record a line.

        Failures: ``malformed_json``, ``no_text``, ``duplicate_key``, ``truncated_lines`` (the file
        ends inside a line: how many followed is unknown).

        Raises:
            CorpusError: when the file is of another kind, or changes meanwhile.
        """
        check_lines(self.path)
        stamp = file_stamp(self.path)
        offset, seen = 0, set()
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                locator = Locator(member=self.path.name, offset=offset, size=len(line))
                record = _record(line, number, locator)
                if record.failure is None and record.key in seen:
                    record = Record(key=record.key, locator=locator, failure="duplicate_key")
                seen.add(record.key)
                yield record
                offset += len(line)
        if file_stamp(self.path) != stamp:
            raise changed_while_read(self.path)

    def read(self, locator: Locator) -> bytes:
        """Return the text of one document, as UTF-8.

        Raises:
            CorpusError: when the file is gone, or another line stands there.
        """
        try:
            with self.path.open("rb") as stream:
                stream.seek(locator.offset)
                record = _record(stream.read(locator.size), 0, locator)
        except FileNotFoundError:
            raise CorpusError(
                f"{self.path} is gone, so its documents cannot be shown; put the file back"
            ) from None
        if record.failure is not None:
            raise changed_while_read(self.path)
        return record.data


def check_lines(path: Path) -> None:
    """Refuse a file that is something else under the name of JSON lines.

    Raises:
        CorpusError: naming what it is, and what to do about it.
    """
    if (kind := kind_of(head_of(path))) is not None:
        raise CorpusError(f"{path} is {kind.noun}; {kind.mend.format(path=path)}")


def _record(line: bytes, number: int, locator: Locator) -> Record:
    nameless = f"line {number + 1}"
    try:
        values = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        failure = "malformed_json" if line.endswith(b"\n") else "truncated_lines"
        return Record(key=nameless, locator=locator, failure=failure)
    text = values.get("text") if isinstance(values, dict) else None
    if not isinstance(text, str):
        return Record(key=nameless, locator=locator, failure="no_text")
    key = shown(str(values.get("key", values.get("id", nameless))))
    info: dict[str, Any] = {
        name: value for name, value in values.items() if name not in ("text", "key", "id")
    }
    if b"\\u" in line:
        info = writable(info)
    # Half a character of UTF-16, which JSON can write, is refused when the text is read.
    data = text.encode("utf-8", "surrogatepass")
    return Record(key=key, locator=locator, data=data, info=info or None)
