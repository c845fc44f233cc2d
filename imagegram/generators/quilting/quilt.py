"""Quilts: pictures put together block by block, each of a patch of one image.

The patch of a block is the place's own part of a training image, or of its mirror image, or what
lies a little beside it, with some pixels more on every side. Of all images that gave none yet, that
is taken whose cost is least:

    guide_weight * (squared difference of the block's thumbnail from the guide, a number)
                 + (squared difference from what is painted, a pixel where the patch overlaps)

and what overlaps is cut along the least seams. ``reference.py`` is this, one picture at a time.

Array names: ``B`` samples, ``N`` documents, ``S`` side of a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.quilting.guides import squared_distances
from imagegram.generators.quilting.seams import SIDES, Cut, cut_patches, runs
from imagegram.records import Images

#: Documents that are compared at a time, each with its mirror image.
CHUNK: Final = 4096
#: A pixel that is not painted yet.
NONE: Final = -1


class Way(NamedTuple):
    """How far a patch is taken from beside its place, in pixels."""

    down: int
    across: int


class Block(NamedTuple):
    """Numbers of the thumbnail that one patch is chosen for; ends are those behind the last."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def numbers(self) -> tuple[slice, slice]:
        """Rows and columns of the thumbnail."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return (self.bottom - self.top) * (self.right - self.left)


#: From its own place.
_HERE: Final = Way(0, 0)


def grid(size: int, block: int) -> tuple[Block, ...]:
    """Cut a thumbnail of ``size`` numbers a side into squares of ``block``, in raster order.

    >>> [tuple(one) for one in grid(4, 2)]
    [(0, 2, 0, 2), (0, 2, 2, 4), (2, 4, 0, 2), (2, 4, 2, 4)]
    """
    starts = range(0, size, block)
    return tuple(Block(y, y + block, x, x + block) for y in starts for x in starts)


def pinwheel(size: int, block: int) -> tuple[Block, ...]:
    """Cut a thumbnail into four bars along its sides, ``block`` thick, and what they enclose.

    What mostly stands in the middle of an image is then of one image.

    >>> [tuple(one) for one in pinwheel(4, 1)]
    [(0, 1, 0, 3), (1, 4, 0, 1), (3, 4, 1, 4), (0, 3, 3, 4), (1, 3, 1, 3)]
    """
    far = size - block
    return (
        Block(0, block, 0, far),
        Block(block, size, 0, block),
        Block(far, size, block, size),
        Block(0, far, far, size),
        Block(block, far, block, far),
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where blocks and patches lie.

    Attributes:
        side: of a picture in pixels, S.
        cell: pixels of a number of the thumbnail, a side.
        blocks: in the order in which they are painted; together all numbers of the thumbnail.
        overlap: pixels that a patch has more than its block, on every side.
        guide_weight: of the thumbnail, beside the overlap.
        shift: pixels beside its place that a patch may also be taken from, in eight directions.
    """

    side: int
    cell: int
    blocks: tuple[Block, ...]
    overlap: int
    guide_weight: float
    shift: int = 0

    def core(self, number: int) -> tuple[slice, slice]:
        """Return rows and columns of the pixels of a block."""
        rows, columns = self.blocks[number].numbers
        return self._pixels(rows), self._pixels(columns)

    def patch(self, number: int) -> tuple[slice, slice]:
        """Return rows and columns of the pixels of a block's patch."""
        rows, columns = self.core(number)
        return self._wider(rows), self._wider(columns)

    def _pixels(self, numbers: slice) -> slice:
        return slice(numbers.start * self.cell, numbers.stop * self.cell)

    def _wider(self, core: slice) -> slice:
        return slice(max(core.start - self.overlap, 0), min(core.stop + self.overlap, self.side))

    def ways(self, number: int) -> list[Way]:
        """Return where a patch may be taken from: its place first, then what lies beside it."""
        rows, columns = self.patch(number)
        steps = (0, -self.shift, self.shift) if self.shift else (0,)
        return [
            Way(down, across)
            for down in steps
            for across in steps
            if rows.start + down >= 0
            and rows.stop + down <= self.side
            and columns.start + across >= 0
            and columns.stop + across <= self.side
        ]

    @cached_property
    def painted(self) -> tuple[NDArray[np.bool_], ...]:
        """Which pixels of each patch are painted before it, by the patches of earlier blocks."""
        found, canvas = [], np.zeros((self.side, self.side), dtype=np.bool_)
        for number in range(len(self.blocks)):
            found.append(canvas[self.patch(number)].copy())
            canvas[self.patch(number)] = True
        return tuple(found)

    @cached_property
    def cuts(self) -> tuple[tuple[Cut, ...], ...]:
        """Where each patch is cut: along the earlier blocks beside its own.

        A seam goes through all lines there whose pixels are painted, from the rim of the patch as
        far inside it as outside its block.
        """
        found, cores = [], np.zeros((self.side, self.side), dtype=np.bool_)
        for number, painted in enumerate(self.painted):
            core = np.zeros_like(cores)
            core[self.core(number)] = True
            own, before = core[self.patch(number)], cores[self.patch(number)]
            found.append(tuple(self._cuts(own, before, painted)))
            cores |= core
        return tuple(found)

    def _cuts(
        self, own: NDArray[np.bool_], before: NDArray[np.bool_], painted: NDArray[np.bool_]
    ) -> Iterator[Cut]:
        """Yield the cuts of a patch.

        Args:
            own: pixels of its block.
            before: pixels of earlier blocks.
            painted: pixels of their patches.
        """
        for side, turned in enumerate(SIDES):
            inside = turned(own)
            margin = int(inside.any(axis=0).argmax())  # pixels outside the block
            if margin == 0:  # the rim of the picture, or patches that do not overlap
                continue
            beside = turned(before)[:, margin - 1] & inside.any(axis=1)
            lines = np.asarray(turned(painted)[:, : 2 * self.overlap].all(axis=1))
            for first, last in runs(lines):
                if beside[first:last].any():
                    yield Cut(side, first, last)

    def costs(
        self,
        number: int,
        guided: NDArray[np.float64],
        painted: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        """Return costs of squared differences of a block's patch.

        Args:
            number: of the block.
            guided: squared differences of sums of pixels, of all colours of the block's numbers.
            painted: squared differences of all colours of the pixels that overlap; None: none do.
        """
        costs = guided * (self.guide_weight / (self.blocks[number].size * self.cell**4))
        return costs if painted is None else costs + painted / int(self.painted[number].sum())


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
        plan: where blocks and patches lie; there must be at least as many clusters as blocks.
        mirror: whether mirror images give patches too.
        advance: called after every block.
    """
    count, side = len(guides), plan.side
    painted = np.zeros((count, side, side, 3), dtype=np.uint8)
    owners = np.full((count, side, side), NONE, dtype=np.int32)
    gave = np.zeros((count, len(plan.blocks)), dtype=np.int64)
    for number in range(len(plan.blocks)):
        search = _Search(pixels, plan, number, mirror)
        documents_B, chosen_B = search.least(painted, guides, clusters_N, gave[:, :number])
        gave[:, number] = clusters_N[documents_B]
        patches = search.patches(documents_B, chosen_B)
        _paste(painted, owners, patches, documents_B, plan, number)
        advance()
    return painted, owners


class _Search:
    """The candidates of a block: of every document its image and mirror image, at every way."""

    def __init__(self, pixels: Images, plan: Plan, number: int, mirror: bool) -> None:
        self.pixels, self.plan, self.number = pixels, plan, number
        self.known = plan.painted[number]
        #: Which image, and how far beside its place.
        self.forms = [(turned, way) for turned in range(1 + mirror) for way in plan.ways(number)]

    def patches(self, documents_B: NDArray[np.int64], forms_B: NDArray[np.int64]) -> Images:
        """Return the (B, H, W, 3) patches of candidates."""
        images, place = self.pixels[documents_B], self.plan.patch(self.number)
        found = np.empty((len(images), *self.known.shape, 3), dtype=np.uint8)
        for form, (turned, way) in enumerate(self.forms):
            chosen = forms_B == form
            some = images[chosen]
            found[chosen] = _part(some[:, :, ::-1] if turned else some, place, way)
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
        rows, columns = self.plan.blocks[self.number].numbers
        asked = guides[:, rows, columns].reshape(count, -1).astype(np.float64)
        place = self.plan.patch(self.number)
        below = _part(painted, place)[:, self.known].reshape(count, -1).astype(np.float64)
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
        plan, number = self.plan, self.number
        sums = sums_of(_part(images, plan.core(number), way), plan.cell)
        guided = squared_distances(asked, sums.reshape(len(images), -1))
        if not self.known.any():
            return plan.costs(number, guided, None)
        over = _part(images, plan.patch(number), way)[:, self.known].reshape(len(images), -1)
        return plan.costs(number, guided, squared_distances(below, over))


def _part(images: Images, place: tuple[slice, slice], way: Way = _HERE) -> Images:
    """Return a part of (N, S, S, 3) pictures, or what lies beside it."""
    rows, columns = place
    return images[
        :,
        rows.start + way.down : rows.stop + way.down,
        columns.start + way.across : columns.stop + way.across,
    ]


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
    number: int,
) -> None:
    """Paste patches, cut along the least seams at every side where something is painted."""
    rows, columns = plan.patch(number)
    below = painted[:, rows, columns]
    errors = ((below.astype(np.int64) - patches) ** 2).sum(axis=-1)
    taken = cut_patches(errors, plan.cuts[number], 2 * plan.overlap)
    below[taken] = patches[taken]
    owned = owners[:, rows, columns]
    owned[:] = np.where(taken, documents_B[:, None, None], owned)
