"""SpatialSampler: which occurrences of a spatial context may decide, and how one is drawn.

>>> SpatialSampler(name="s", max_share=[1.0, 0.1]).of_level("max_share", 5)
0.1
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from imagegram.errors import ConfigError
from imagegram.samplers.truncation import is_count, require
from imagegram.store.fingerprint import NOT_IDENTITY

_PER_LEVEL: Final = ("min_count", "min_documents", "temperature", "max_share", "follow", "nearest")


@dataclass(frozen=True, kw_only=True)
class SpatialSampler:
    """Rules of a step; one value, or one a level from coarse to fine, of which the last stays.

    Levels are those of a pyramid, or the passes over a grid.

    Attributes:
        name: name of the configuration file.
        min_count: fewest occurrences that must share a context before it may decide.
        min_documents: fewest distinct documents that they must come from; here and below
            near-duplicates are one document.
        temperature: an occurrence is drawn with a weight exp(-e / (temperature * mean of e)), where
            e is the squared distance of its block to the mean of all that may decide; 0: the
            nearest to the mean; null: all alike.
        max_share: largest share of a level's steps that one document may give to a sample, but at
            least one step; 1: any.
        max_run: most tokens that one document may give to a sample, so that no run of tokens from
            one document is longer; null: any.
        follow: decisions of the context that an occurrence must share, to be taken because it goes
            on in the picture of its left, upper or coarser neighbour; of several that which shares
            most. 0: always; null: never. It copies.
        nearest: over a grid: how many of those that may decide are drawn from, those whose
            surroundings are most alike; null: all. What ``follow`` finds is then one of them.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    min_count: int | tuple[int, ...] = 1
    min_documents: int | tuple[int, ...] = 1
    temperature: float | tuple[float | None, ...] | None = None
    max_share: float | tuple[float, ...] = 1.0
    max_run: int | None = None
    follow: int | tuple[int | None, ...] | None = None
    nearest: int | tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        """Take lists of a YAML file; refuse impossible knobs."""
        for knob in _PER_LEVEL:
            if isinstance(value := getattr(self, knob), list):
                object.__setattr__(self, knob, tuple(value))
            self._check_level_knob(knob)
        require(
            self.max_run is None or is_count(self.max_run),
            ("max_run", self.max_run, "a whole number of tokens of at least 1, or null"),
        )

    def _check_level_knob(self, knob: str) -> None:
        values = getattr(self, knob)
        each = values if isinstance(values, tuple) else (values,)
        allowed, holds = {
            "temperature": ("0 or a positive number, or null", _is_temperature),
            "max_share": ("in (0, 1]; 1 allows any", _is_share),
            "nearest": ("a whole number of at least 1, or null", _is_nearest),
            "follow": ("a whole number of at least 0, or null", _is_follow),
        }.get(knob, ("a whole number of at least 1", is_count))
        more = f"{allowed}; or a list of these, one a level"
        require(bool(each) and all(holds(v) for v in each), (knob, values, more))

    def of_level(self, knob: str, level: int) -> Any:
        """Return the value of a knob for a level."""
        values = getattr(self, knob)
        return values[min(level, len(values) - 1)] if isinstance(values, tuple) else values

    def check_levels(self, num_levels: int) -> None:
        """Refuse more values than there are levels.

        Raises:
            ConfigError: naming the knob.
        """
        for knob in _PER_LEVEL:
            values = getattr(self, knob)
            if isinstance(values, tuple) and len(values) > num_levels:
                raise ConfigError(
                    f"sampler.{knob}={list(values)} has {len(values)} entries, but there are "
                    f"{num_levels} levels (passes, of a grid); give at most one per level, coarse "
                    "to fine"
                )


def _is_temperature(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < math.inf)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _is_nearest(value: Any) -> bool:
    return value is None or is_count(value)


def _is_follow(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value < 64)
