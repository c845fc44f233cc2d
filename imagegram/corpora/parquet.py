"""ParquetShard: the rows of one Parquet file, an image or a text in each, read batch by batch.

Files of the Hugging Face ``datasets`` library keep an image as ``{bytes, path}`` and say in their
schema which columns are images and what the numbers of a label mean. Plain files work too: a column
of binary values, or of strings. What else a row holds becomes its metadata, if it is one number,
truth value or string. A row that cannot be read is a record with the reason of its failure.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from imagegram.corpora.file_shard import FileShard
from imagegram.corpora.names import shown
from imagegram.errors import CorpusError
from imagegram.records import Locator, Record
from imagegram.store.file_kinds import head_of, kind_of
from imagegram.store.hashing import changed_while_read, file_stamp

#: Rows that are decoded at a time.
_BATCH: Final = 64
#: Bytes of a column that are read at a time.
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ParquetShard(FileShard):
    """A shard over the rows of one file.

    Attributes:
        column: holds the item of each row.
        kind: of the items: ``image`` or ``text``.
        key: column that names a row; None: its number.
        label: column that becomes the ``label`` of the metadata; None: what is called so.
    """

    column: str
    kind: str = "image"
    key: str | None = None
    label: str | None = None

    def identity(self) -> str:
        """Return a sha256 over the content of the file and the choice of columns."""
        return self._of_columns(super().identity())

    def known_identity(self) -> str | None:
        """Return the identity, if it is remembered; the file is not read."""
        known = super().known_identity()
        return None if known is None else self._of_columns(known)

    def _of_columns(self, sha256: str) -> str:
        chosen = f"{sha256} {self.kind} {self.column}"
        if self.key is not None or self.label is not None:
            chosen += json.dumps([self.key, self.label])
        return hashlib.sha256(chosen.encode()).hexdigest()

    def __len__(self) -> int:
        """Return the number of rows, damaged ones included.

        Raises:
            CorpusError: when the file is cut or of another kind.
        """
        with open_parquet(self.path) as file:
            return int(file.metadata.num_rows)

    def __iter__(self) -> Iterator[Record]:
        """Yield one record a row.

        Failures: ``no_image`` or ``no_text`` (nothing stands there, or only the name of a file),
        ``corrupt_parquet`` (the row cannot be decoded, nor those behind it in its row group),
        ``duplicate_key`` (another row had the key before).

        Raises:
            CorpusError: when the file is cut or of another kind, lacks a column, or changes
                meanwhile.
        """
        stamp, row = file_stamp(self.path), 0
        seen: set[str] = set()
        with open_parquet(self.path) as file:
            columns = self._columns(file)
            names = label_names(file)
            for group in range(file.num_row_groups):
                end = row + file.metadata.row_group(group).num_rows
                for batch in _batches(file, group, columns):
                    for values in batch.to_pylist():
                        record = self._record(row, values, names)
                        if self.key is not None and record.failure is None:
                            if record.key in seen:
                                record = self._failed(row, "duplicate_key")
                            seen.add(record.key)
                        yield record
                        row += 1
                for lost in range(row, end):
                    yield self._failed(lost, "corrupt_parquet")
                row = end
        if file_stamp(self.path) != stamp:
            raise changed_while_read(self.path)

    def read(self, locator: Locator) -> bytes:
        """Return the encoded bytes of one image, or a text as UTF-8.

        Raises:
            CorpusError: when the file is gone, cut, or has no such row any more.
        """
        if not self.path.exists():
            raise CorpusError(
                f"{self.path} is gone, so row {locator.offset} cannot be shown; put the file back"
            )
        group, first = _group_of(self.path, file_stamp(self.path), locator.offset)
        number, place = divmod(locator.offset - first, _BATCH)
        items = _items(self.path, file_stamp(self.path), self.column, group, number)
        data = _data(items[place]) if place < len(items) else None
        if data is None:
            raise changed_while_read(self.path)
        return data

    def _columns(self, file: Any) -> list[str]:
        """Return the columns to read: the item, and what becomes metadata."""
        every = [column.name for column in file.schema_arrow]
        for name in filter(None, (self.column, self.key, self.label)):
            if name not in every:
                raise CorpusError(
                    f"{self.path} has no column {name}; all its columns: {', '.join(every)}"
                )
        return [self.column, *(name for name in scalars(file) if name != self.column)]

    def _record(self, row: int, values: dict[str, Any], names: dict[str, list[str]]) -> Record:
        item = values.pop(self.column)
        data = _data(item)
        if data is None:
            return self._failed(row, f"no_{self.kind}")
        key = values.pop(self.key, None) if self.key is not None else None
        info = {name: _plain(value, names.get(name)) for name, value in values.items()}
        if isinstance(item, dict) and item.get("path"):
            info.setdefault("path", item["path"])
        if self.label is not None:
            info["label"] = info.get(self.label)
        name = f"row {row}" if key is None else shown(str(key))
        return Record(key=name, locator=self._at(row, data), data=data, info=info or None)

    def _failed(self, row: int, failure: str) -> Record:
        return Record(key=f"row {row}", locator=self._at(row, b""), failure=failure)

    def _at(self, row: int, data: bytes) -> Locator:
        return Locator(member=self.path.name, offset=row, size=len(data))


def open_parquet(path: Path) -> Any:
    """Open a file; a context manager.

    Raises:
        CorpusError: when it is missing, cut or of another kind.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        kind = kind_of(head_of(path)) if path.is_file() else None
        if kind is not None:
            raise CorpusError(f"{path} is {kind.noun}; {kind.mend.format(path=path)}") from error
        raise CorpusError(
            f"{path} is no whole Parquet file: {str(error).partition(chr(10))[0]} Get it again "
            "(tools.download continues what was cut), or move it out of its folder"
        ) from error


