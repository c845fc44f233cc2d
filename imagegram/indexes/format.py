"""One index shard on disk: the infini-gram / fast-gram layout, opened and checked.

A folder holds, for shard number N (ours is always 0), all little-endian:

===============  ==============================================================================
``tokenized.N``  the token stream, uint16; 65535 before each document (ours: also after the last)
``table.N``      the suffix array: one byte position in ``tokenized.N`` a token, in memcmp order
``offset.N``     uint64 byte position of the separator before each document
``metadata.N``   optional: one JSON object a line, one line a document
``metaoff.N``    optional: uint64 byte position of each line
===============  ==============================================================================

Everything is memory-mapped; opening reads a few bytes and compares sizes, so that a cut file is
refused at once. ``indexes/verify.py`` reads the rest.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import IndexFormatError, UnsupportedError
from imagegram.indexes.stream import DocumentStream
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Tokens
from imagegram.store.manifest import MANIFEST, Artifact, removal

MAX_POINTER_WIDTH: Final = 8


def rebuild(folder: Path) -> str:
    """Return what to do about a damaged index: an artifact is made again, others are not ours."""
    if (folder / MANIFEST).exists():
        return f"remove it with: {removal(folder)} and repeat the run that made it"
    return "no run here made it, so repeat the build or the import that wrote it"


def pointer_width(num_tokens: int) -> int:
    """Return the bytes of one pointer: the fewest that hold the largest byte position.

    >>> [pointer_width(n) for n in (0, 1, 128, 129, 32768, 32769)]
    [1, 1, 1, 2, 2, 3]
    """
    largest = max(num_tokens - 1, 0) * TOKEN_BYTES
    return max((largest.bit_length() + 7) // 8, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexShard(DocumentStream):
    """Memory maps of one shard. Make it with :meth:`open`, which checks what it opens.

    Attributes:
        path: the folder.
        number: N of ``table.N`` in the folder; 0 for everything that imagegram builds.
        artifact: artifact of the store, if the folder is one.
    """

    path: Path
    number: int = 0
    artifact: Artifact | None = None

    @classmethod
    def open(cls, path: Path, *, number: int = 0, artifact: Artifact | None = None) -> IndexShard:
        """Open a folder and compare sizes, counts and outer separators.

        Raises:
            IndexFormatError: naming the file, what was found, what was expected, what to do.
        """
        shard = cls(path=Path(path), number=number, artifact=artifact)
        check_files(shard)
        return shard

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps pickle as whole arrays; another process maps the files again.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def name(self) -> str:
        """Folder and, if it holds several shards, number of the shard."""
        return f"{self.path}" + (f" (shard {self.number})" if self.number else "")

    def identity(self) -> str:
        """Return ``kind/digest`` of the artifact.

        Raises:
            UnsupportedError: for a folder that is not an artifact of the store.
        """
        if self.artifact is None:
            raise UnsupportedError(
                f"{self.path} is an index of other tools, not an artifact, so no stage can depend "
                "on it; query it with open_index or python -m imagegram.tools.query"
            )
        return self.artifact.identity()

    def file(self, role: str) -> Path:
        """Return the path of ``tokenized``, ``table``, ``offset``, ``metadata`` or ``metaoff``."""
        return self.path / f"{role}.{self.number}"

    @cached_property
    def tokens(self) -> Tokens:
        """(num_tokens,) the whole stream, separators included."""
        return map_file(self.file("tokenized"), np.dtype("<u2"))

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """(num_tokens * pointer_width,) bytes of the suffix array."""
        return map_file(self.file("table"), np.dtype("u1"))

    @cached_property
    def offsets(self) -> NDArray[np.uint64]:
        """(num_documents,) byte position of the separator before each document."""
        return map_file(self.file("offset"), np.dtype("<u8"))

    @property
    def pointer_width(self) -> int:
        """Bytes of one pointer of the table."""
        return int(self.table.size) // self.num_tokens if self.num_tokens else 1

    def metadata(self, document: int) -> dict[str, Any]:
        """Return the metadata of one document; empty when the index keeps no metadata.

        Raises:
            TokenError: when there is no such document.
            IndexFormatError: when the line does not parse.
        """
        self.check_document(document)
        path, positions_path = self.file("metadata"), self.file("metaoff")
        if not path.exists():
            return {}
        positions = map_file(positions_path, np.dtype("<u8"))
        if positions.size != self.num_documents:
            raise IndexFormatError(
                f"{positions_path} has {positions.size} entries for {self.num_documents} "
                f"documents; {rebuild(self.path)}"
            )
        with path.open("rb") as stream:
            stream.seek(int(positions[document]))
            line = stream.readline()
        try:
            parsed = json.loads(line)
        except ValueError as error:
            raise IndexFormatError(
                f"{path}: line of document {document} is not JSON ({error}); {rebuild(self.path)}"
            ) from error
        return dict(parsed)


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedShard(IndexShard):
    """A shard in a plan, found or still to be made: its counts are known, no file is read.

    Attributes:
        facts: facts of its artifact.
        length: number of tokens of every document; None: they differ.
    """

    facts: Mapping[str, Any]
    length: int | None

    @classmethod
    def of(cls, artifact: Artifact, *, length: int | None) -> ExpectedShard:
        """Return the stand-in for the shard of an artifact."""
        return cls(path=artifact.path, artifact=artifact, facts=artifact.facts, length=length)

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return int(self.facts["num_documents"])

    @property
    def num_tokens(self) -> int:
        """Tokens of the stream, separators included."""
        return int(self.facts["num_tokens"])

    @property
    def document_length(self) -> int | None:
        """Number of tokens of every document; None: they differ."""
        return self.length


def open_shards(path: Path) -> tuple[IndexShard, ...]:
    """Open every shard of one folder, by number (infini-gram keeps several in one folder).

    Raises:
        IndexFormatError: when the folder holds no shard, or a broken one.
    """
    numbers = sorted(
        int(file.suffix[1:])
        for file in Path(path).glob("tokenized.*")
        if file.suffix[1:].isdecimal()
    )
    if not numbers:
        raise IndexFormatError(
            f"{path} is not an index folder: it has no tokenized.0. Give a folder with "
            "tokenized.0, table.0 and offset.0, or an index artifact (python -m "
            "imagegram.tools.ls lists them); NNNNN.bin files are turned into an index by: "
            "python -m imagegram.tools.convert import"
        )
    return tuple(IndexShard.open(Path(path), number=number) for number in numbers)


def read_pointers(shard: IndexShard, start: int, stop: int) -> NDArray[np.int64]:
    """Read the stream positions (in tokens) of the suffixes of ranks ``start ... stop - 1``."""
    width = shard.pointer_width
    packed = np.asarray(shard.table[start * width : stop * width]).reshape(-1, width)
    wide = np.zeros((len(packed), MAX_POINTER_WIDTH), dtype=np.uint8)
    wide[:, :width] = packed
    return wide.view("<i8").ravel() // TOKEN_BYTES


def map_file(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a file read-only; return an empty array for an empty file, which cannot be mapped.

    Raises:
        IndexFormatError: when it is missing or holds a broken last entry.
    """
    size = _size(path)
    if size % dtype.itemsize:
        raise IndexFormatError(
            f"{path} has {size} bytes, not a multiple of {dtype.itemsize}: it was cut; "
            f"{rebuild(path.parent)}"
        )
    return np.memmap(path, dtype=dtype, mode="r") if size else np.empty(0, dtype=dtype)


