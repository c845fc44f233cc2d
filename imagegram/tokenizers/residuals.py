"""The values that residuals of a pyramid may have: all of a byte, or a few.

A residual is written as the id of the value nearest to it, the lower in size of two that are as
near. Residual 0 is id 128 whatever the values are, and the ids of the values lie around it.

>>> few = ResidualValues.of(5, "uniform")
>>> few.values[126:131].tolist()
[-127, -64, 0, 64, 127]
>>> [int(few.nearest[residual + 255]) for residual in (-200, -20, 0, 40, 100)]
[126, 128, 128, 129, 130]
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean

#: Residual 0 is written as this id.
ZERO_RESIDUAL: Final = 128
#: Spacings of fewer values than all.
SPACINGS: Final = ("uniform", "companded")
#: Largest residual of a pixel, and largest value where not all are there.
_MOST: Final = 255
_LARGEST: Final = 127
#: Strength of the companding, as of G.711 (ITU-T 1988).
_MU: Final = 255


class ResidualValues(NamedTuple):
    """What ids of residual levels stand for, and the id of every residual.

    Attributes:
        values: (256,) int16, the residual of every id; ids beyond the last value have the last.
        nearest: (511,) uint8, the id of residual r at r + 255.
    """

    values: NDArray[np.int16]
    nearest: NDArray[np.uint8]

    @classmethod
    def of(cls, number: int | None, spacing: str) -> ResidualValues:
        """Return some number of values.

        Args:
            number: odd, 3 ... 255; None: all from -128 to 127.
            spacing: ``uniform`` (equal steps), or ``companded`` (the mu-law: steps grow with the
                value); all values have the same.

        Raises:
            ConfigError: for another number or spacing.
        """
        if spacing not in SPACINGS:
            raise ConfigError(
                f"tokenizer.residual_spacing={spacing!r}: {did_you_mean(spacing, SPACINGS)}"
            )
        if number is None:
            positive = np.arange(1, _LARGEST + 1)
            values = np.concatenate((-positive[::-1], [0], positive))
            return cls._around(np.concatenate(([-_LARGEST - 1], values)))
        if type(number) is not int or number % 2 == 0 or not 3 <= number <= 2 * _LARGEST + 1:
            raise ConfigError(
                f"tokenizer.residual_levels must be odd, 3 to {2 * _LARGEST + 1}, so that 0 is one "
                f"of them, got {number!r}; null: all 256"
            )
        positive = _positive(number // 2, spacing)
        return cls._around(np.concatenate((-positive[::-1], [0], positive)))

    @classmethod
    def _around(cls, ascending: NDArray[np.int64]) -> ResidualValues:
        """Give ids to ascending values: 128 to 0."""
        first = ZERO_RESIDUAL - int(np.flatnonzero(ascending == 0)[0])
        places = np.clip(np.arange(256) - first, 0, len(ascending) - 1)
        residuals = np.arange(-_MOST, _MOST + 1)
        # Sorted by size, so that argmin takes the smaller of two that are as near.
        by_size = np.argsort(np.abs(ascending), kind="stable")
        found = by_size[np.abs(residuals[:, None] - ascending[by_size]).argmin(axis=1)]
        return cls(ascending[places].astype(np.int16), (found + first).astype(np.uint8))


def _positive(number: int, spacing: str) -> NDArray[np.int64]:
    """Return so many ascending values, the last 127."""
    share = np.arange(1, number + 1) / number
    if spacing == "companded":
        share = np.expm1(share * np.log1p(_MU)) / _MU
    values = np.rint(share * _LARGEST).astype(np.int64)
    # Small values of fine steps round to the same number; each is at least one above another.
    return np.maximum(values, np.arange(1, number + 1))