def image_columns(file: Any) -> list[str]:
    """Return the columns of images: those that the schema calls so, else those that may be.

    Args:
        file: from :func:`open_parquet`.
    """
    import pyarrow as pa

    features = _features(file)
    named = [name for name, feature in features.items() if feature.get("_type") == "Image"]
    if named:
        return named
    fields = list(file.schema_arrow)
    structs = [field.name for field in fields if _is_image_struct(field.type)]
    binary = (pa.types.is_binary, pa.types.is_large_binary)
    return structs or [field.name for field in fields if any(test(field.type) for test in binary)]


def text_columns(file: Any) -> list[str]:
    """Return the columns of strings."""
    return [field.name for field in file.schema_arrow if _is_string(field.type)]


def scalars(file: Any) -> list[str]:
    """Return the columns of one number, truth value or string a row."""
    import pyarrow as pa

    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, _is_string)
    found = []
    for field in file.schema_arrow:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if any(test(kind) for test in tests):
            found.append(field.name)
    return found


def label_names(file: Any) -> dict[str, list[str]]:
    """Return what the numbers of each label column mean."""
    features = _features(file).items()
    return {
        name: [str(label) for label in feature["names"]]
        for name, feature in features
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }


def _features(file: Any) -> dict[str, dict[str, Any]]:
    """Return what the ``datasets`` library has written of the columns; {} of a plain file."""
    try:
        written = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        features = written["info"]["features"]
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _is_string(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_image_struct(kind: Any) -> bool:
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}


def _batches(file: Any, group: int, columns: list[str]) -> Iterator[Any]:
    """Yield the batches of a row group that can be decoded, up to the first that cannot."""
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=columns)
    except (pa.ArrowException, OSError):
        return


@lru_cache(maxsize=256)
def _group_of(path: Path, stamp: str, row: int) -> tuple[int, int]:
    """Return the row group of a row, and the first row of it.

    Raises:
        CorpusError: when there is no such row.
    """
    first = 0
    with open_parquet(path) as file:
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if row < first + size:
                return group, first
            first += size
    raise changed_while_read(path)


@lru_cache(maxsize=4)
def _items(path: Path, stamp: str, column: str, group: int, number: int) -> list[Any]:
    """Return the items of one batch of a row group; neighbours are asked for one after another."""
    with open_parquet(path) as file:
        for batch in islice(_batches(file, group, [column]), number, None):
            return list(batch.column(0).to_pylist())
    return []


def _data(item: Any) -> bytes | None:
    """Return the bytes of an item; None where there are none."""
    if isinstance(item, dict):
        item = item.get("bytes")
    if isinstance(item, str):
        return item.encode("utf-8", "surrogatepass")
    return item if isinstance(item, bytes) and item else None


def _plain(value: Any, names: list[str] | None) -> Any:
    """Return a value of a row as JSON can hold it; of a label its name, None where it has none."""
    if names is not None:
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
    return None if isinstance(value, float) and not math.isfinite(value) else value
