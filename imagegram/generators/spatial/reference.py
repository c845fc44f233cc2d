"""What the spatial generator means, slowly: every step scans all blocks of the training documents.

A step draws a block, or a code of a grid; the steps of a sample come pass by pass (``passes.py``).
Its context is a list of decisions about its surroundings (``tree.py``). The candidates are the
training blocks that share the first d decisions, for the largest d at which enough of them are
left: ``min_count`` occurrences of ``min_documents`` documents, without those documents that have
already given all that they may (``max_share``, ``max_run``); near-duplicates are one document. With
no decision all are candidates, however few. One of those that may be drawn is, with the weights of
:func:`imagegram.generators.spatial.steps.weigh`, and the document and position that it comes from
are the source of its tokens.

With ``follow``, a block that goes on where a neighbour's source ends is the only candidate, when it
shares at least so many decisions: right of the source of the left neighbour, below that of the
upper one, inside that of the coarser block; on a grid, beside the sources of the eight neighbours.
The one that shares most is taken, the first of equals.

The numbers of a step stand at all K tokens of its block: how many decisions, candidates, distinct
blocks among them; its probability to the power 1/K and the K-th part of the bits of the choice
among candidates, so that products and sums over tokens are those over steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.spatial.grids import grid_surroundings_reference, unlikeness_reference
from imagegram.generators.spatial.index import LevelIndex, SpatialIndex, pictures
from imagegram.generators.spatial.passes import Pass, is_grid, ranks_of
from imagegram.generators.spatial.steps import (
    ANY,
    AROUND,
    Job,
    Knobs,
    decoded,
    knobs_of,
    nesting,
    weigh,
)
from imagegram.generators.spatial.surroundings import surroundings_reference
from imagegram.records import Images, Tokens, Trace
from imagegram.samplers.truncation import draw, entropy_bits
from imagegram.seeding import uniforms


@dataclass(frozen=True, eq=False)
class Occurrences:
    """All occurrences of one pass, in the order of the documents; a pyramid's and a grid's differ.

    Attributes:
        part: the pass.
        index: of the pass.
        rows: (N, T) training documents, of which the passes up to this one are known.
    """

    part: Pass
    index: LevelIndex
    rows: Tokens

    def around(self, row_T: Tokens, coarser: Images | None, at: int) -> NDArray[np.int64]:
        """Return the surroundings of a step in a row of tokens."""
        raise NotImplementedError

    def coarser_of(self, document: int) -> Images | None:
        """Return the picture of the coarser level of a training document."""
        return None

    def numbers(self, blocks_MK: Tokens) -> NDArray[Any]:
        """Return the (M, ·) numbers by which blocks are compared."""
        return blocks_MK

    @cached_property
    def blocks(self) -> Tokens:
        """(M, K) tokens of all blocks."""
        return self.rows[:, self.part.positions].reshape(-1, self.part.size)

    @cached_property
    def decisions(self) -> NDArray[np.bool_]:
        """(M, D) decisions of all blocks."""
        found = [
            self.decide(row, self.coarser_of(document), at)
            for document, row in enumerate(self.rows)
            for at in range(self.part.num_steps)
        ]
        return np.array(found).reshape(len(found), len(self.index.places))

    def decide(self, row_T: Tokens, coarser: Images | None, at: int) -> NDArray[np.bool_]:
        """Return the (D,) decisions about the surroundings of a step."""
        around = self.around(row_T, coarser, at)
        found = np.zeros(len(self.index.places), dtype=np.bool_)
        node = 0
        for d, place in enumerate(self.index.places):
            value = int((self.index.weights[place] * around).sum())
            found[d] = value > self.index.thresholds[2**d - 1 + node]
            node = 2 * node + int(found[d])
        return found


@dataclass(frozen=True, eq=False)
class PyramidOccurrences(Occurrences):
    """Blocks of a level; ``coarser``: (N, H', W', 3) pictures of the level before, or None."""

    coarser: Images | None

    def around(self, row_T: Tokens, coarser: Images | None, at: int) -> NDArray[np.int64]:
        """Return the surroundings of a block in a row of tokens."""
        row, column = divmod(at, self.part.width // self.part.side)
        level = level_of(self.part, row_T)
        return surroundings_reference(coarser, level, self.part.side, row, column)

    def coarser_of(self, document: int) -> Images | None:
        """Return the picture of the coarser level of a training document."""
        return None if self.coarser is None else self.coarser[document]


@dataclass(frozen=True, eq=False)
class GridOccurrences(Occurrences):
    """Places of a grid; ``codes``: (V, A) numbers of the codes; ``ranks``: order of the places."""

    codes: NDArray[np.int64]
    ranks: NDArray[np.int64]

    def around(self, row_T: Tokens, coarser: Images | None, at: int) -> NDArray[np.int64]:
        """Return the surroundings of a place in a row of tokens."""
        row, column = divmod(int(self.part.places[at]), self.part.width)
        grid = row_T.reshape(self.ranks.shape)
        return grid_surroundings_reference(
            self.codes, grid, self.ranks, self.part.unit, row, column
        )

    def numbers(self, blocks_MK: Tokens) -> NDArray[Any]:
        """Return the (M, A) numbers of codes."""
        return self.codes[blocks_MK[:, 0]]


def level_of(part: Pass, row_T: NDArray[Any]) -> NDArray[Any]:
    """Return the (H, W, C) tokens of the level of a pyramid's pass."""
    size, first = part.positions.size, int(part.positions.min())
    return row_T[first : first + size].reshape(part.height, part.width, -1)


