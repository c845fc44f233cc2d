"""Build ``table.0``, the suffix array of a token stream, by libdivsufsort over its bytes.

Suffixes that start at even bytes, in the order of all byte suffixes, are the token suffixes in
memcmp order: the order that infini-gram and fast-gram search. About 5 M tokens/s on one core;
memory: 10 bytes a token below 2 GiB of stream (32-bit sort), 18 above (64-bit sort).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import IndexFormatError, StageError
from imagegram.indexes.format import MAX_POINTER_WIDTH, pointer_width
from imagegram.indexes.stream import TOKEN_BYTES

_BLOCK: Final = 1 << 22


def build_table(tokens_path: Path, table_path: Path) -> int:
    """Sort all suffixes of ``tokens_path`` and write their byte positions to ``table_path``.

    Args:
        tokens_path: little-endian uint16 stream; may be empty.
        table_path: written; one pointer a token, little-endian, of
            :func:`~imagegram.indexes.format.pointer_width` bytes (by the *largest* pointer).

    Returns:
        Bytes of one pointer.

    Raises:
        IndexFormatError: when the stream is not a whole number of tokens.
        StageError: when the sort does not fit into memory.
    """
    stream = np.fromfile(tokens_path, dtype=np.uint8)
    if stream.size % TOKEN_BYTES:
        raise IndexFormatError(
            f"{tokens_path} has {stream.size} bytes, not a multiple of {TOKEN_BYTES}: it was cut; "
            "make it again"
        )
    width = pointer_width(stream.size // TOKEN_BYTES)
    byte_suffixes = _sort(stream, tokens_path) if stream.size else np.empty(0, np.int32)
    written = 0
    with table_path.open("wb") as table:
        for start in range(0, byte_suffixes.size, _BLOCK):
            block = byte_suffixes[start : start + _BLOCK]
            written += _write_pointers(table, block[block % TOKEN_BYTES == 0], width)
    assert written == stream.size // TOKEN_BYTES
    return width


def _sort(stream: NDArray[np.uint8], path: Path) -> NDArray[Any]:
    from pydivsufsort import divsufsort

    try:
        suffixes: NDArray[Any] = divsufsort(stream)  # picks the 64-bit sort from 2 GiB on
    except MemoryError as error:
        need = stream.size * (5 if stream.size < 2**31 else 9)
        raise StageError(
            f"sorting the suffixes of {path} ({stream.size} bytes) needs about {need} bytes of "
            "memory; use fewer runtime.workers, or smaller corpus shards"
        ) from error
    return suffixes


def _write_pointers(table: Any, pointers: NDArray[Any], width: int) -> int:
    packed = pointers.astype("<i8").view(np.uint8).reshape(-1, MAX_POINTER_WIDTH)[:, :width]
    table.write(np.ascontiguousarray(packed))
    return len(packed)
