"""Compiled surroundings, guesses, contexts and probabilities of tokens of a pyramid.

``surroundings.py`` and ``reference.py`` define what these compute.

Array names: ``N`` documents, ``H`` and ``W`` rows and columns of a level, ``J`` classes of tokens.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from imagegram.compiled import njit
from imagegram.generators.smoothed_spatial.contexts import MOST, SPREAD
from imagegram.generators.smoothed_spatial.surroundings import (
    BASE_AT,
    BEFORE,
    DRAWN_AT,
    HERE_AT,
    NUMBERS,
    PLACES,
    WHOLE,
    WINDOW,
    ZERO,
)

_VOCAB: Final = 256
_AROUND: Final = 6
_MIDDLE: Final = WINDOW // 2


@njit(inline="always")
def class_of(row: Any, column: Any, colour: Any, has_coarser: Any) -> Any:
    """Return the class of a token: of a first level, only its colour."""
    if has_coarser:
        return 4 * colour + 2 * (row % 2) + column % 2
    return 4 * colour


@njit(inline="always")
def _nearest(row: Any, column: Any, dy: Any, dx: Any, width: Any) -> Any:
    """Return row * width + column of the nearest pixel drawn before; -1: nothing is drawn."""
    y = max(row + dy, 0)
    x = min(max(column + dx, 0), width - 1)
    if y == row and x >= column:
        if row > 0:
            return (row - 1) * width + column
        return column - 1
    return y * width + x


@njit(cache=True, nogil=True)
def _fill_numbers(
    level: Any,
    coarser: Any,
    base: Any,
    row: Any,
    column: Any,
    colour: Any,
    has_coarser: Any,
    values: Any,
) -> None:
    """Write the (NUMBERS,) int64 surroundings of a token."""
    height, width = level.shape[0], level.shape[1]
    if has_coarser:
        rows, columns = coarser.shape[0], coarser.shape[1]
        at_y, at_x = row * rows // height, column * columns // width
        for n in range(WINDOW * WINDOW):
            near = min(max(at_y + n // WINDOW - _MIDDLE, 0), rows - 1)
            beside = min(max(at_x + n % WINDOW - _MIDDLE, 0), columns - 1)
            for c in range(3):
                values[3 * n + c] = coarser[near, beside, c]
    else:
        values[:DRAWN_AT] = 0
    for n in range(BEFORE.shape[0]):
        at = _nearest(row, column, BEFORE[n, 0], BEFORE[n, 1], width)
        for c in range(3):
            values[DRAWN_AT + 3 * n + c] = level[at // width, at % width, c] if at >= 0 else 0
    for c in range(2):
        values[HERE_AT + c] = level[row, column, c] if c < colour else 0
    for c in range(3):
        values[BASE_AT + c] = base[row, column, c]
    values[NUMBERS - 1] = 1


@njit(inline="always")
def _guess(weights: Any, values: Any) -> Any:
    """Return the guess of a token, in parts of WHOLE."""
    total = np.int64(0)
    for n in range(NUMBERS):
        total += weights[n] * values[n]
    return total


@njit(inline="always")
def _rounded(guess: Any) -> Any:
    """Return the guess as a token, counted from ZERO."""
    return min(max((guess + WHOLE // 2) >> 16, -ZERO), _VOCAB - 1 - ZERO)


@njit(cache=True, nogil=True)
def _fill_places(
    values: Any,
    guess: Any,
    errors: Any,
    row: Any,
    column: Any,
    colour: Any,
    has_coarser: Any,
    places: Any,
) -> None:
    """Write the (P,) int64 values of the places, in the order of PLACES."""
    width = errors.shape[1]
    total = np.int64(0)
    signed = np.int64(0)
    for n in range(_AROUND):
        at = _nearest(row, column, BEFORE[n, 0], BEFORE[n, 1], width)
        error = np.int64(errors[at // width, at % width, colour]) if at >= 0 else np.int64(0)
        total += abs(error) * (2 if n < 2 else 1)
        if n < 2:
            signed += error
    here, last = np.int64(0), np.int64(0)
    for c in range(colour):
        last = np.int64(errors[row, column, c])
        here += abs(last)
    slopes = np.int64(0)
    if has_coarser:
        centre = values[3 * (_MIDDLE * WINDOW + _MIDDLE) + colour]
        for step in (1, -1, WINDOW, -WINDOW):
            slopes += abs(values[3 * (_MIDDLE * WINDOW + _MIDDLE + step) + colour] - centre)
    left, above = values[DRAWN_AT + colour], values[DRAWN_AT + 3 + colour]
    corner, beyond = values[DRAWN_AT + 6 + colour], values[DRAWN_AT + 9 + colour]
    places[0] = total
    places[1] = here
    places[2] = slopes
    places[3] = abs(left - corner) + abs(above - corner) + abs(above - beyond)
    places[4] = guess + WHOLE * values[BASE_AT + colour]
    places[5] = guess
    places[6] = last
    places[7] = signed
    places[8] = row
    places[9] = column


@njit(inline="always")
def _leaf(contexts: Any, cls: Any, places: Any) -> Any:
    """Return the node of a context after all its decisions."""
    node = np.int64(0)
    for d in range(contexts.depths[cls]):
        value = places[contexts.places[cls, d]]
        above = value > contexts.thresholds[cls, (1 << d) - 1 + node]
        node = 2 * node + np.int64(above)
    return node


@njit(cache=True, nogil=True)
def numbers_of(levels: Any, coarser: Any, bases: Any, cls: Any, has_coarser: Any, out: Any) -> None:
    """Write the (M, NUMBERS) surroundings of all tokens of a class, document by document."""
    done = 0
    for i in range(levels.shape[0]):
        for row in range(levels.shape[1]):
            for column in range(levels.shape[2]):
                colour = cls // 4
                if class_of(row, column, colour, has_coarser) == cls:
                    _fill_numbers(
                        levels[i],
                        coarser[i],
                        bases[i],
                        row,
                        column,
                        colour,
                        has_coarser,
                        out[done],
                    )
                    done += 1


@njit(cache=True, nogil=True)
def errors_of(
    levels: Any, coarser: Any, bases: Any, weights: Any, has_coarser: Any, errors: Any
) -> None:
    """Write the (N, H, W, 3) int16 tokens less their rounded guesses."""
    values = np.zeros(NUMBERS, dtype=np.int64)
    for i in range(levels.shape[0]):
        for row in range(levels.shape[1]):
            for column in range(levels.shape[2]):
                for c in range(3):
                    _fill_numbers(
                        levels[i], coarser[i], bases[i], row, column, c, has_coarser, values
                    )
                    cls = class_of(row, column, c, has_coarser)
                    guess = _rounded(_guess(weights[cls], values))
                    errors[i, row, column, c] = levels[i, row, column, c] - guess


@njit(cache=True, nogil=True)
def places_of(
    levels: Any,
    coarser: Any,
    bases: Any,
    weights: Any,
    errors: Any,
    cls: Any,
    has_coarser: Any,
    out: Any,
    missed: Any,
) -> None:
    """Write the (M, P) places of all tokens of a class, and the (M,) errors of their guesses."""
    values = np.zeros(NUMBERS, dtype=np.int64)
    colour = cls // 4
    done = 0
    for i in range(levels.shape[0]):
        for row in range(levels.shape[1]):
            for column in range(levels.shape[2]):
                if class_of(row, column, colour, has_coarser) == cls:
                    _fill_numbers(
                        levels[i], coarser[i], bases[i], row, column, colour, has_coarser, values
                    )
                    guess = _guess(weights[cls], values)
                    _fill_places(
                        values, guess, errors[i], row, column, colour, has_coarser, out[done]
                    )
                    missed[done] = errors[i, row, column, colour]
                    done += 1


@njit(cache=True, nogil=True)
def leaves_of(
    levels: Any,
    coarser: Any,
    bases: Any,
    contexts: Any,
    has_coarser: Any,
    errors: Any,
    leaves: Any,
) -> None:
    """Write the (N, H, W, 3) int16 errors of guesses, and the int32 leaf of every token."""
    values = np.zeros(NUMBERS, dtype=np.int64)
    places = np.zeros(len(PLACES), dtype=np.int64)
    for i in range(levels.shape[0]):
        for row in range(levels.shape[1]):
            for column in range(levels.shape[2]):
                for c in range(3):
                    _fill_numbers(
                        levels[i], coarser[i], bases[i], row, column, c, has_coarser, values
                    )
                    cls = class_of(row, column, c, has_coarser)
                    guess = _guess(contexts.weights[cls], values)
                    _fill_places(values, guess, errors[i], row, column, c, has_coarser, places)
                    leaves[i, row, column, c] = _leaf(contexts, cls, places)
                    errors[i, row, column, c] = levels[i, row, column, c] - _rounded(guess)


@njit(cache=True, nogil=True)
def count(leaves: Any, errors: Any, has_coarser: Any, counts: Any) -> None:
    """Add every token to the (J, 2^D, ERRORS) counts of its class and leaf."""
    for i in range(leaves.shape[0]):
        for row in range(leaves.shape[1]):
            for column in range(leaves.shape[2]):
                for c in range(3):
                    cls = class_of(row, column, c, has_coarser)
                    error = errors[i, row, column, c] + MOST
                    counts[cls, leaves[i, row, column, c], error] += 1


@njit(inline="always")
def _allowed(base: Any) -> Any:
    """Return the first and last token, counted from ZERO, that leave a colour in its range."""
    return max(-base, -ZERO), min(MOST - base, _VOCAB - 1 - ZERO)


@njit(inline="always")
def _sum(chance: Any, guess: Any, first: Any, last: Any) -> Any:
    """Return the sum of the chances of the tokens from the first to the last one."""
    total = 0.0
    for u in range(first, last + 1):
        total += chance[u - guess + MOST]
    return total


@njit(cache=True, nogil=True)
def probabilities_of(
    levels: Any, bases: Any, leaves: Any, errors: Any, chances: Any, has_coarser: Any, out: Any
) -> None:
    """Write the (N, H, W, 3) float64 probability of every token."""
    for i in range(levels.shape[0]):
        for row in range(levels.shape[1]):
            for column in range(levels.shape[2]):
                for c in range(3):
                    cls = class_of(row, column, c, has_coarser)
                    chance = chances[cls, leaves[i, row, column, c]]
                    token, error = levels[i, row, column, c], errors[i, row, column, c]
                    first, last = _allowed(np.int64(bases[i, row, column, c]))
                    total = _sum(chance, np.int64(token) - error, first, last)
                    p = SPREAD / _VOCAB
                    if first <= token <= last:
                        p += (1.0 - SPREAD) * chance[error + MOST] / total
                    out[i, row, column, c] = p


@njit(cache=True, nogil=True)
def next_tokens(
    levels: Any,
    coarser: Any,
    bases: Any,
    contexts: Any,
    errors: Any,
    chances: Any,
    row: Any,
    column: Any,
    colour: Any,
    has_coarser: Any,
    guesses: Any,
    out: Any,
) -> None:
    """Write the (N, 256) float64 probabilities of the next token of every document.

    Args:
        levels: (N, H, W, 3) int16 tokens so far, counted from ZERO.
        coarser: (N, H', W', 3) uint8.
        bases: (N, H, W, 3) uint8.
        contexts: :class:`Contexts` of the level.
        errors: (N, H, W, 3) int16, of the tokens so far.
        chances: (J, 2^D, ERRORS) float32.
        row: of the pixel.
        column: of the pixel.
        colour: 0, 1, 2.
        has_coarser: whether there is a coarser level.
        guesses: (N,) int16, written: rounded guesses.
        out: written.
    """
    values = np.zeros(NUMBERS, dtype=np.int64)
    places = np.zeros(len(PLACES), dtype=np.int64)
    cls = class_of(row, column, colour, has_coarser)
    for i in range(levels.shape[0]):
        _fill_numbers(levels[i], coarser[i], bases[i], row, column, colour, has_coarser, values)
        guess = _guess(contexts.weights[cls], values)
        _fill_places(values, guess, errors[i], row, column, colour, has_coarser, places)
        chance = chances[cls, _leaf(contexts, cls, places)]
        rounded = _rounded(guess)
        guesses[i] = rounded
        first, last = _allowed(np.int64(bases[i, row, column, colour]))
        total = _sum(chance, rounded, first, last)
        for token in range(_VOCAB):
            u = token - ZERO
            out[i, token] = SPREAD / _VOCAB
            if first <= u <= last:
                out[i, token] += (1.0 - SPREAD) * chance[u - rounded + MOST] / total