def occurrences_of(index: SpatialIndex, tokenizer: Any) -> list[Occurrences]:
    """Put the blocks of an index back into documents."""
    rows = np.zeros((index.num_documents, index.layout.num_tokens), dtype=np.uint16)
    found: list[Occurrences] = []
    for part, stored in zip(index.passes, index.levels, strict=True):
        blocks = np.asarray(stored.blocks)[np.asarray(stored.ranks)]
        rows[:, part.positions] = blocks.reshape(len(rows), *part.positions.shape)
    if is_grid(index.layout):
        ranks = ranks_of(index.passes)
        for part, stored in zip(index.passes, index.levels, strict=True):
            found.append(GridOccurrences(part, stored, rows, index.codes, ranks))
        return found
    coarser: Images | None = None
    for n, (part, stored) in enumerate(zip(index.passes, index.levels, strict=True)):
        found.append(PyramidOccurrences(part, stored, rows, coarser))
        level = np.stack([level_of(part, row) for row in rows])
        coarser = pictures(tokenizer, n, level, coarser)
    return found


def reference_rows(
    index: SpatialIndex, tokenizer: Any, job: Job, advance: Callable[[int], None]
) -> tuple[Tokens, Trace]:
    """Write (B, T) tokens and their trace."""
    passes = occurrences_of(index, tokenizer)
    knobs = knobs_of(job.sampler, index.passes, index.num_clusters)
    tokens_BT, trace = job.start()
    for b in range(len(job.samples)):
        gave = np.zeros(index.num_documents, dtype=np.int64)
        taken: list[NDArray[np.int64]] = []
        coarser, base = None, None
        for n, occurrences in enumerate(passes):
            step = _Steps(occurrences, knobs[n], job, coarser, gave, tuple(passes[:n]), taken)
            step.write(b, tokens_BT, trace)
            if not is_grid(index.layout):
                coarser = decoded(level_of(occurrences.part, tokens_BT[b]), base)
                if n + 1 < len(passes):
                    base = tokenizer.enlarged(coarser, n + 1)
        advance(index.layout.num_tokens)
    return tokens_BT, trace


