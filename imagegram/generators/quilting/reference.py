"""The definition of a quilt, one picture and one candidate at a time, in whole numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.quilting.quilt import NONE, Plan
from imagegram.records import Images


def quilt_reference(
    pixels: Images,
    clusters_N: NDArray[np.int64],
    guide: NDArray[np.int64],
    plan: Plan,
    *,
    mirror: bool,
) -> tuple[Images, NDArray[np.int32]]:
    """Paint one picture; return also the document of every pixel.

    Args:
        pixels: (N, S, S, 3) uint8 training images.
        clusters_N: near-duplicates.
        guide: (G, G, 3) thumbnail to be followed.
        plan: where blocks and patches lie.
        mirror: whether mirror images give patches too.
    """
    painted = np.zeros((plan.side, plan.side, 3), dtype=np.int64)
    owners = np.full((plan.side, plan.side), NONE, dtype=np.int32)
    blocks = np.full((plan.side, plan.side), NONE, dtype=np.int64)  # in whose block a pixel lies
    gave: set[int] = set()
    for number, block in enumerate(plan.blocks):
        place = plan.patch(number)
        known = owners[place] != NONE
        best = np.inf
        for document in range(len(pixels)):
            if int(clusters_N[document]) in gave:
                continue
            for turned, way in itertools.product(range(1 + mirror), plan.ways(number)):
                image = pixels[document, :, :: -1 if turned else 1].astype(np.int64)
                moved = np.roll(image, (-way.down, -way.across), axis=(0, 1))
                guided = 0
                for y in range(block.top, block.bottom):
                    for x in range(block.left, block.right):
                        square = np.s_[
                            y * plan.cell : (y + 1) * plan.cell,
                            x * plan.cell : (x + 1) * plan.cell,
                        ]
                        off = moved[square].sum(axis=(0, 1)) - guide[y, x]
                        guided += int((off**2).sum())
                over = None
                if known.any():
                    off = (moved[place] - painted[place])[known]
                    over = np.array(float((off**2).sum()))
                cost = float(plan.costs(number, np.array(float(guided)), over))
                if cost < best:
                    best, chosen, patch = cost, document, moved[place]
        gave.add(int(clusters_N[chosen]))
        blocks[plan.core(number)] = number
        errors = ((painted[place] - patch) ** 2).sum(axis=-1)
        taken = _taken(errors, known, blocks[place], number, 2 * plan.overlap)
        painted[place][taken] = patch[taken]
        owners[place][taken] = chosen
    return painted.astype(np.uint8), owners


def _taken(
    errors: NDArray[np.int64],
    known: NDArray[np.bool_],
    blocks: NDArray[np.int64],
    number: int,
    strip: int,
) -> NDArray[np.bool_]:
    """Return what is painted of a patch: what lies behind all its seams."""
    taken = np.ones(errors.shape, dtype=np.bool_)
    # The left side is cut; then the patch is turned, until each of its sides has been the left one.
    for turns, flip in ((0, False), (0, True), (1, False), (1, True)):

        def seen(array: NDArray[Any], turns: int = turns, flip: bool = flip) -> NDArray[Any]:
            array = array.T if turns else array
            return array[:, ::-1] if flip else array

        lines = [row[:strip].all() for row in seen(known)]
        for painted, run in itertools.groupby(range(len(lines)), key=lambda y: bool(lines[y])):
            ys = list(run)
            if painted and strip and any(_beside(seen(blocks)[y].tolist(), number) for y in ys):
                seam = seam_reference([seen(errors)[y, :strip].tolist() for y in ys])
                for y, at in zip(ys, seam, strict=True):
                    seen(taken)[y, :at] = False
    return taken


def _beside(line: list[int], number: int) -> bool:
    """Whether a line of a block begins next to an earlier block."""
    return number in line and line.index(number) > 0 and line[line.index(number) - 1] != NONE


def seam_reference(errors: list[list[int]]) -> list[int]:
    """Return the place of the least seam in every line of a strip; of equals as defined there.

    Every line of a seam is at most one place from the next; see ``seams.least_seams``.
    """
    costs = [list(errors[0])]
    for line in errors[1:]:
        before = costs[-1]
        costs.append([own + min(before[max(x - 1, 0) : x + 2]) for x, own in enumerate(line)])
    at = costs[-1].index(min(costs[-1]))
    seam = [at]
    for line in reversed(costs[:-1]):
        first = max(at - 1, 0)
        three = line[first : at + 2]
        at = first + three.index(min(three))
        seam.append(at)
    return seam[::-1]
