"""Surroundings of one token of a pyramid, and the places that its context asks.

A token is one colour of one pixel of a level. What is known before it is drawn: the picture of the
coarser level, the pixels of its own level that come before it in raster order, and the colours of
its own pixel that come before its own. :func:`numbers_reference` lists these as whole numbers, of
which a *guess* of the token is a weighted sum. :func:`places_reference` lists what decides how far
the guess may be off: how far guesses were off nearby, how steep the coarser picture is.

Tokens are counted from :data:`ZERO`, so that a residual of 0 is 0 and mid-grey of the first level
is 0. A pixel outside the picture reads as the nearest one that was drawn, and 0 where there is
none.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

#: Token of the residual 0.
ZERO: Final = 128
#: Side of the window of the coarser picture.
WINDOW: Final = 5
#: (rows, columns) from a pixel to those drawn before it.
BEFORE: Final = np.array(
    [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-2, 1), (-2, -1), (-1, 2)]
)
#: Where the pixels drawn before, the colours of this pixel, and the enlarged picture begin.
DRAWN_AT: Final = 3 * WINDOW * WINDOW
HERE_AT: Final = DRAWN_AT + 3 * len(BEFORE)
BASE_AT: Final = HERE_AT + 2
#: How many numbers the surroundings are; the last is always 1.
NUMBERS: Final = BASE_AT + 4
#: Weights of a guess are whole parts of this.
WHOLE: Final = 1 << 16
#: What a decision may ask, by name.
PLACES: Final = (
    "errors",  # how far guesses of this colour were off at the pixels around
    "errors_here",  # how far those of the colours before it were off at this pixel
    "slopes",  # how steep the coarser picture is here, in this colour
    "texture",  # how much the pixels around differ, in this colour
    "value",  # the colour that is guessed
    "guess",  # the guess, counted from the enlarged coarser picture
    "error_here",  # by how much the guess of the colour before it was too low at this pixel
    "error_around",  # the same of this colour at the pixels to the left and above
    "row",
    "column",
)


def numbers_reference(
    level: NDArray[Any],
    coarser: NDArray[Any] | None,
    base: NDArray[Any],
    row: int,
    column: int,
    colour: int,
) -> NDArray[np.int64]:
    """Return the (NUMBERS,) surroundings of a token: the definition of ``kernels._fill_numbers``.

    Args:
        level: (H, W, 3) tokens of the level, counted from ZERO; those not yet drawn are not read.
        coarser: (H', W', 3) picture of the coarser level; None: there is none.
        base: (H, W, 3) that picture enlarged, which residuals are added to; without, all ZERO.
        row: of the pixel.
        column: of the pixel.
        colour: 0, 1, 2.
    """
    height, width, _ = level.shape
    values = np.zeros(NUMBERS, dtype=np.int64)
    if coarser is not None:
        rows, columns = coarser.shape[:2]
        at_y, at_x = row * rows // height, column * columns // width
        for n in range(WINDOW * WINDOW):
            near = min(max(at_y + n // WINDOW - WINDOW // 2, 0), rows - 1)
            beside = min(max(at_x + n % WINDOW - WINDOW // 2, 0), columns - 1)
            values[3 * n : 3 * n + 3] = coarser[near, beside]
    for n, (dy, dx) in enumerate(BEFORE):
        place = nearest_drawn(row, column, int(dy), int(dx), width)
        if place is not None:
            values[DRAWN_AT + 3 * n : DRAWN_AT + 3 * n + 3] = level[place]
    values[HERE_AT : HERE_AT + colour] = level[row, column, :colour]
    values[BASE_AT : BASE_AT + 3] = base[row, column]
    values[NUMBERS - 1] = 1
    return values


def nearest_drawn(row: int, column: int, dy: int, dx: int, width: int) -> tuple[int, int] | None:
    """Return the pixel at an offset, or the nearest one drawn before; None: nothing is drawn.

    >>> nearest_drawn(1, 0, 0, -1, 4), nearest_drawn(0, 2, -1, 0, 4), nearest_drawn(0, 0, -1, 0, 4)
    ((0, 0), (0, 1), None)
    """
    y, x = max(row + dy, 0), min(max(column + dx, 0), width - 1)
    if y == row and x >= column:
        # Left of the first column lies the pixel above; above the first row the pixel to the left.
        y, x = (row - 1, column) if row else (0, column - 1)
    return (y, x) if x >= 0 else None


def places_reference(
    numbers: NDArray[np.int64],
    guess: int,
    errors: NDArray[Any],
    row: int,
    column: int,
    colour: int,
    *,
    has_coarser: bool,
) -> NDArray[np.int64]:
    """Return the (P,) values of :data:`PLACES`: the definition of ``kernels._fill_places``.

    Args:
        numbers: (NUMBERS,) surroundings.
        guess: of the token, in parts of WHOLE.
        errors: (H, W, 3) by how much guesses were too low, of what was drawn before.
        row: of the pixel.
        column: of the pixel.
        colour: 0, 1, 2.
        has_coarser: whether there is a coarser level.
    """
    width = errors.shape[1]
    around = []
    for dy, dx in BEFORE[:6]:
        place = nearest_drawn(row, column, int(dy), int(dx), width)
        around.append(0 if place is None else int(errors[(*place, colour)]))
    left, above, corner, beyond = (int(numbers[DRAWN_AT + 3 * n + colour]) for n in (0, 1, 2, 3))
    here = [int(errors[row, column, before]) for before in range(colour)]
    window = numbers[:DRAWN_AT].reshape(WINDOW, WINDOW, 3)[:, :, colour]
    middle = WINDOW // 2
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    slopes = sum(abs(window[middle + y, middle + x] - window[middle, middle]) for y, x in steps)
    values = {
        "errors": 2 * abs(around[0]) + 2 * abs(around[1]) + sum(map(abs, around[2:])),
        "errors_here": sum(map(abs, here)),
        "slopes": int(slopes) if has_coarser else 0,
        "texture": abs(left - corner) + abs(above - corner) + abs(above - beyond),
        "value": guess + WHOLE * int(numbers[BASE_AT + colour]),
        "guess": guess,
        "error_here": here[-1] if here else 0,
        "error_around": around[0] + around[1],
        "row": row,
        "column": column,
    }
    return np.array([values[name] for name in PLACES], dtype=np.int64)
