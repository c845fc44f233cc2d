"""Quilts: pictures put together block by block, in raster order, each of a patch of one image.

The patch of a block is the place's own part of a training image, or of its mirror image, or what
lies a little beside it, with some pixels more on every side. Of all images that gave none yet, that
is taken whose cost is least:

    guide_weight * (squared difference of the block's thumbnail from the guide, a number)
                 + (squared difference from what is painted, a pixel where the patch overlaps)

and what overlaps is cut along the least seam. ``reference.py`` is this, one picture at a time.

Array names: ``B`` samples, ``N`` documents, ``S`` side of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.quilting.guides import squared_distances
from imagegram.generators.quilting.seams import least_seams
from imagegram.records import Images

#: Documents that are compared at a time, each with its mirror image.
CHUNK: Final = 4096
#: A pixel that is not painted yet.
NONE: Final = -1


class Way(NamedTuple):
    """How far a patch is taken from beside its place, in pixels."""

    down: int
    across: int


#: From its own place.
_HERE: Final = Way(0, 0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where blocks and patches lie.

    Attributes:
        side: of a picture in pixels, S.
        cell: pixels of a number of the thumbnail, a side.
        block: numbers of the thumbnail that a block has, a side.
        overlap: pixels that a patch has more than its block, on every side.
        guide_weight: of the thumbnail, beside the overlap.
        shift: pixels beside its place that a patch may also be taken from, in eight directions.
    """

    side: int
    cell: int
    block: int
    overlap: int
    guide_weight: float
    shift: int = 0

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

    def core(self, number: int) -> slice:
        """Return the pixels of a row, or column, of blocks."""
        return slice(number * self.block * self.cell, (number + 1) * self.block * self.cell)

    def ways(self, row: int, column: int) -> list[Way]:
        """Return where a patch may be taken from: its place first, then what lies beside it."""
        (top, bottom), (left, right) = self.patch(row), self.patch(column)
        steps = (0, -self.shift, self.shift) if self.shift else (0,)
        return [
            Way(down, across)
            for down in steps
            for across in steps
            if top + down >= 0
            and bottom + down <= self.side
            and left + across >= 0
            and right + across <= self.side
        ]

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
        search = _Search(pixels, plan, row, column, mirror)
        documents_B, chosen_B = search.least(painted, guides, clusters_N, gave[:, :number])
        gave[:, number] = clusters_N[documents_B]
        patches = search.patches(documents_B, chosen_B)
        _paste(painted, owners, patches, documents_B, plan, row, column)
        advance()
    return painted, owners


class _Search:
    """The candidates of a block: of every document its image and mirror image, at every way."""

    def __init__(self, pixels: Images, plan: Plan, row: int, column: int, mirror: bool) -> None:
        self.pixels, self.plan = pixels, plan
        self.rows, self.columns = plan.patch(row), plan.patch(column)
        self.row, self.column = row, column
        self.known = plan.painted(row, column)
        #: Which image, and how far beside its place.
        self.forms = [
            (turned, way) for turned in range(1 + mirror) for way in plan.ways(row, column)
        ]

    def _patch(self, images: Images, way: Way = _HERE) -> Images:
        (top, bottom), (left, right) = self.rows, self.columns
        down, across = way
        return images[..., top + down : bottom + down, left + across : right + across, :]

    def patches(self, documents_B: NDArray[np.int64], forms_B: NDArray[np.int64]) -> Images:
        """Return the (B, H, W, 3) patches of candidates."""
        images = self.pixels[documents_B]
        found = np.empty((len(images), *self.known.shape, 3), dtype=np.uint8)
        for form, (turned, way) in enumerate(self.forms):
            chosen = forms_B == form
            some = images[chosen]
            found[chosen] = self._patch(some[:, :, ::-1] if turned else some, way)
        return found

    def least(
        self,
        painted: Images,
        guides: NDArray[np.int64],
        clusters_N: NDArray[np.int64],
        gave_BK: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return document and form of the (B,) candidates of least cost, of equals the first."""
        count = len(guides)
        cells = np.s_[:, self.plan.cells(self.row), self.plan.cells(self.column)]
        asked = guides[cells].reshape(count, -1).astype(np.float64)
        below = self._patch(painted)[:, self.known].reshape(count, -1).astype(np.float64)
        best_B = np.full(count, np.inf)
        documents_B, forms_B = np.zeros((2, count), dtype=np.int64)
        for start in range(0, len(self.pixels), CHUNK):
            images = self.pixels[start : start + CHUNK]
            clusters_M = clusters_N[start : start + CHUNK]
            taken_BM = (clusters_M[None, :, None] == gave_BK[:, None]).any(axis=2)
            for form, (turned, way) in enumerate(self.forms):
                costs_BM = self._costs(images[:, :, ::-1] if turned else images, way, asked, below)
                costs_BM[taken_BM] = np.inf
                found_B = costs_BM.argmin(axis=1)
                least_B = costs_BM[np.arange(count), found_B]
                better = least_B < best_B
                # Of equal costs the lower document, and of these the first form, come first.
                equal = (least_B == best_B) & (start + found_B < documents_B)
                better |= equal & (least_B < np.inf)
                best_B[better], forms_B[better] = least_B[better], form
                documents_B[better] = start + found_B[better]
        return documents_B, forms_B

    def _costs(
        self,
        images: Images,
        way: Way,
        asked: NDArray[np.float64],
        below: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Return the (B, M) costs of one form of some documents."""
        plan, (down, across) = self.plan, way
        rows, columns = plan.core(self.row), plan.core(self.column)
        core = images[
            :,
            rows.start + down : rows.stop + down,
            columns.start + across : columns.stop + across,
        ]
        guided = squared_distances(asked, sums_of(core, plan.cell).reshape(len(images), -1))
        if not self.known.any():
            return plan.costs(guided, None, 0)
        over = self._patch(images, way)[:, self.known].reshape(len(images), -1)
        return plan.costs(guided, squared_distances(below, over), int(self.known.sum()))


def sums_of(pixels: Images, cell: int) -> NDArray[np.uint32]:
    """Return the (N, H / cell, W / cell, 3) sums of squares of (N, H, W, 3) pictures.

    >>> sums_of(np.full((1, 4, 4, 3), 7, dtype=np.uint8), 2)[0, :, :, 0].tolist()
    [[28, 28], [28, 28]]
    """
    count, height, width, _ = pixels.shape
    squares = pixels.reshape(count, height // cell, cell, width // cell, cell, 3)
    return np.asarray(squares.sum(axis=(2, 4), dtype=np.uint32))


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
