"""Screen: which runs of some lengths an index shard may hold; side file ``screen.0``.

Where several shards are generated from, most hold nothing like what is written. A screen says so
with one read, where a search takes dozens; it answers for one shard, so that shards stay apart.

``screen.0`` is ``8 max(ceil(12 r n / 512), 1)`` little-endian uint64 for runs of r lengths, each 12
bits a token: a Bloom filter with four bits a run in one line of 64 bytes (``kernels/screen.py``).
Runs hold no separator but at their beginning.
A *placed* screen tells runs apart by the place in the document where they begin, for contexts that
are compared at the same position; documents must be equally long. Each place has lines of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import IndexFormatError, UnsupportedError
from imagegram.indexes.format import IndexShard, map_file, rebuild
from imagegram.store.manifest import Artifact

_BITS_PER_RUN: Final = 12
_LINE_BITS: Final = 512
_FILE: Final = "screen.0"


def screen_bytes(num_tokens: int, num_lengths: int) -> int:
    """Return the bytes of a screen for runs of so many lengths.

    >>> screen_bytes(0, 1), screen_bytes(21, 2), screen_bytes(22, 2)
    (64, 64, 128)
    """
    return 64 * max(-(-num_tokens * num_lengths * _BITS_PER_RUN // _LINE_BITS), 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Screen:
    """A memory map of one screen. Make it with :meth:`open`, which checks what it opens.

    Attributes:
        shard: shard with the runs.
        runs: lengths of runs, in tokens, ascending.
        placed: whether runs are told apart by the place where they begin.
        path: folder of the file.
        artifact: artifact of the store, if the folder is one.
    """

    shard: IndexShard
    runs: tuple[int, ...]
    placed: bool
    path: Path
    artifact: Artifact | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        shard: IndexShard,
        runs: tuple[int, ...],
        placed: bool,
        artifact: Artifact | None = None,
    ) -> Screen:
        """Open a folder with a screen and compare its size with the shard.

        Raises:
            IndexFormatError: naming the file, what was found, what was expected, what to do.
        """
        screen = cls(shard=shard, runs=runs, placed=placed, path=Path(path), artifact=artifact)
        size, wanted = screen.words.nbytes, screen_bytes(shard.num_tokens, len(runs))
        if size != wanted:
            raise IndexFormatError(
                f"{screen.path / _FILE} has {size} bytes, but the {shard.num_tokens} tokens of "
                f"{shard.name} need {wanted}: the file was cut, or is of "
                f"another index; {rebuild(screen.path)}"
            )
        return screen

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps pickle as whole arrays; another process maps the file again.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def pitch(self) -> int:
        """Lines of a place, in units of 2^-32; 0: runs of all places share all lines."""
        return _pitch(self.words.size, _stride(self.shard, placed=self.placed))

    @cached_property
    def words(self) -> NDArray[np.uint64]:
        """(W,) words."""
        return map_file(self.path / _FILE, np.dtype("<u8"))


def write_screen(shard: IndexShard, out: Path, *, runs: tuple[int, ...], placed: bool) -> Screen:
    """Write the screen of a shard into a folder, and open it; memory: its size.

    Raises:
        UnsupportedError: for a placed screen of documents that are not equally long.
    """
    from imagegram.indexes.kernels.screen import fill_screen

    if placed and shard.document_length is None:
        raise UnsupportedError(
            f"the documents of {shard.name} differ in length, so places in them cannot be "
            "compared; use sampler.matching=free"
        )
    words = np.zeros(screen_bytes(shard.num_tokens, len(runs)) // 8, dtype="<u8")
    stride = _stride(shard, placed=placed)
    pitch = _pitch(words.size, stride)
    tokens = shard.tokens
    for run in runs:
        fill_screen(np.uint64(tokens.ctypes.data), len(tokens), run, stride, words, pitch)
    words.tofile(out / _FILE)
    return Screen.open(out, shard=shard, runs=runs, placed=placed)


def _stride(shard: IndexShard, *, placed: bool) -> int:
    """Return the places of a document and its separator; 0 where places are not told apart."""
    return (shard.document_length or 0) + 1 if placed else 0


def _pitch(num_words: int, stride: int) -> int:
    """Return the lines of each of these places, in units of 2^-32; 0 without places."""
    return (num_words >> 3 << 32) // stride if stride else 0