@dataclass(frozen=True, eq=False)
class _Steps:
    """The steps of one pass of one sample.

    Attributes:
        coarser: picture of the coarser level of the sample.
        gave: tokens of the sample by cluster of near-duplicates.
        before: the passes before, and ``taken``: (S,) occurrences of each that the steps took, this
            pass's as the last.
    """

    occurrences: Occurrences
    knobs: Knobs
    job: Job
    coarser: Images | None
    gave: NDArray[np.int64]
    before: tuple[Occurrences, ...]
    taken: list[NDArray[np.int64]]

    def write(self, b: int, tokens_BT: Tokens, trace: Trace) -> None:
        """Write the pass."""
        found, part = self.occurrences, self.occurrences.part
        per, size, clusters = part.num_steps, part.size, found.index.clusters
        taken, steps = np.full(per, -1, dtype=np.int64), np.zeros_like(self.gave)
        self.taken.append(taken)
        for at, positions in enumerate(part.positions):
            fits = (self.gave + size <= self.knobs.most_tokens) & (steps < self.knobs.most_steps)
            fits = fits[clusters]
            shared, run = self._candidates(tokens_BT[b], at, fits)
            allowed = fits[run // per]
            if self.knobs.nearest < len(run):
                allowed &= self._is_near(tokens_BT[b], at, run, allowed)
            p = weigh(found.numbers(found.blocks[run]), allowed, self.knobs.temperature)
            one, two = uniforms(
                seed=self.job.seed,
                sample=int(self.job.samples[b]),
                position=int(positions[0]),
            )
            chosen = run[draw(p, one)]
            if self.job.forced is None:
                tokens_BT[b, positions] = found.blocks[chosen]
            block = tokens_BT[b, positions]
            alike = [
                (source, share)
                for source, share in zip(run, p, strict=True)
                if share > 0 and (found.blocks[source] == block).all()
            ]
            if not alike:
                chosen = -1
            elif chosen not in [source for source, _ in alike]:
                chosen = alike[min(int(two * len(alike)), len(alike) - 1)][0]
            probability = 0.0
            for _, share in alike:
                probability += share
            if chosen >= 0:
                taken[at] = chosen
                steps[clusters[chosen // per]] += 1
                self.gave[clusters[chosen // per]] += size
            notes = {
                "suffix_len": shared,
                "num_contexts": len(run),
                "num_distinct": min(len(np.unique(found.blocks[run], axis=0)), 65535),
                "probability": probability ** (1.0 / size),
                "entropy": entropy_bits(p) / size,
                "source_document": chosen // per if chosen >= 0 else -1,
                "source_position": part.positions[chosen % per] if chosen >= 0 else -1,
            }
            for name, value in notes.items():
                trace[name][b, positions] = value

    def _candidates(
        self, row_T: Tokens, at: int, fits: NDArray[np.bool_]
    ) -> tuple[int, NDArray[np.int64]]:
        """Return the number of shared decisions, and the candidates in sorted order."""
        decisions, per = self.occurrences.decisions, self.occurrences.part.num_steps
        own = self.occurrences.decide(row_T, self.coarser, at)
        # Decisions in common, from the first one on.
        common = np.cumprod(decisions == own, axis=1).sum(axis=1)
        best = (-1, -1)
        going_on: list[int] = []
        if self.knobs.follow >= 0:
            is_grid_pass = isinstance(self.occurrences, GridOccurrences)
            going_on = self._beside(at) if is_grid_pass else self._inside(at)
        if self.knobs.nearest == ANY:
            for source in going_on:
                is_near = source >= 0 and fits[source // per]
                if is_near and common[source] >= max(self.knobs.follow, best[0] + 1):
                    best = (int(common[source]), source)
        if best[0] >= 0:
            return best[0], np.array([best[1]])
        for shared in range(decisions.shape[1], -1, -1):
            run = np.flatnonzero(common >= shared)
            documents = (run // per)[fits[run // per]]
            enough = len(documents) >= self.knobs.min_count
            different = np.unique(self.occurrences.index.clusters[documents])
            if enough and len(different) >= self.knobs.min_documents:
                break
        order = np.lexsort((run, *decisions[run].T[::-1]))
        more = [] if self.knobs.nearest == ANY else dict.fromkeys(going_on)
        added = [s for s in more if s >= 0 and self.knobs.follow <= common[s] < shared]
        return shared, np.array([*run[order], *added])

    def _is_near(
        self, row_T: Tokens, at: int, run: NDArray[np.int64], allowed: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return which of the allowed occurrences have the most alike surroundings."""
        found, per = self.occurrences, self.occurrences.part.num_steps
        own = found.around(row_T, None, at)
        distances = [
            unlikeness_reference(own, found.around(found.rows[source // per], None, source % per))
            for source in run
        ]
        order = sorted(np.flatnonzero(allowed), key=lambda m: (distances[m], m))
        return np.isin(np.arange(len(run)), order[: self.knobs.nearest])

    def _inside(self, at: int) -> list[int]:
        """Return what goes on right of the left, below the upper, inside the coarser source."""
        part = self.occurrences.part
        rows, columns = part.height // part.side, part.width // part.side
        row, column = divmod(at, columns)
        taken, found = self.taken[-1].reshape(rows, columns), []
        if column and (source := int(taken[row, column - 1])) >= 0:
            found.append(source + 1 if source % columns < columns - 1 else -1)
        if row and (source := int(taken[row - 1, column])) >= 0:
            found.append(source + columns if source % taken.size // columns < rows - 1 else -1)
        if not self.before:
            return found
        coarser = self.before[-1].part
        coarse = self.taken[-2].reshape(coarser.height // coarser.side, -1)
        times = nesting(coarse.shape, taken.shape)
        if times and (source := int(coarse[row // times, column // times])) >= 0:
            document, block = divmod(source, coarse.size)
            y, x = divmod(block, coarse.shape[1])
            y, x = y * times + row % times, x * times + column % times
            found.append(document * taken.size + y * columns + x)
        return found

    def _beside(self, at: int) -> list[int]:
        """Return what lies beside the sources of eight neighbours as the place lies beside them."""
        part = self.occurrences.part
        drawn = {}  # document and place of the source of every place
        for occurrences, taken in zip((*self.before, self.occurrences), self.taken, strict=True):
            places = occurrences.part.places
            for place, source in zip(places.tolist(), taken.tolist(), strict=True):
                if source >= 0:
                    document, step = divmod(source, len(places))
                    drawn[divmod(place, part.width)] = (
                        document,
                        *divmod(int(places[step]), part.width),
                    )
        row, column = divmod(int(part.places[at]), part.width)
        found = []
        for dy, dx in AROUND:
            near = drawn.get((row + dy * part.unit, column + dx * part.unit))
            if near is None:
                continue
            document, y, x = near[0], near[1] - dy * part.unit, near[2] - dx * part.unit
            if 0 <= y < part.height and 0 <= x < part.width and part.step_at[y, x] >= 0:
                found.append(document * part.num_steps + int(part.step_at[y, x]))
        return found
