"""Build ``table.0``, the suffix array of a token stream, with libdivsufsort.

Tokens are first written as order-preserving code words, one byte each for up to 257 distinct
tokens but for a few (``byte_code.py``), and the bytes are sorted: half as many symbols as
sorting the bytes of the stream, for the same table. That is the order which infini-gram and
fast-gram search: memcmp of the little-endian tokens, the end of the stream first.

Memory is 5 bytes a coded byte (9 from 2 GiB of code on, which is sorted with 64 bits), so 5 or 10
bytes a token. Stream and pointers pass block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, IndexFormatError, StageError
from imagegram.indexes.build.byte_code import IDS, ByteCode, most_bytes
from imagegram.indexes.format import pointer_width
from imagegram.records import TOKEN_BYTES

#: Tokens, or suffixes, that are processed at a time.
_BLOCK: Final = 1 << 18
#: Number of coded bytes from which sorting needs positions of 64 bits.
_WIDE: Final = 2**31
#: Default size of an index shard in tokens: a billion, so that few shards are searched.
SHARD_TOKENS: Final = 2**30


def check_shard_tokens(shard_tokens: int) -> None:
    """Refuse an impossible size of a shard.

    Raises:
        ConfigError: when it is below 1.
    """
    if shard_tokens < 1:
        raise ConfigError(
            f"index.shard_tokens must be at least 1, received {shard_tokens}; leave it out for "
            f"{SHARD_TOKENS}, or type index.shard_tokens=1 for one index shard a token shard"
        )


def sort_bytes(num_tokens: int, num_distinct: int) -> int:
    """Return the peak memory of :func:`build_table` in bytes, besides some MB of blocks.

    Args:
        num_tokens: number of tokens of the stream, separators included.
        num_distinct: distinct tokens in it, the separator included; more is safe.
    """
    coded = most_bytes(num_tokens, num_distinct)
    return coded * (5 if coded < _WIDE else 9)


def build_table(
    tokens_path: Path, table_path: Path, *, device: str = "cpu", force_wide: bool = False
) -> int:
    """Sort all suffixes of ``tokens_path`` and write their byte positions to ``table_path``.

    Args:
        tokens_path: little-endian uint16 stream; may be empty.
        table_path: written; one pointer a token, little-endian, of
            :func:`~imagegram.indexes.format.pointer_width` bytes (by the *largest* pointer).
        device: ``cpu``: libdivsufsort; else torch sorts there (``indexes/build/sort_torch.py``).
        force_wide: sort with 64 bits also where 32 are enough; the table is the same.

    Returns:
        Bytes of one pointer.

    Raises:
        IndexFormatError: when the stream is not a whole number of tokens.
        StageError: when the sort does not fit into memory.
        ConfigError, CapacityError: when the device is not there, or too small.
    """
    size = tokens_path.stat().st_size
    if size % TOKEN_BYTES:
        raise IndexFormatError(
            f"{tokens_path} has {size} bytes, not a multiple of {TOKEN_BYTES}: it was cut; "
            "make it again"
        )
    num_tokens = size // TOKEN_BYTES
    width = pointer_width(num_tokens)
    with table_path.open("wb") as table:
        if num_tokens and device != "cpu":
            from imagegram.indexes.build.sort_torch import write_sorted

            write_sorted(tokens_path, table, width, device=device)
        elif num_tokens:
            code = ByteCode.of(_count(tokens_path))
            try:
                written = _sort(tokens_path, table, code, num_tokens, width, force_wide)
            except MemoryError as error:
                raise StageError(
                    f"sorting the {num_tokens} tokens of {tokens_path} needs about "
                    f"{5 * code.num_bytes(num_tokens)} bytes of memory; build smaller index "
                    f"shards, index.shard_tokens={num_tokens // 2}, or fewer at a time, "
                    "runtime.workers=1"
                ) from error
            assert written == num_tokens
    return width


def _count(tokens_path: Path) -> NDArray[np.int64]:
    """Count the (65536,) occurrences of every token."""
    counts = np.zeros(IDS, np.int64)
    for tokens in _blocks(tokens_path):
        counts += np.bincount(tokens, minlength=IDS)
    return counts


def _blocks(tokens_path: Path) -> Iterator[NDArray[np.uint16]]:
    """Yield the stream in blocks; read, not mapped, so that no page of it stays in memory."""
    with tokens_path.open("rb") as stream:
        while (tokens := np.fromfile(stream, "<u2", _BLOCK)).size:
            yield tokens


def _sort(
    tokens_path: Path, table: BinaryIO, code: ByteCode, num_tokens: int, width: int, wide: bool
) -> int:
    """Sort and write the whole table; return the number of pointers."""
    from pydivsufsort import divsufsort

    from imagegram.indexes.build import sort_kernels as kernels

    size = code.num_bytes(num_tokens)
    mixed = 0 < code.num_long < num_tokens
    coded = np.empty(-(-size // 64) * 64 if mixed else size, np.uint8)
    end = 0
    for tokens in _blocks(tokens_path):
        end = kernels.encode(tokens, code.lead, code.second, coded, end)
    suffixes: NDArray[Any] = divsufsort(coded[:size], force64=wide or size >= _WIDE)
    directory, step = np.empty(0, np.uint64), 1 + (code.num_long > 0)
    if mixed:
        long_lead = int(code.lead[np.argmax(code.second >= 0)])
        directory, step = kernels.to_directory(coded, long_lead), 0
    del coded
    packed = np.empty(_BLOCK * width, np.uint8)
    written = 0
    for start in range(0, suffixes.size, _BLOCK):
        block = suffixes[start : start + _BLOCK]
        count = kernels.pointers(block, step, directory, width, np.uint64(packed.ctypes.data))
        table.write(packed[: count * width].data)
        written += count
    return written
