"""Sort suffixes on a device, by prefix doubling: the same table as ``sort.py`` writes.

All suffixes are sorted by their first 3 tokens, then by twice as many in every round, each round
one sort of integers (Manber and Myers 1993). A round costs the same however little it decides, and
images that occur twice cost about twelve rounds; 72 bytes of device memory a token.

>>> sort_suffixes(torch.tensor([-1, 7, 7, -1], dtype=torch.int16)).tolist()  # 65535 7 7 65535
[1, 2, 3, 0]
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import torch
from torch import Tensor

from imagegram.errors import CapacityError
from imagegram.indexes.torch_device import choose_device, free_bytes, to_device

_BLOCK: Final = 1 << 22
#: Keys, sorted keys, their places and ranks of 8 bytes each, and what a sort takes beside them.
_TOKEN_BYTES: Final = 72
#: Bits of a sort key with the end of the stream below it.
_KEY_BITS: Final = 17


def write_sorted(tokens_path: Path, table: BinaryIO, width: int, *, device: str) -> int:
    """Write the whole table of a stream; return the number of its pointers.

    Args:
        tokens_path: uint16 stream of at least one token.
        table: open for writing.
        width: bytes of a pointer.
        device: ``cuda``, ``cuda:1`` ... or ``cpu``.

    Raises:
        ConfigError: when there is no such device.
        CapacityError: when it has too little free memory.
    """
    place = choose_device(device, setting="index.build_device")
    stream = np.memmap(tokens_path, dtype="<u2", mode="r")
    need, free = stream.size * _TOKEN_BYTES, free_bytes(place)
    if need > free:
        raise CapacityError(
            f"sorting {stream.size:,} tokens on device {place} needs about {need / 1e9:.2f} GB, "
            f"and {free / 1e9:.2f} GB are free there; build smaller index shards, "
            f"index.shard_tokens={free // _TOKEN_BYTES}, or type index.build_device=cpu"
        )
    suffixes = sort_suffixes(to_device(stream, place))
    for start in range(0, stream.size, _BLOCK):
        pointers = (suffixes[start : start + _BLOCK] * 2).cpu().numpy().astype("<i8")
        packed = pointers.view(np.uint8).reshape(-1, 8)[:, :width]
        table.write(np.ascontiguousarray(packed).data)
    return int(stream.size)


def sort_suffixes(tokens: Tensor) -> Tensor:
    """Sort all suffixes: return their stream positions in the order of the table.

    Args:
        tokens: (n,) int16, the bits of the uint16 ids.

    Returns:
        (n,) int64 on the same device.
    """
    wide = tokens.long() & 0xFFFF
    keys = (((wide & 0xFF) << 8) | (wide >> 8)) + 1  # 0: behind the end
    del wide
    known = 3
    triples = keys << 2 * _KEY_BITS
    triples[:-1] |= keys[1:] << _KEY_BITS
    triples[:-2] |= keys[2:]
    del keys
    ranks, order, distinct = _number(triples)
    del triples
    while distinct < tokens.numel():
        pairs = ranks * (tokens.numel() + 1)
        if known < tokens.numel():
            pairs[:-known] += ranks[known:] + 1
        ranks, order, distinct = _number(pairs)
        known *= 2
    return order


def _number(values: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return dense ranks of values, their sorted order, and the number of distinct values."""
    ascending, order = torch.sort(values)
    numbers = torch.zeros_like(ascending)
    torch.cumsum(ascending[1:] != ascending[:-1], 0, out=numbers[1:])
    distinct = int(numbers[-1]) + 1
    ranks = ascending  # free the memory of its values
    ranks[order] = numbers
    return ranks, order, distinct
