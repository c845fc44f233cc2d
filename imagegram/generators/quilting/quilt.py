"""Quilts: pictures put together block by block, in raster order, each of a patch of one image.

The patch of a block is the place's own part of a training image, or of its mirror image, with some
pixels more on every side. Of all images that gave none yet, that is taken whose cost is least:

    guide_weight * (squared difference of the block's thumbnail from the guide, a number)
                 + (squared difference from what is painted, a pixel where the patch overlaps)

and what overlaps is cut along the least seam. ``reference.py`` is this, one picture at a time.

Array names: ``B`` samples, ``N`` documents, ``S`` side of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.quilting.guides import squared_distances
from imagegram.generators.quilting.seams import least_seams
from imagegram.records import Images

#: Documents that are compared at a time, each with its mirror image.
CHUNK: Final = 4096
#: A pixel that is not painted yet.
NONE: Final = -1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where blocks and patches lie.

    Attributes:
        side: of a picture in pixels, S.
        cell: pixels of a number of the thumbnail, a side.
        block: numbers of the thumbnail that a block has, a side.
        overlap: pixels that a patch has more than its block, on every side.
        guide_weight: of the thumbnail, beside the overlap.
    """

    side: int
    cell: int
    block: int
    overlap: int
    guide_weight: float

    @property
    def num_blocks(self) -> int:
        """Blocks of a picture, a side."""
        return self.side // (self.block * self.cell)

    def patch(self, number: int) -> tuple[int, int]:
        """Return where the patches of a row, or column, of blocks begin and end."""
        size = self.block * self.cell
        begin = max(number * size - self.overlap, 0)
        return begin, min((number + 1) * size + self.overlap, self.side)

    def cells(self, number: int) -> slice:
        """Return the numbers of the thumbnail in a row, or column, of blocks."""
        return slice(number * self.block, (number + 1) * self.block)

    def painted(self, row: int, column: int) -> NDArray[np.bool_]:
        """Return which pixels of a patch are painted before it: strips at its left and its top."""
        (top, bottom), (left, right) = self.patch(row), self.patch(column)
        known = np.zeros((bottom - top, right - left), dtype=np.bool_)
        known[:, : 2 * self.overlap] |= column > 0
        known[: 2 * self.overlap] |= row > 0
        return known

    def costs(
        self, guided: NDArray[np.float64], painted: NDArray[np.float64] | None, num_pixels: int
    ) -> NDArray[np.float64]:
        """Return costs of squared differences.

        Args:
            guided: squared differences of sums of pixels, of all colours of the block's numbers.
            painted: squared differences of all colours of the pixels that overlap; None: none do.
            num_pixels: of these.
        """
        numbers = self.block**2 * self.cell**4
        costs = guided * (self.guide_weight / numbers)
        return costs if painted is None else costs + painted / num_pixels


