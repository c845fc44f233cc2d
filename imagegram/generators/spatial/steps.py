"""What both engines share: the knobs of a level as numbers, the budget, and the weights of a draw.

The kernels compile these very functions, so interpreted and compiled they give the same bits.

>>> blocks_MK = np.array([[0, 0], [4, 0], [2, 0]])
>>> weigh(blocks_MK, np.ones(3, dtype=np.bool_), 0.0).tolist()
[0.0, 0.0, 1.0]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.generators.ngram.trace import empty_trace
from imagegram.generators.spatial.passes import Pass
from imagegram.layout import TokenLayout
from imagegram.records import Tokens, Trace
from imagegram.samplers.spatial import SpatialSampler

#: Temperature of a sampler whose candidates are all alike.
ALIKE: Final = -1.0
#: No limit of what a document may give, and no following.
ANY: Final = 2**62
NEVER: Final = -1
#: Neighbours of a block of a pyramid whose occurrence may go on: left, above, the coarser block.
NEIGHBOURS: Final = 3
#: (rows, columns) to those of a place of a grid.
AROUND: Final = ((0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))


class Knobs(NamedTuple):
    """The sampler on one level, as numbers.

    Attributes:
        min_count, min_documents: fewest occurrences, and documents of theirs.
        temperature: of the draw; :data:`ALIKE`.
        most_steps: steps that one document may give to the level.
        most_tokens: tokens that one document may give to the sample.
        follow: decisions that a continuation must share; :data:`NEVER`.
        nearest: candidates that may be drawn, those of the most alike surroundings; :data:`ANY`.
    """

    min_count: int
    min_documents: int
    temperature: float
    most_steps: int
    most_tokens: int
    follow: int
    nearest: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Rows to write or to trace.

    Attributes:
        sampler: the knobs.
        layout: of the documents.
        samples: (B,) sample ids.
        seed: 0 ... 2**64 - 1.
        forced: (B, T) tokens that are given, and only traced; None: all are drawn.
        workers: threads.
    """

    sampler: SpatialSampler
    layout: TokenLayout
    samples: NDArray[np.uint64]
    seed: int
    forced: Tokens | None = None
    workers: int = 1

    def start(self) -> tuple[Tokens, Trace]:
        """Make (B, T) tokens, the given ones or zeros, and an empty trace."""
        shape = (len(self.samples), self.layout.num_tokens)
        tokens = np.zeros(shape, np.uint16) if self.forced is None else self.forced.copy()
        return tokens, empty_trace(*shape)


