"""The definition of the smoothed spatial model, token by token and slow; tests compare with it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.smoothed_spatial.contexts import ERRORS, MOST, SPREAD, Contexts
from imagegram.generators.smoothed_spatial.index import node_counts
from imagegram.generators.smoothed_spatial.levels import Level
from imagegram.generators.smoothed_spatial.surroundings import (
    WHOLE,
    ZERO,
    numbers_reference,
    places_reference,
)

_VOCAB_SIZE: Final = 256


def guess_reference(
    level: Level, document: int, place: tuple[int, int, int], contexts: Contexts
) -> tuple[int, int, NDArray[np.int64]]:
    """Return the class of a token, its guess in parts of WHOLE, and its surroundings."""
    row, column, colour = place
    coarser = level.coarser[document] if level.has_coarser else None
    numbers = numbers_reference(
        level.tokens[document], coarser, level.bases[document], row, column, colour
    )
    cls = 4 * colour + (2 * (row % 2) + column % 2 if level.has_coarser else 0)
    return cls, int(contexts.weights[cls] @ numbers), numbers


def rounded(guess: int) -> int:
    """Return a guess as a token, counted from ZERO.

    >>> rounded(WHOLE), rounded(WHOLE // 2 - 1), rounded(-200 * WHOLE)
    (1, 0, -128)
    """
    whole = (guess + WHOLE // 2) // WHOLE
    return min(max(whole, -ZERO), _VOCAB_SIZE - 1 - ZERO)


def leaf_reference(
    level: Level,
    document: int,
    place: tuple[int, int, int],
    contexts: Contexts,
    errors: NDArray[Any],
) -> int:
    """Return the leaf of a token: its decisions as the bits of a number, the first the highest.

    Args:
        level: a level of some documents; tokens from the place on are not read.
        document: number of the document.
        place: row, column and colour of the token.
        contexts: of the level.
        errors: (H, W, 3) tokens less their rounded guesses, of the tokens before.
    """
    cls, guess, numbers = guess_reference(level, document, place, contexts)
    values = places_reference(numbers, guess, errors, *place, has_coarser=level.has_coarser)
    node = 0
    for d in range(int(contexts.depths[cls])):
        threshold = contexts.thresholds[cls, 2**d - 1 + node]
        node = 2 * node + int(values[contexts.places[cls, d]] > threshold)
    return node


def chance_reference(
    counts_LE: NDArray[Any], strengths_D: NDArray[Any], leaf: int, depth: int, error: int
) -> float:
    """Return the probability of an error of a guess in a leaf, by the formula of ``index.py``."""
    chance = 1.0 / ERRORS
    for d in range(depth + 1):
        counts = node_counts(counts_LE, d)[leaf >> (depth - d)]
        own = float(counts[error + MOST])
        chance = (own + strengths_D[d] * chance) / (float(counts.sum()) + strengths_D[d])
    return chance


def distribution_reference(chances_E: NDArray[Any], guess: int, base: int) -> NDArray[np.float64]:
    """Return the (256,) probabilities of a token.

    Args:
        chances_E: (ERRORS,) probabilities of the errors of its guess.
        guess: of the token, in parts of WHOLE.
        base: colour that the token is added to.
    """
    p = np.zeros(_VOCAB_SIZE)
    for token in range(_VOCAB_SIZE):
        if 0 <= base + token - ZERO <= MOST:  # the colour is in its range
            p[token] = chances_E[token - ZERO - rounded(guess) + MOST]
    p *= (1 - SPREAD) / p.sum()
    return p + SPREAD / _VOCAB_SIZE