def read_at_random(maps: Iterable[NDArray[Any]]) -> None:
    """Ask the system to read single pages of mapped files, not what lies around them too.

    It reads up to megabytes around a page that is missing, since files are mostly read in order.
    Of an index that does not fit in memory nearly all of that is thrown away unread, and with it
    what other reads have brought.
    """
    for array in maps:
        if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            array.base.madvise(mmap.MADV_RANDOM)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise IndexFormatError(
            f"{path} is missing: the folder is no whole index (tokenized, table and offset are "
            f"needed); {rebuild(path.parent)}"
        ) from None


def check_files(shard: IndexShard) -> None:
    """Check the sizes and separators of the files of a shard; reads a few bytes."""
    _refuse_other_ids(shard)
    table_bytes, num_tokens = _size(shard.file("table")), shard.num_tokens
    least = pointer_width(num_tokens)
    width = table_bytes // max(num_tokens, 1)
    if table_bytes != num_tokens * width or (num_tokens and not least <= width <= 8):
        raise IndexFormatError(
            f"{shard.file('table')} has {table_bytes} bytes, but the {num_tokens} tokens beside it "
            f"need {num_tokens} pointers of {least} bytes = {num_tokens * least} bytes: one of the "
            f"two files was cut or is of another build; {rebuild(shard.path)}"
        )
    offsets = shard.offsets
    if not offsets.size:
        if num_tokens > 1 or (num_tokens and int(shard.tokens[0]) != EOS_TOKEN_ID):
            raise IndexFormatError(
                f"{shard.file('offset')} names no document, but the stream has {num_tokens} "
                f"tokens; {rebuild(shard.path)}"
            )
        return
    for number in (0, offsets.size - 1):
        byte = int(offsets[number])
        inside = byte % TOKEN_BYTES == 0 and byte < num_tokens * TOKEN_BYTES
        if not inside or int(shard.tokens[byte // TOKEN_BYTES]) != EOS_TOKEN_ID:
            raise IndexFormatError(
                f"{shard.file('offset')}: entry {number} of {offsets.size} is {byte}, which is no "
                f"byte position of a separator ({EOS_TOKEN_ID}) in {num_tokens} tokens. Streams "
                "with the separator after each document are converted by: "
                "python -m imagegram.tools.convert import"
            )
    last = shard.document(offsets.size - 1)
    if (last == EOS_TOKEN_ID).any():
        raise IndexFormatError(
            f"{shard.file('offset')}: the last of {offsets.size} entries, {int(offsets[-1])}, "
            f"begins a document of {last.size} tokens that holds separators: the entries are not "
            f"the byte positions of all documents; {rebuild(shard.path)}"
        )
    if int(offsets[0]) != 0:
        raise IndexFormatError(
            f"{shard.file('offset')}: the first document starts at byte {int(offsets[0])}, not at "
            f"0; {rebuild(shard.path)}"
        )


def _refuse_other_ids(shard: IndexShard) -> None:
    """Refuse ids of 1 or 4 bytes, which other tools write too; the files are whole, only not ours.

    Raises:
        UnsupportedError: saying how such an index is built with ids of 2 bytes.
    """
    stream_bytes, table_bytes = _size(shard.file("tokenized")), _size(shard.file("table"))
    with shard.file("tokenized").open("rb") as stream:
        begin = stream.read(4)
    for id_bytes, looks_so in (
        (4, begin == b"\xff" * 4),  # the separator of these ids
        (1, begin[:1] == b"\xff" != begin[1:2]),
    ):
        count, remainder = divmod(stream_bytes, id_bytes)
        width = max(((stream_bytes - id_bytes).bit_length() + 7) // 8, 1)
        if looks_so and not remainder and table_bytes == count * width:
            raise UnsupportedError(
                f"{shard.path} is an index of {id_bytes}-byte ids ({count} of them, pointers of "
                f"{width} bytes), and imagegram reads ids of {TOKEN_BYTES} bytes; build it anew, "
                "into another folder, from ids below 65,535 as uint16 (infini-gram: --token_dtype "
                "u16)"
            )