def paint_quilts(
    pixels: Images,
    thumbnails: NDArray[np.uint32],
    clusters_N: NDArray[np.int64],
    guides: NDArray[np.int64],
    plan: Plan,
    *,
    mirror: bool,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Images, NDArray[np.int32]]:
    """Paint (B, S, S, 3) uint8 pictures; return also the (B, S, S) document of every pixel.

    Args:
        pixels: (N, S, S, 3) uint8 training images; a mapped file is read chunk by chunk.
        thumbnails: (N, G, G, 3) sums of their pixels.
        clusters_N: near-duplicates; each cluster gives one patch at most.
        guides: (B, G, G, 3) thumbnails to be followed.
        plan: where blocks and patches lie; there must be more clusters than blocks.
        mirror: whether mirror images give patches too.
        advance: called after every block.
    """
    count, side = len(guides), plan.side
    painted = np.zeros((count, side, side, 3), dtype=np.uint8)
    owners = np.full((count, side, side), NONE, dtype=np.int32)
    gave = np.zeros((count, plan.num_blocks**2), dtype=np.int64)
    for number in range(plan.num_blocks**2):
        row, column = divmod(number, plan.num_blocks)
        search = _Search(pixels, thumbnails, plan, row, column, mirror)
        chosen_B = search.least(painted, guides, clusters_N, gave[:, :number])
        gave[:, number] = clusters_N[chosen_B // 2]
        _paste(painted, owners, search.patches(chosen_B), chosen_B // 2, plan, row, column)
        advance()
    return painted, owners


class _Search:
    """The candidates of a block; the number of one is that of its document twice, + 1 mirrored."""

    def __init__(
        self,
        pixels: Images,
        thumbnails: NDArray[np.uint32],
        plan: Plan,
        row: int,
        column: int,
        mirror: bool,
    ) -> None:
        self.pixels, self.thumbnails, self.plan, self.mirror = pixels, thumbnails, plan, mirror
        (self.top, self.bottom), (self.left, self.right) = plan.patch(row), plan.patch(column)
        self.rows, self.columns = plan.cells(row), plan.cells(column)
        self.known = plan.painted(row, column)

    def _patch(self, images: Images) -> Images:
        return images[..., self.top : self.bottom, self.left : self.right, :]

    def patches(self, chosen_B: NDArray[np.int64]) -> Images:
        """Return the (B, H, W, 3) patches of candidates."""
        images = self.pixels[chosen_B // 2]
        mirrored = chosen_B % 2 == 1
        images[mirrored] = images[mirrored, :, ::-1]
        return self._patch(images)

    def least(
        self,
        painted: Images,
        guides: NDArray[np.int64],
        clusters_N: NDArray[np.int64],
        gave_BK: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Return the (B,) candidates of least cost, of equals the first."""
        count = len(guides)
        asked = guides[:, self.rows, self.columns].reshape(count, -1).astype(np.float64)
        below = self._patch(painted)[:, self.known].reshape(count, -1).astype(np.float64)
        best_B, chosen_B = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
        for start in range(0, len(self.pixels), CHUNK):
            some = slice(start, start + CHUNK)
            costs_BMF = np.stack(
                [self._costs(some, asked, below, turned=t) for t in range(1 + self.mirror)], axis=-1
            )
            taken_BM = (clusters_N[some][None, :, None] == gave_BK[:, None]).any(axis=2)
            costs_BMF[taken_BM] = np.inf
            found_B = costs_BMF.reshape(count, -1).argmin(axis=1)
            document_B, turned_B = np.divmod(found_B, costs_BMF.shape[2])
            least_B = costs_BMF[np.arange(count), document_B, turned_B]
            better = least_B < best_B
            best_B[better] = least_B[better]
            chosen_B[better] = (2 * (start + document_B) + turned_B)[better]
        return chosen_B

    def _costs(
        self,
        some: slice,
        asked: NDArray[np.float64],
        below: NDArray[np.float64],
        *,
        turned: int,
    ) -> NDArray[np.float64]:
        images, thumbnails = self.pixels[some], self.thumbnails[some]
        if turned:
            images, thumbnails = images[:, :, ::-1], thumbnails[:, :, ::-1]
        own = thumbnails[:, self.rows, self.columns].reshape(len(thumbnails), -1)
        guided = squared_distances(asked, own)
        if not self.known.any():
            return self.plan.costs(guided, None, 0)
        over = self._patch(images)[:, self.known].reshape(len(images), -1)
        num_pixels = int(self.known.sum())
        return self.plan.costs(guided, squared_distances(below, over), num_pixels)


def _paste(
    painted: Images,
    owners: NDArray[np.int32],
    patches: Images,
    documents_B: NDArray[np.int64],
    plan: Plan,
    row: int,
    column: int,
) -> None:
    """Paste patches, cut along the least seams at their left and their top."""
    (top, bottom), (left, right) = plan.patch(row), plan.patch(column)
    below = painted[:, top:bottom, left:right]
    errors = ((below.astype(np.int64) - patches) ** 2).sum(axis=-1)
    taken = np.ones(errors.shape, dtype=np.bool_)
    strip = 2 * plan.overlap
    if column > 0 and strip:
        taken[:, :, :strip] &= least_seams(errors[:, :, :strip])
    if row > 0 and strip:
        across = least_seams(errors[:, :strip].transpose(0, 2, 1))
        taken[:, :strip] &= across.transpose(0, 2, 1)
    below[taken] = patches[taken]
    owned = owners[:, top:bottom, left:right]
    owned[:] = np.where(taken, documents_B[:, None, None], owned)
