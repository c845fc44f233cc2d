"""Places: what a context may be asked, and templates: which of them, in what order.

A place is a sum of the surroundings with whole weights: a colour, a slope, a neighbour. ``guess0``,
``guess1`` ... are fitted to the training documents: the principal axes of the least-squares guess
of a block from its surroundings, the most telling one first. Pyramids and grids of codes have
different surroundings, and so different places.

>>> Template(from_size=4, order=[{"place": "activity", "bits": 2}]).decisions
('activity', 'activity')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean

#: Numbers of the coarser picture, of the places drawn before, and of all; see ``surroundings.py``.
COARSE: Final = 75
_DRAWN: Final = 24
ROW: Final = COARSE + _DRAWN
COLUMN: Final = ROW + 1
ACTIVITY: Final = COLUMN + 1
SIZE: Final = ACTIVITY + 1

#: Of a grid: (rows, columns) from a place to those around it, and how many numbers a code is.
WINDOW: Final = tuple((y, x) for y in range(-3, 4) for x in range(-3, 4) if (y, x) != (0, 0))
AXES: Final = 8
GRID_ROW: Final = len(WINDOW) * AXES
GRID_COLUMN: Final = GRID_ROW + 1
GRID_ACTIVITY: Final = GRID_COLUMN + 1
GRID_SIZE: Final = GRID_ACTIVITY + 1
_NEIGHBOURS: Final = {
    "left": (0, -1),
    "above": (-1, 0),
    "above_left": (-1, -1),
    "above_right": (-1, 1),
    "two_left": (0, -2),
    "two_above": (-2, 0),
    "right": (0, 1),
    "below": (1, 0),
    "below_left": (1, -1),
    "below_right": (1, 1),
}

#: Begins the names of fitted places.
GUESS: Final = "guess"
_MOST_GUESSES: Final = 12
_COLOURS: Final = ("luma", "red", "blue")


def _coarse(dy: int, dx: int, colour: int) -> int:
    return 3 * ((dy + 2) * 5 + dx + 2) + colour


def _drawn(number: int, colour: int) -> int:
    return COARSE + 3 * number + colour


def _named() -> dict[str, dict[int, int]]:
    """Return the weights of every named place, by number of the surroundings."""
    found: dict[str, dict[int, int]] = {
        "row": {ROW: 1},
        "column": {COLUMN: 1},
        "activity": {ACTIVITY: 1},
    }
    for c, colour in enumerate(_COLOURS):
        found[f"parent_{colour}"] = {_coarse(0, 0, c): 1}
        found[f"slope_x_{colour}"] = {_coarse(0, 1, c): 1, _coarse(0, -1, c): -1}
        found[f"slope_y_{colour}"] = {_coarse(1, 0, c): 1, _coarse(-1, 0, c): -1}
        found[f"left_{colour}"] = {_drawn(0, c): 1, _drawn(1, c): 1}
        found[f"above_{colour}"] = {_drawn(2, c): 1, _drawn(3, c): 1}
        found[f"above_right_{colour}"] = {_drawn(5, c): 1}
    found["bend_luma"] = {
        _coarse(1, 1, 0): 1,
        _coarse(-1, -1, 0): 1,
        _coarse(1, -1, 0): -1,
        _coarse(-1, 1, 0): -1,
    }
    return found


def _grid_named() -> dict[str, dict[int, int]]:
    """Return the weights of every named place of a grid, by number of the surroundings."""
    found: dict[str, dict[int, int]] = {
        "row": {GRID_ROW: 1},
        "column": {GRID_COLUMN: 1},
        "activity": {GRID_ACTIVITY: 1},
    }
    for name, offset in _NEIGHBOURS.items():
        first = WINDOW.index(offset) * AXES
        found |= {f"{name}_{axis}": {first + axis: 1} for axis in range(AXES)}
    return found


#: Places of pyramids and of grids with a name of their own.
NAMED: Final[Mapping[str, Mapping[int, int]]] = _named()
GRID_NAMED: Final[Mapping[str, Mapping[int, int]]] = _grid_named()
_GUESSES: Final = tuple(f"{GUESS}{n}" for n in range(_MOST_GUESSES))
#: All places of pyramids, and of grids.
PLACES: Final = (*NAMED, *_GUESSES)
GRID_PLACES: Final = (*GRID_NAMED, *_GUESSES)


def weights_of(place: str, *, grid: bool = False) -> NDArray[np.int64]:
    """Return the (SIZE,) or (GRID_SIZE,) weights of a named place."""
    weights = np.zeros(GRID_SIZE if grid else SIZE, dtype=np.int64)
    for number, weight in (GRID_NAMED if grid else NAMED)[place].items():
        weights[number] = weight
    return weights


@dataclass(frozen=True, kw_only=True)
class Template:
    """What the context of a level is made of.

    Attributes:
        from_size: side of the smallest level that it is for; a finer template replaces it.
        block: side of the block that one step draws; 1 where the side of the level is no multiple.
        order: places and how many decisions each makes at this point, the most telling first:
            ``[{place: activity, bits: 2}, {place: guess0, bits: 1}]``. A place may come again. A
            decision halves the occurrences that agree so far, at the median of the place.
        choose: places among which further decisions are chosen, by what they tell of the blocks of
            held-back training documents.
        max_bits: most decisions.
    """

    from_size: int = 1
    block: int = 2
    order: tuple[Mapping[str, Any], ...] = ()
    choose: tuple[str, ...] = ()
    max_bits: int = 24

    def __post_init__(self) -> None:
        """Take lists of a YAML file; refuse what is no template.

        Raises:
            ConfigError: naming what was received and what is allowed.
        """
        object.__setattr__(self, "order", tuple(dict(entry) for entry in self.order))
        object.__setattr__(self, "choose", tuple(self.choose))
        for name, least, most in (("from_size", 1, 2**15), ("block", 1, 64), ("max_bits", 0, 30)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(
                    f"generator.templates: {name}={value!r} must be a whole number from {least} "
                    f"to {most}"
                )
        for entry in self.order:
            bits = entry.get("bits", 1)
            if set(entry) - {"place", "bits"} or type(bits) is not int or bits < 1:
                raise ConfigError(
                    f"generator.templates: an entry of order is {entry!r}; write "
                    "{place: NAME, bits: 1}, with at least 1 bit"
                )
        for place in self.places:
            if place not in PLACES and place not in GRID_PLACES:
                raise ConfigError(
                    f"generator.templates: the place {place!r} is unknown; "
                    f"{did_you_mean(place, (*PLACES, *GRID_NAMED))}"
                )

    @property
    def decisions(self) -> tuple[str, ...]:
        """Places of the decisions that are given, in order."""
        given = (place for e in self.order for place in [str(e.get("place"))] * e.get("bits", 1))
        return tuple(given)[: self.max_bits]

    @property
    def places(self) -> tuple[str, ...]:
        """All its places, each once."""
        return tuple(dict.fromkeys((*(str(e.get("place")) for e in self.order), *self.choose)))

    @property
    def num_guesses(self) -> int:
        """How many guesses have to be fitted."""
        numbers = [int(p.removeprefix(GUESS)) for p in self.places if p.startswith(GUESS)]
        return max(numbers, default=-1) + 1

    def side(self, height: int, width: int) -> int:
        """Return the side of a block on a level of this size."""
        return 1 if height % self.block or width % self.block else self.block


def template_of(templates: Sequence[Template], size: int) -> Template:
    """Return the template of a level: the last one whose ``from_size`` is at most its side."""
    fitting = [template for template in templates if template.from_size <= size]
    return fitting[-1] if fitting else templates[0]
