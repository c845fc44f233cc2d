"""What the spatial generator means, slowly: every step scans all blocks of the training documents.

A step draws a block. Its context is a list of decisions about its surroundings (``tree.py``). The
candidates are the training blocks that share the first d decisions, for the largest d at which
enough of them are left: ``min_count`` occurrences of ``min_documents`` documents, without those
documents that have already given all that they may (``max_share``, ``max_run``). With no decision
all are candidates, however few. One of those that may be drawn is, with the weights of
:func:`imagegram.generators.spatial.steps.weigh`, and the document and position that it comes from
are the source of its tokens.

With ``follow``, a block that goes on where a neighbour's source ends is the only candidate, when it
shares at least so many decisions: right of the source of the left neighbour, below that of the
upper one, inside that of the coarser block. The one that shares most is taken, the first of equals.

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

from imagegram.generators.spatial.index import SpatialIndex, blocks_of, pictures
from imagegram.generators.spatial.steps import (
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
class Level:
    """All blocks of one level of the training documents, in the order of the documents.

    Attributes:
        tokens: (N, H, W, C) tokens.
        coarser: (N, H', W', 3) pictures of the coarser level; None: there is none.
        side: of a block.
        weights, places, thresholds: of the decisions, see ``index.py``.
    """

    tokens: NDArray[np.uint16]
    coarser: Images | None
    side: int
    weights: NDArray[np.int64]
    places: NDArray[np.int64]
    thresholds: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return self.tokens.shape[1] // self.side, self.tokens.shape[2] // self.side

    @cached_property
    def blocks(self) -> NDArray[np.uint16]:
        """(M, K) tokens of all blocks."""
        return blocks_of(self.tokens, self.side)

    @cached_property
    def decisions(self) -> NDArray[np.bool_]:
        """(M, D) decisions of all blocks."""
        rows, columns = self.shape
        coarser: Any = self.coarser if self.coarser is not None else [None] * len(self.tokens)
        return np.array(
            [
                self.decide(seen, level, row, column)
                for level, seen in zip(self.tokens, coarser, strict=True)
                for row in range(rows)
                for column in range(columns)
            ]
        ).reshape(-1, len(self.places))

    def decide(
        self, coarser: Images | None, level: Tokens, row: int, column: int
    ) -> NDArray[np.bool_]:
        """Return the (D,) decisions about the surroundings of a block."""
        around = surroundings_reference(coarser, level, self.side, row, column)
        found = np.zeros(len(self.places), dtype=np.bool_)
        node = 0
        for d, place in enumerate(self.places):
            value = int((self.weights[place] * around).sum())
            found[d] = value > self.thresholds[2**d - 1 + node]
            node = 2 * node + int(found[d])
        return found


def levels_of(index: SpatialIndex, tokenizer: Any) -> list[Level]:
    """Put the blocks of an index back into documents."""
    layout, found = index.layout, []
    coarser: Images | None = None
    for n, (stored, side) in enumerate(zip(index.levels, index.sides, strict=True)):
        rows, columns = layout.heights[n] // side, layout.widths[n] // side
        blocks = np.asarray(stored.blocks)[np.asarray(stored.ranks)]
        parts = blocks.reshape(-1, rows, columns, side, side, layout.num_channels)
        shape = (-1, layout.heights[n], layout.widths[n], layout.num_channels)
        tokens = parts.swapaxes(2, 3).reshape(shape)
        kept = (np.asarray(each) for each in (stored.weights, stored.places, stored.thresholds))
        found.append(Level(tokens, coarser, side, *kept))
        coarser = pictures(tokenizer, n, tokens, coarser)
    return found


def reference_rows(
    index: SpatialIndex, tokenizer: Any, job: Job, advance: Callable[[int], None]
) -> tuple[Tokens, Trace]:
    """Write (B, T) tokens and their trace."""
    levels = levels_of(index, tokenizer)
    knobs = knobs_of(job.sampler, index.layout, index.sides, index.num_documents)
    tokens_BT, trace = job.start()
    for b in range(len(job.samples)):
        gave = np.zeros(index.num_documents, dtype=np.int64)
        coarser, base, coarse = None, None, np.zeros((0, 0), dtype=np.int64)
        for n, part in enumerate(index.layout.level_slices):
            step = _Steps(levels[n], knobs[n], job, coarser, coarse, gave, part.start)
            coarse = step.write(b, tokens_BT, trace)
            coarser = decoded(step.row(tokens_BT[b]), base)
            if n + 1 < index.layout.num_levels:
                base = tokenizer.enlarged(coarser, n + 1)
        advance(index.layout.num_tokens)
    return tokens_BT, trace


@dataclass(frozen=True, eq=False)
class _Steps:
    """The steps of one level of one sample; ``gave``: tokens of the sample by document."""

    level: Level
    knobs: Knobs
    job: Job
    coarser: Images | None
    coarse: NDArray[np.int64]
    gave: NDArray[np.int64]
    first: int

    def row(self, row_T: Tokens) -> Tokens:
        """Return the (H, W, C) view of the level in a row of tokens, or of its trace."""
        shape = self.level.tokens.shape[1:]
        return row_T[self.first : self.first + int(np.prod(shape))].reshape(shape)

    def write(self, b: int, tokens_BT: Tokens, trace: Trace) -> NDArray[np.int64]:
        """Write the level; return the (rows, columns) occurrences that it took."""
        level, side = self.level, self.level.side
        tokens = self.row(tokens_BT[b])
        taken = np.full(level.shape, -1, dtype=np.int64)
        steps = np.zeros_like(self.gave)
        positions = np.arange(tokens.size).reshape(tokens.shape) + self.first
        of_blocks = blocks_of(positions[None], side)
        size, per = of_blocks.shape[1], taken.size
        for at in range(per):
            row, column = divmod(at, level.shape[1])
            fits = (self.gave + size <= self.knobs.most_tokens) & (steps < self.knobs.most_steps)
            shared, run = self._candidates(tokens, row, column, taken, fits)
            p = weigh(level.blocks[run], fits[run // per], self.knobs.temperature)
            one, two = uniforms(
                seed=self.job.seed,
                sample=int(self.job.samples[b]),
                position=int(of_blocks[at, 0]),
            )
            chosen = run[draw(p, one)]
            if self.job.forced is None:
                tokens_BT[b, of_blocks[at]] = level.blocks[chosen]
            block = tokens_BT[b, of_blocks[at]]
            alike = [
                (source, share)
                for source, share in zip(run, p, strict=True)
                if share > 0 and (level.blocks[source] == block).all()
            ]
            if not alike:
                chosen = -1
            elif chosen not in [source for source, _ in alike]:
                chosen = alike[min(int(two * len(alike)), len(alike) - 1)][0]
            probability = 0.0
            for _, share in alike:
                probability += share
            if chosen >= 0:
                taken[row, column] = chosen
                steps[chosen // per] += 1
                self.gave[chosen // per] += size
            notes = {
                "suffix_len": shared,
                "num_contexts": len(run),
                "num_distinct": min(len(np.unique(level.blocks[run], axis=0)), 65535),
                "probability": probability ** (1.0 / size),
                "entropy": entropy_bits(p) / size,
                "source_document": chosen // per if chosen >= 0 else -1,
                "source_position": of_blocks[chosen % per] if chosen >= 0 else -1,
            }
            for name, value in notes.items():
                trace[name][b, of_blocks[at]] = value
        return taken

    def _candidates(
        self,
        tokens: Tokens,
        row: int,
        column: int,
        taken: NDArray[np.int64],
        fits: NDArray[np.bool_],
    ) -> tuple[int, NDArray[np.int64]]:
        """Return the number of shared decisions, and the candidates in sorted order."""
        decisions, per = self.level.decisions, taken.size
        own = self.level.decide(self.coarser, tokens, row, column)
        # Decisions in common, from the first one on.
        common = np.cumprod(decisions == own, axis=1).sum(axis=1)
        best = (-1, -1)
        if self.knobs.follow >= 0:
            for source in self._continuations(row, column, taken):
                is_near = source >= 0 and fits[source // per]
                if is_near and common[source] >= max(self.knobs.follow, best[0] + 1):
                    best = (int(common[source]), source)
        if best[0] >= 0:
            return best[0], np.array([best[1]])
        for shared in range(decisions.shape[1], -1, -1):
            run = np.flatnonzero(common >= shared)
            documents = (run // per)[fits[run // per]]
            enough = len(documents) >= self.knobs.min_count
            if enough and len(np.unique(documents)) >= self.knobs.min_documents:
                break
        order = np.lexsort((run, *decisions[run].T[::-1]))
        return shared, run[order]

    def _continuations(self, row: int, column: int, taken: NDArray[np.int64]) -> list[int]:
        """Return what goes on right of the left, below the upper, inside the coarser source."""
        rows, columns = taken.shape
        found = []
        if column and (source := int(taken[row, column - 1])) >= 0:
            found.append(source + 1 if source % columns < columns - 1 else -1)
        if row and (source := int(taken[row - 1, column])) >= 0:
            found.append(source + columns if source % taken.size // columns < rows - 1 else -1)
        times = nesting(self.coarse.shape, taken.shape)
        if times and (source := int(self.coarse[row // times, column // times])) >= 0:
            document, block = divmod(source, self.coarse.size)
            y, x = divmod(block, self.coarse.shape[1])
            y, x = y * times + row % times, x * times + column % times
            found.append(document * taken.size + y * columns + x)
        return found
