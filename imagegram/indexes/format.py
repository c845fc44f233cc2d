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
refused at once. :func:`verify` reads the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import IndexFormatError, TokenError, UnsupportedError
from imagegram.protocols import EOS_TOKEN_ID, Tokens
from imagegram.store.artifacts import Artifact

TOKEN_BYTES: Final = 2
OFFSET_BYTES: Final = 8
MAX_POINTER_WIDTH: Final = 8
_VERIFY_BLOCK: Final = 1 << 20
_REBUILD: Final = (
    "build it again: remove the folder and repeat the run that made it, or for an index of other "
    "tools repeat their build"
)


def pointer_width(num_tokens: int) -> int:
    """Bytes of one pointer: the fewest that hold the largest byte position of a token.

    >>> [pointer_width(n) for n in (0, 1, 128, 129, 32768, 32769)]
    [1, 1, 1, 2, 2, 3]
    """
    largest = max(num_tokens - 1, 0) * TOKEN_BYTES
    return max((largest.bit_length() + 7) // 8, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexShard:
    """Memory maps of one shard. Make it with :meth:`open`, which checks what it opens.

    Attributes:
        path: the folder.
        number: which ``table.N`` of the folder; 0 for everything that imagegram builds.
        artifact: of the store, when the folder is one.
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
        _check(shard)
        return shard

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps pickle as whole arrays; another process maps the files again.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def identity(self) -> str:
        """``kind/digest`` of the artifact.

        Raises:
            UnsupportedError: for a folder that is no artifact of the store.
        """
        if self.artifact is None:
            raise UnsupportedError(
                f"{self.path} is an index of other tools, not an artifact, so no stage can depend "
                "on it; query it with Index.open or python -m imagegram.tools.query"
            )
        return self.artifact.identity()

    def file(self, role: str) -> Path:
        """Path of ``tokenized``, ``table``, ``offset``, ``metadata`` or ``metaoff``."""
        return self.path / f"{role}.{self.number}"

    @cached_property
    def tokens(self) -> Tokens:
        """(num_tokens,) the whole stream, separators included."""
        return _memmap(self.file("tokenized"), np.dtype("<u2"))

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """(num_tokens * pointer_width,) bytes of the suffix array."""
        return _memmap(self.file("table"), np.dtype("u1"))

    @cached_property
    def offsets(self) -> NDArray[np.uint64]:
        """(num_documents,) byte position of the separator before each document."""
        return _memmap(self.file("offset"), np.dtype("<u8"))

    @property
    def num_tokens(self) -> int:
        """Tokens of the stream, separators included."""
        return int(self.tokens.size)

    @property
    def num_documents(self) -> int:
        """Documents of the shard."""
        return int(self.offsets.size)

    @property
    def pointer_width(self) -> int:
        """Bytes of one pointer of the table."""
        return int(self.table.size) // max(self.num_tokens, 1)

    @cached_property
    def has_final_separator(self) -> bool:
        """Whether a separator follows the last document (ours) or not (other tools)."""
        if not self.num_tokens or int(self.tokens[-1]) != EOS_TOKEN_ID:
            return False
        return not self.num_documents or self._start(self.num_documents - 1) < self.num_tokens

    @cached_property
    def document_length(self) -> int | None:
        """Tokens of every document when all are equally long, else None."""
        if not self.num_documents:
            return None
        starts = np.asarray(self.offsets, dtype=np.int64) // TOKEN_BYTES
        end = self.num_tokens + (0 if self.has_final_separator else 1)
        strides = np.diff(starts, append=end - 1)
        return int(strides[0]) - 1 if (strides == strides[0]).all() else None

    def _start(self, document: int) -> int:
        return int(self.offsets[document]) // TOKEN_BYTES + 1

    def document(self, document: int) -> Tokens:
        """(T,) token ids of one document, without separators; a view of the memory map.

        Raises:
            TokenError: when there is no such document.
        """
        self._check_document(document)
        last = document == self.num_documents - 1
        if last:
            end = self.num_tokens - int(self.has_final_separator)
        else:
            end = self._start(document + 1) - 1
        return self.tokens[self._start(document) : end]

    def metadata(self, document: int) -> dict[str, Any]:
        """What ``metadata.N`` says of one document; empty when the index keeps no metadata.

        Raises:
            TokenError: when there is no such document.
            IndexFormatError: when the line does not parse.
        """
        self._check_document(document)
        path, positions_path = self.file("metadata"), self.file("metaoff")
        if not path.exists():
            return {}
        positions = _memmap(positions_path, np.dtype("<u8"))
        if positions.size != self.num_documents:
            raise IndexFormatError(
                f"{positions_path} has {positions.size} entries for {self.num_documents} "
                f"documents; {_REBUILD}"
            )
        with path.open("rb") as stream:
            stream.seek(int(positions[document]))
            line = stream.readline()
        try:
            parsed = json.loads(line)
        except ValueError as error:
            raise IndexFormatError(
                f"{path}: line of document {document} is not JSON ({error}); {_REBUILD}"
            ) from error
        return dict(parsed)

    def locate(self, position: int) -> tuple[int, int]:
        """Document and position inside it of one token of the stream.

        A separator has position -1 of the document that follows; the final separator is the
        last document's position ``len(document)``.
        """
        byte = np.uint64(position * TOKEN_BYTES)
        document = int(np.searchsorted(self.offsets, byte, side="right")) - 1
        return document, position - self._start(document) if document >= 0 else -1

    def _check_document(self, document: int) -> None:
        if not 0 <= document < self.num_documents:
            raise TokenError(
                f"{self.path} has no document {document}; allowed: 0 ... {self.num_documents - 1}"
            )


def open_shards(path: Path) -> tuple[IndexShard, ...]:
    """Every shard of one folder, by number (infini-gram keeps several in one folder).

    Raises:
        IndexFormatError: when the folder holds none, or one is broken.
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
    """Stream positions (in tokens) of the suffixes of ranks ``start ... stop - 1``."""
    width = shard.pointer_width
    packed = np.asarray(shard.table[start * width : stop * width]).reshape(-1, width)
    wide = np.zeros((len(packed), MAX_POINTER_WIDTH), dtype=np.uint8)
    wide[:, :width] = packed
    return wide.view("<i8").ravel() // TOKEN_BYTES


def verify(shard: IndexShard, *, deep: bool = False, samples: int = 100_000) -> None:
    """Check what opening does not: separators, table entries and their order.

    Args:
        shard: an open shard.
        deep: check every entry of the table, and that it is a permutation; else ``samples``
            neighbouring pairs spread evenly over the table.
        samples: how many pairs a shallow check compares.

    Raises:
        IndexFormatError: naming the first entry that is wrong.
    """
    _check(shard)
    positions = np.asarray(shard.offsets) // np.uint64(TOKEN_BYTES)
    for document in np.flatnonzero(np.asarray(shard.tokens[positions]) != EOS_TOKEN_ID)[:1]:
        raise IndexFormatError(
            f"{shard.file('offset')}: entry {document} points at byte {shard.offsets[document]}, "
            f"which holds no separator; {_REBUILD}"
        )
    seen = np.zeros(shard.num_tokens if deep else 0, dtype=bool)
    for ranks in _rank_blocks(shard.num_tokens, deep=deep, samples=samples):
        pointers = read_pointers(shard, ranks.start, ranks.stop)
        if pointers.size and not 0 <= pointers.min() <= pointers.max() < shard.num_tokens:
            raise IndexFormatError(
                f"{shard.file('table')}: ranks {ranks.start} ... {ranks.stop - 1} hold a pointer "
                f"outside of the {shard.num_tokens} tokens; {_REBUILD}"
            )
        _check_order(shard, ranks.start, pointers)
        if deep:
            seen[pointers] = True
    if not seen.all():
        raise IndexFormatError(
            f"{shard.file('table')} is no permutation: token {int(np.argmin(seen))} of the stream "
            f"is missing from it; {_REBUILD}"
        )


def _rank_blocks(num_tokens: int, *, deep: bool, samples: int) -> Iterator[range]:
    """Ranges of ranks to compare; they overlap by one so that no pair is left out."""
    if deep or num_tokens <= samples:
        for start in range(0, num_tokens, _VERIFY_BLOCK):
            yield range(start, min(start + _VERIFY_BLOCK + 1, num_tokens))
        return
    for start in np.linspace(0, num_tokens - 2, samples, dtype=np.int64).tolist():
        yield range(start, start + 2)


def _check_order(shard: IndexShard, first_rank: int, pointers: NDArray[np.int64]) -> None:
    """Compare neighbours: vectorised over a window that doubles while they are still equal."""
    left, right = pointers[:-1], pointers[1:]
    open_pairs, depth, window = np.arange(len(left)), 0, 8
    while open_pairs.size:
        columns = depth + np.arange(window)
        keys_left = _keys(shard, left[open_pairs, None] + columns)
        keys_right = _keys(shard, right[open_pairs, None] + columns)
        differs = keys_left != keys_right
        first = differs.argmax(axis=1)
        rows = np.arange(len(open_pairs))
        decided = differs[rows, first]
        wrong = decided & (keys_left[rows, first] > keys_right[rows, first])
        for pair in open_pairs[wrong][:1]:
            rank = first_rank + int(pair)
            raise IndexFormatError(
                f"{shard.file('table')}: ranks {rank} and {rank + 1} are out of order; {_REBUILD}"
            )
        same = open_pairs[left[open_pairs] == right[open_pairs]]
        for pair in same[:1]:
            raise IndexFormatError(
                f"{shard.file('table')}: ranks {first_rank + int(pair)} and the next hold the same "
                f"pointer; {_REBUILD}"
            )
        open_pairs, depth = open_pairs[~decided], depth + window
        window = min(window * 2, max(_VERIFY_BLOCK // max(open_pairs.size, 1), 8))


def _keys(shard: IndexShard, positions: NDArray[np.int64]) -> NDArray[np.int32]:
    """Sort keys of tokens: the bytes swapped, as memcmp sees them; -1 past the end."""
    inside = positions < shard.num_tokens
    tokens = np.asarray(shard.tokens)[np.where(inside, positions, 0)]
    keys: NDArray[np.int32] = np.where(inside, tokens.byteswap().astype(np.int32), -1)
    return keys


def _memmap(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a file read-only; an empty file, which cannot be mapped, is an empty array.

    Raises:
        IndexFormatError: when it is missing or holds a broken last entry.
    """
    size = _size(path)
    if size % dtype.itemsize:
        raise IndexFormatError(
            f"{path} has {size} bytes, not a multiple of {dtype.itemsize}: it was cut; {_REBUILD}"
        )
    return np.memmap(path, dtype=dtype, mode="r") if size else np.empty(0, dtype=dtype)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise IndexFormatError(
            f"{path} is missing: the folder is no whole index (tokenized, table and offset are "
            f"needed); {_REBUILD}"
        ) from None


def _check(shard: IndexShard) -> None:
    """What :meth:`IndexShard.open` promises; reads a few bytes."""
    table_bytes, num_tokens = _size(shard.file("table")), shard.num_tokens
    least = pointer_width(num_tokens)
    width = table_bytes // max(num_tokens, 1)
    if table_bytes != num_tokens * width or (num_tokens and not least <= width <= 8):
        raise IndexFormatError(
            f"{shard.file('table')} has {table_bytes} bytes, but the {num_tokens} tokens beside it "
            f"need {num_tokens} pointers of {least} bytes = {num_tokens * least} bytes: one of the "
            f"two files was cut or is of another build; {_REBUILD}"
        )
    offsets = shard.offsets
    if not offsets.size:
        if num_tokens > 1 or (num_tokens and int(shard.tokens[0]) != EOS_TOKEN_ID):
            raise IndexFormatError(
                f"{shard.file('offset')} names no document, but the stream has {num_tokens} "
                f"tokens; {_REBUILD}"
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
    if int(offsets[0]) != 0:
        raise IndexFormatError(
            f"{shard.file('offset')}: the first document starts at byte {int(offsets[0])}, not at "
            f"0; {_REBUILD}"
        )
