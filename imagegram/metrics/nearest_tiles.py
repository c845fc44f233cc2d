"""Nearest training tiles of picture tiles, in whole numbers: a copy is at exactly 0.

A picture is cut into a grid of s x s pixels; a border narrower than a tile is left out. Flat tiles
match anything flat and prove nothing: they are left out on both sides.

>>> picture = np.zeros((1, 4, 8, 3), np.uint8)
>>> picture[0, :, 6:] = 255
>>> tiles = tiles_at(picture, 4, (0, 1))
>>> tiles.shape, textured(tiles).tolist(), textured(tiles_at(picture, 4, (0, 0))).tolist()
((1, 48), [True], [False])
>>> nearest_squares(tiles, np.stack([tiles[0] // 255, tiles[0] // 5 * 4])).tolist()
[62424.0]
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import Advance, over_tiles, row_tiles
from imagegram.records import Images

#: A tile is flat when its pixels deviate less than this from its mean colour: 5 % of full range,
#: root mean square over pixels and channels.
FLAT_SD: Final = 255 / 20
#: Queries and training tiles that are compared at a time: 8 MB of squares.
_QUERIES: Final = 1024
_ROWS: Final = 2048
#: Products of tiles of this many numbers, shifted to -128 ... 127, are whole numbers below 2^24.
_EXACT_IN_FLOAT32: Final = (1 << 24) // (3 * 128 * 128)

Place = tuple[int, int]


def places(side: int, tile: int) -> list[Place]:
    """Return row and column of every tile of a square picture."""
    return list(itertools.product(range(side // tile), range(side // tile)))


def tiles_at(images_BHWC: Images, tile: int, place: Place) -> NDArray[np.uint8]:
    """Return the (B, tile * tile * 3) tile of every picture at one place."""
    row, column = place[0] * tile, place[1] * tile
    part = images_BHWC[:, row : row + tile, column : column + tile]
    return np.ascontiguousarray(part).reshape(len(part), -1)


def textured(tiles: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (B,) whether a tile is not flat."""
    pixels = tiles.reshape(len(tiles), -1, 3).astype(np.int64)
    squares, sums = (pixels**2).sum(axis=1), pixels.sum(axis=1)
    # The variance times the number of pixels squared, a whole number.
    spread = (pixels.shape[1] * squares - sums**2).sum(axis=1)
    return np.asarray(spread >= 3 * (FLAT_SD * pixels.shape[1]) ** 2)


def nearest_squares(queries: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the exact (Q,) squared distances to the nearest row; infinite without rows."""
    wide = queries.shape[1] > _EXACT_IN_FLOAT32
    kind = np.float64 if wide else np.float32

    def shifted(tiles: NDArray[np.uint8]) -> NDArray[Any]:
        return np.asarray(np.subtract(tiles, 128, dtype=kind))

    # |q - r|^2 = |q|^2 + (|r|^2 - 2 q.r); the bracket is one product with a column more.
    ours = shifted(queries)
    squares = np.einsum("qd,qd->q", ours, ours).astype(np.float64)
    factors = np.concatenate([-2 * ours, np.ones((len(ours), 1), kind)], axis=1)
    nearest = np.full(len(queries), np.inf)
    for part in row_tiles(len(rows), _ROWS):
        theirs = shifted(rows[part])
        norms = np.einsum("rd,rd->r", theirs, theirs)
        products = factors @ np.concatenate([theirs, norms[:, None]], axis=1).T
        np.minimum(nearest, products.min(axis=1), out=nearest)
    return np.asarray(nearest + squares)


@dataclass(frozen=True, kw_only=True, eq=False)
class TileDistances:
    """The tiles of one image set: which are textured, and their nearest training tiles.

    Attributes:
        textured: (B, P) whether the tile at each place is not flat.
        squares: (B, P) squared distance to the nearest textured training tile; infinite for flat
            tiles, and where no training tile is textured.
    """

    textured: NDArray[np.bool_]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, images_BHWC: Images, tile: int) -> TileDistances:
        """Return the state before the search: all distances are infinite."""
        grid = places(images_BHWC.shape[1], tile)
        known = np.empty((len(images_BHWC), len(grid)), dtype=np.bool_)
        for column, place in enumerate(grid):
            for rows in row_tiles(len(images_BHWC), _QUERIES):
                known[rows, column] = textured(tiles_at(images_BHWC[rows], tile, place))
        return cls(textured=known, squares=np.full(known.shape, np.inf))


def search_tiles(
    sets: Sequence[Images],
    blocks: Iterable[Images],
    *,
    tile: int,
    anywhere: bool = False,
    workers: int = 1,
    advance: Advance = lambda steps: None,
) -> list[TileDistances]:
    """Find the nearest training tile of every tile of every picture of all sets.

    Takes the time of B N H W C multiplications, times the places of a grid if ``anywhere``.

    Args:
        sets: (B, S, S, 3) each, memory-mapped perhaps.
        blocks: (N, S, S, 3) training images; none is kept.
        tile: side of a tile in pixels, at most S.
        anywhere: search all places of the grid instead of the same place only.
        workers: threads.
        advance: called with the number of further training images that were searched.
    """
    found = [TileDistances.of(images, tile) for images in sets]
    grid = places(sets[0].shape[1], tile)
    items = [
        (which, column, rows)
        for which, images in enumerate(sets)
        for column in range(len(grid))
        for rows in row_tiles(len(images), _QUERIES)
    ]
    for block in blocks:

        def search(item: tuple[int, int, slice], block: Images = block) -> None:
            which, column, rows = item
            known = found[which].textured[rows, column]
            queries = tiles_at(sets[which][rows], tile, grid[column])[known]
            for place in grid if anywhere else grid[column : column + 1]:
                training = tiles_at(block, tile, place)
                squares = nearest_squares(queries, training[textured(training)])
                nearest = found[which].squares[rows, column]  # a view, used by this item alone
                nearest[known] = np.minimum(nearest[known], squares)

        for _ in over_tiles(search, items, workers=workers):
            pass
        advance(len(block))
    return found
