"""Order: all suffixes of one index shard in order, with side files that replace searches.

Each suffix has a rank. The table maps ranks to positions in the stream; an order also stores the
inverse of the table and the lengths that neighbouring suffixes share. So from one position of a
context, the interval of its ranks follows without a search. There are two orders, with the same
files:

suffix order
    of ``table.0``: contexts match anywhere.
aligned order
    first by the position inside the document (the separator before it, 0, 1, ..., T - 1), then as
    in ``table.0``: contexts match at the same position. Needs equally long documents. The N
    suffixes that begin at position i have the ranks (i + 1) * N ... (i + 2) * N - 1, and the
    separator that ends the stream has the last rank. Its own table is ``aligned.0``.

======================  ==========================================================================
``aligned.0``           aligned order only: as ``table.0``, byte positions of equal packed width
``inverse.0``           rank of the suffix at every stream position, packed in as few bytes as
                        hold n - 1; 8 zero bytes at the end, so that 8 bytes can be read anywhere
``lcp.0``               uint16 a rank: tokens shared with the rank before, at most 65535; 0 at rank
                        0. Aligned: never beyond the document's end, 0 between two positions
``repeat.0``            uint16 a stream position: the longest prefix of that suffix that another
                        suffix of the order shares, at most 65535
``minima.0``            uint16: minima of each 32 entries of ``lcp``, then of each 32 of those ...
                        up to a level of at most 32 entries, one level after the other
======================  ==========================================================================

Disk: 4.1 bytes a token and ``inverse_width`` (4 below 4 G tokens); aligned: ``pointer_width`` more.
``build/order_stage.py`` makes them, ``context.make(BuildOrder(shard=shard, aligned=False))``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import IndexFormatError
from imagegram.indexes.format import IndexShard, map_file, rebuild
from imagegram.store.manifest import Artifact

#: Zero bytes behind the last rank of ``inverse.0``.
INVERSE_PADDING: Final = 8
#: Entries of ``lcp`` or of a level that an entry of the next level of ``minima`` sums up.
MINIMA_FANOUT: Final = 32


def inverse_width(num_tokens: int) -> int:
    """Return the bytes of one rank: the fewest that hold the largest rank, n - 1.

    >>> [inverse_width(n) for n in (0, 1, 256, 257, 65536, 65537)]
    [1, 1, 1, 2, 2, 3]
    """
    return max((max(num_tokens - 1, 0).bit_length() + 7) // 8, 1)


def minima_sizes(num_tokens: int) -> list[int]:
    """Return the number of entries of each level of ``minima``, finest to coarsest.

    >>> minima_sizes(32), minima_sizes(33), minima_sizes(32 * 32 + 1), minima_sizes(0)
    ([1], [2], [33, 2], [0])
    """
    sizes = [-(-num_tokens // MINIMA_FANOUT)]
    while sizes[-1] > MINIMA_FANOUT:
        sizes.append(-(-sizes[-1] // MINIMA_FANOUT))
    return sizes


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Memory maps of one order. Make it with :meth:`open`, which checks what it opens.

    Attributes:
        shard: shard with the suffixes.
        aligned: first by the position inside the document, then as in the shard's table.
        path: folder of the side files.
        artifact: artifact of the store, if the folder is one.
    """

    shard: IndexShard
    aligned: bool
    path: Path
    artifact: Artifact | None = None

    @classmethod
    def open(
        cls, path: Path, *, shard: IndexShard, aligned: bool, artifact: Artifact | None = None
    ) -> Order:
        """Open a folder of side files and compare their sizes with the shard.

        Raises:
            IndexFormatError: naming the file, what was found, what was expected, what to do.
        """
        order = cls(shard=shard, aligned=aligned, path=Path(path), artifact=artifact)
        _check_files(order)
        return order

    def __getstate__(self) -> dict[str, Any]:
        # Memory maps pickle as whole arrays; another process maps the files again.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def pointer_width(self) -> int:
        """Bytes of one pointer of the table."""
        return self.shard.pointer_width

    @property
    def inverse_width(self) -> int:
        """Bytes of one rank of ``inverse``."""
        return inverse_width(self.shard.num_tokens)

    @cached_property
    def table(self) -> NDArray[np.uint8]:
        """(n * pointer_width,) packed byte position of every rank's suffix."""
        return self._map("aligned.0", "u1") if self.aligned else self.shard.table

    @cached_property
    def inverse(self) -> NDArray[np.uint8]:
        """(n * inverse_width + 8,) packed rank of every stream position, then zeros."""
        return self._map("inverse.0", "u1")

    @cached_property
    def lcp(self) -> NDArray[np.uint16]:
        """(n,) tokens that the suffix of a rank shares with that of the rank before."""
        return self._map("lcp.0", "<u2")

    @cached_property
    def repeat(self) -> NDArray[np.uint16]:
        """(n,) by stream position: the most tokens that another suffix shares."""
        return self._map("repeat.0", "<u2")

    @cached_property
    def minima(self) -> NDArray[np.uint16]:
        """All levels of minima over ``lcp``, of :func:`minima_sizes` entries each."""
        return self._map("minima.0", "<u2")

    @property
    def maps(self) -> tuple[NDArray[Any], ...]:
        """All its mapped files; the table of a suffix order is that of its shard."""
        own = (self.table,) if self.aligned else ()
        return *own, self.inverse, self.lcp, self.repeat, self.minima

    def _map(self, name: str, dtype: str) -> NDArray[Any]:
        return map_file(self.path / name, np.dtype(dtype))


def _check_files(order: Order) -> None:
    """Check the sizes of the side files; reads no data."""
    n = order.shard.num_tokens
    expected = {
        "inverse.0": n * order.inverse_width + INVERSE_PADDING,
        "lcp.0": 2 * n,
        "repeat.0": 2 * n,
        "minima.0": 2 * sum(minima_sizes(n)),
    }
    if order.aligned:
        expected["aligned.0"] = n * order.pointer_width
    for name, size in expected.items():
        path = order.path / name
        found = f"has {path.stat().st_size} bytes" if path.exists() else "is missing"
        if found != f"has {size} bytes":
            raise IndexFormatError(
                f"{path} {found}, but the {n} tokens of {order.shard.name} need {size} bytes: the "
                f"file was cut, or is of another index; {rebuild(order.path)}"
            )
