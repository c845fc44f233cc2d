"""The definition of a quilt, one picture and one candidate at a time, in whole numbers."""

from __future__ import annotations

import itertools

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
    gave: set[int] = set()
    for row in range(plan.num_blocks):
        for column in range(plan.num_blocks):
            (top, bottom), (left, right) = plan.patch(row), plan.patch(column)
            place = np.s_[top:bottom, left:right]
            known = owners[place] != NONE
            best = np.inf
            for document in range(len(pixels)):
                if int(clusters_N[document]) in gave:
                    continue
                for turned, way in itertools.product(range(1 + mirror), plan.ways(row, column)):
                    image = pixels[document, :, :: -1 if turned else 1].astype(np.int64)
                    moved = np.roll(image, (-way.down, -way.across), axis=(0, 1))
                    guided = 0
                    for y, x in itertools.product(range(plan.block), repeat=2):
                        y, x = row * plan.block + y, column * plan.block + x
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
                    cost = float(plan.costs(np.array(float(guided)), over, int(known.sum())))
                    if cost < best:
                        best, chosen, patch = cost, document, moved[place]
            gave.add(int(clusters_N[chosen]))
            _paste(painted[place], owners[place], patch, chosen, plan, row, column)
    return painted.astype(np.uint8), owners


def _paste(
    below: NDArray[np.int64],
    owners: NDArray[np.int32],
    patch: NDArray[np.int64],
    document: int,
    plan: Plan,
    row: int,
    column: int,
) -> None:
    errors = ((below - patch) ** 2).sum(axis=-1)
    strip = 2 * plan.overlap
    left = seam_reference(errors[:, :strip].tolist()) if column > 0 and strip else None
    top = seam_reference(errors[:strip].T.tolist()) if row > 0 and strip else None
    for y, x in np.ndindex(errors.shape):
        if left is not None and x < strip and x < left[y]:
            continue
        if top is not None and y < strip and y < top[x]:
            continue
        below[y, x], owners[y, x] = patch[y, x], document


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
