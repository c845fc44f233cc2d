"""Side files of many shards, as the kernels of ``search/`` read them: orders and screens.

With them a context that is known at one place of a shard is found without a search, a context that
occurs once is copied, and most shards are known not to hold a context by one look at their screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.compiled import njit
from imagegram.generators.ngram.walk.order import Walk
from imagegram.indexes.kernels.search import Int, ShardViews
from imagegram.indexes.order import Order
from imagegram.indexes.screen import Screen


class Sides(NamedTuple):
    """Addresses of the side files of S shards; whoever holds it keeps the maps alive.

    Attributes:
        ordered: whether there are orders; without them their addresses are 0.
        inverse, lcp, repeat, minima: (S,) uint64 addresses, see ``indexes/order.py``.
        inverse_width: (S,) int64 bytes.
        aligned: whether ranks sort by position first.
        run: tokens of the short runs that are screened; 0: there are no screens.
        long_run: tokens of the long ones; 0: none are.
        placed: whether screens tell places apart.
        screen: (S,) uint64 addresses, see ``indexes/screen.py``.
        num_words: (S,) int64 words of each.
        pitch: (S,) int64 lines of a place in each, see ``indexes/kernels/screen.py``.
    """

    ordered: bool
    inverse: NDArray[np.uint64]
    lcp: NDArray[np.uint64]
    repeat: NDArray[np.uint64]
    minima: NDArray[np.uint64]
    inverse_width: NDArray[np.int64]
    aligned: bool
    run: int
    long_run: int
    placed: bool
    screen: NDArray[np.uint64]
    num_words: NDArray[np.int64]
    pitch: NDArray[np.int64]


def make_sides(
    num_shards: int, orders: Sequence[Order] = (), screens: Sequence[Screen] = ()
) -> Sides:
    """Collect addresses and sizes; without orders nothing is ever known at a place."""
    nothing = np.zeros(num_shards, dtype=np.uint64)

    def addresses(name: str) -> NDArray[np.uint64]:
        if not orders:
            return nothing
        return np.array([getattr(order, name).ctypes.data for order in orders], dtype=np.uint64)

    return Sides(
        ordered=bool(orders),
        inverse=addresses("inverse"),
        lcp=addresses("lcp"),
        repeat=addresses("repeat"),
        minima=addresses("minima"),
        inverse_width=np.array(
            [order.inverse_width for order in orders] or nothing, dtype=np.int64
        ),
        aligned=bool(orders) and orders[0].aligned,
        run=screens[0].runs[0] if screens else 0,
        long_run=screens[0].runs[-1] if screens else 0,
        placed=bool(screens) and screens[0].placed,
        screen=np.array([s.words.ctypes.data for s in screens] or nothing, dtype=np.uint64),
        num_words=np.array([s.words.size for s in screens] or nothing, dtype=np.int64),
        pitch=np.array([s.pitch for s in screens] or nothing, dtype=np.int64),
    )


@njit(inline="always", cache=True, counts=False)
def walk_of(views: ShardViews, sides: Sides, s: Int) -> Walk:
    """Return one shard as the walking kernels know it, with the side files of its order."""
    fields: Any = (
        views.token_address[s],
        views.table_address[s],
        sides.inverse[s],
        sides.lcp[s],
        sides.repeat[s],
        sides.minima[s],
        views.num_tokens[s],
        views.pointer_width[s],
        sides.inverse_width[s],
        views.num_documents[s],
        views.num_documents[s],
        views.stride[s],
        views.offset_address[s],
        sides.aligned,
        False,
    )
    return Walk(*fields)
