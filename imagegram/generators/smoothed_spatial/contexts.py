"""Contexts of the tokens of a level: what the counts are counted of. Imports no compiler."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.smoothed_spatial.surroundings import WHOLE

#: Classes of a level: three colours, four places of a pixel in a pair of rows and columns.
CLASSES: Final = 12
#: Errors of guesses are -MOST ... MOST.
MOST: Final = 255
#: Different errors.
ERRORS: Final = 2 * MOST + 1
#: Share of a probability that is spread over all tokens, also those that no picture has here.
SPREAD: Final = 1.0 / WHOLE


class Contexts(NamedTuple):
    """The contexts of one level, of :data:`CLASSES` classes of tokens.

    Attributes:
        weights: (J, NUMBERS) int64 of the guess.
        places: (J, D) int64 place that each decision asks.
        depths: (J,) int64 number of decisions.
        thresholds: (J, 2^D - 1) int64 of the nodes, decision by decision.
    """

    weights: NDArray[np.int64]
    places: NDArray[np.int64]
    depths: NDArray[np.int64]
    thresholds: NDArray[np.int64]