def knobs_of(
    sampler: SpatialSampler, passes: Sequence[Pass], num_documents: int
) -> tuple[Knobs, ...]:
    """Return the knobs of every pass.

    Raises:
        ConfigError: when the documents are too few for what each may give.
    """
    found, total = [], 0
    unit = math.gcd(*(part.size for part in passes))
    for level, part in enumerate(passes):
        steps, size = part.num_steps, part.size
        temperature = sampler.of_level("temperature", level)
        follow, nearest = sampler.of_level("follow", level), sampler.of_level("nearest", level)
        knobs = Knobs(
            min_count=sampler.of_level("min_count", level),
            min_documents=sampler.of_level("min_documents", level),
            temperature=ALIKE if temperature is None else float(temperature),
            most_steps=max(1, int(sampler.of_level("max_share", level) * steps)),
            most_tokens=ANY if sampler.max_run is None else sampler.max_run,
            follow=NEVER if follow is None else follow,
            nearest=ANY if nearest is None else nearest,
        )
        if knobs.most_tokens < size:
            raise ConfigError(
                f"sampler.max_run={sampler.max_run} is shorter than a block of level {level}, "
                f"which has {size} tokens; type sampler.max_run={size} or more, or smaller blocks"
            )
        # The fewest tokens after which a document has none left to give, and how many are given.
        spent = -(-(knobs.most_tokens - size + 1) // unit) * unit
        total += steps * size
        at_most = total // spent + (steps // knobs.most_steps if knobs.most_steps < steps else 0)
        if num_documents <= at_most:
            raise ConfigError(
                f"{num_documents:,} training documents are too few for level {level}, where each "
                f"may give {knobs.most_steps} of {steps} steps and {sampler.max_run or 'any'} "
                "tokens of a sample; raise sampler.max_share or sampler.max_run, or type "
                "sampler.max_share=1 sampler.max_run=null"
            )
        found.append(knobs)
    return tuple(found)


def weigh(
    blocks_MK: NDArray[Any], allowed_M: NDArray[np.bool_], temperature: float
) -> NDArray[np.float64]:
    """Return the (M,) probabilities of occurrences: see ``SpatialSampler.temperature``.

    Args:
        blocks_MK: (M, K) tokens of the candidates.
        allowed_M: which of them may be drawn, at least one.
        temperature: 0, a positive number, or :data:`ALIKE`.
    """
    count = blocks_MK.shape[0]
    weights = np.zeros(count, dtype=np.float64)
    num_allowed = 0
    for m in range(count):
        if allowed_M[m]:
            weights[m] = 1.0
            num_allowed += 1
    if temperature != ALIKE and num_allowed > 1:
        distances, spread, nearest = distances_to_mean(blocks_MK, allowed_M, num_allowed)
        if temperature == 0.0:
            weights[:] = 0.0
            weights[nearest] = 1.0
        elif spread > 0.0:
            for m in range(count):
                if allowed_M[m]:
                    # Beside the nearest: at a low temperature its weight is still 1.
                    off = distances[m] - distances[nearest]
                    weights[m] = math.exp(-off / (temperature * spread))
    total = 0.0
    for m in range(count):
        total += weights[m]
    for m in range(count):
        weights[m] /= total
    return weights


def distances_to_mean(
    blocks_MK: NDArray[Any], allowed_M: NDArray[np.bool_], num_allowed: int
) -> tuple[NDArray[np.float64], float, int]:
    """Return squared distances to the mean of allowed blocks, their mean, and the nearest block.

    Distances are multiplied with the squared number of allowed blocks, which keeps them whole.
    """
    count, width = blocks_MK.shape
    totals = np.zeros(width, dtype=np.int64)
    for m in range(count):
        if allowed_M[m]:
            for k in range(width):
                totals[k] += np.int64(blocks_MK[m, k])
    distances = np.zeros(count, dtype=np.float64)
    spread, nearest = 0.0, -1
    for m in range(count):
        if allowed_M[m]:
            for k in range(width):
                off = float(num_allowed * np.int64(blocks_MK[m, k]) - totals[k])
                distances[m] += off * off
            spread += distances[m]
            if nearest < 0 or distances[m] < distances[nearest]:
                nearest = m
    return distances, spread / num_allowed, nearest


def num_distinct(blocks_MK: NDArray[Any]) -> int:
    """Return the number of distinct blocks, by a hash of 64 bits."""
    count, width = blocks_MK.shape
    hashes = np.empty(count, dtype=np.uint64)
    for m in range(count):
        value = np.uint64(14695981039346656037)
        for k in range(width):
            value = (value ^ np.uint64(blocks_MK[m, k])) * np.uint64(1099511628211)
        hashes[m] = value
    hashes.sort()
    found = 1
    for m in range(1, count):
        if hashes[m] != hashes[m - 1]:
            found += 1
    return found


def nesting(coarse: tuple[int, ...], fine: tuple[int, ...]) -> int:
    """Return how many blocks of a level a coarser block is wide; 0: it is no whole number.

    >>> nesting((2, 2), (8, 8)), nesting((3, 3), (8, 8)), nesting((0, 0), (8, 8))
    (4, 0, 0)
    """
    if not coarse[0] or fine[0] % coarse[0]:
        return 0
    times = fine[0] // coarse[0]
    return times if coarse[1] * times == fine[1] else 0


def decoded(tokens: NDArray[np.uint16], base: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return the picture of a level: its tokens, or what they add to the enlarged coarser one."""
    if base is None:
        return tokens.astype(np.uint8)
    residuals = tokens.astype(np.int16) - 128
    picture: NDArray[np.uint8] = np.clip(base.astype(np.int16) + residuals, 0, 255).astype(np.uint8)
    return picture
