"""Guidance: how far samples are pushed towards what a condition asks for; one convention for all.

    logits = unconditional + s (conditional - unconditional)

s = 1 is the network as it is, in one pass; s = 0 would be no condition at all. (Ho, Salimans,
"Classifier-free Diffusion Guidance", arXiv 2207.12598, write w = s - 1.)

Published numbers: a ``g`` that is added to the conditional logits, ``c + g (c - u)``, is a scale of
1 + g: MaskGIT, and TiTok's ``constant`` and ``linear`` (g = 4.5: ``scale=5.5``). A ``g`` of a
power-cosine schedule, in RAR and TiTok-S-128, is a scale of g. MaskGen-VQ adds the g of such a
schedule to the conditional logits: a scale of 1 + g, ``added_cosine`` (g = 12: ``scale=13``).

>>> rising = Guidance(scale=5.5, schedule="linear")
>>> [rising.at(step, 8) for step in (0, 4, 7)]
[1.0, 3.25, 4.9375]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean

SCHEDULES: Final = ("constant", "linear", "linear_ahead", "power_cosine", "added_cosine")


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance by a schedule.

    Attributes:
        scale: s, at least 0; the largest of the schedule. 1: no guidance.
        schedule: ``constant``: always ``scale``; ``linear``: 1 + (scale - 1) k / S in step k of S,
            from 0; ``linear_ahead``: the same of step k + 1, but never of step S, as MaskGen-KL,
            whose g is a scale; ``power_cosine``: 1 + (scale - 1) (1 - cos(pi (k / S)^power)) / 2,
            which begins later the larger ``power`` is (``power`` 0 is ``constant``);
            ``added_cosine``: 2 + (scale - 2) (1 - cos(pi ((k + 1) / S)^power)) / 2, which ends at
            ``scale``.
        power: of the cosines, at least 0.
    """

    VERSION: ClassVar[int] = 1

    scale: float = 1.0
    schedule: str = "constant"
    power: float = 1.0

    def __post_init__(self) -> None:
        for name in ("scale", "power"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ConfigError(
                    f"sampler.guidance.{name}={value}: must be a number of at least 0; type "
                    f"sampler.guidance.{name}=1"
                )
        if self.schedule not in SCHEDULES:
            raise ConfigError(
                f"sampler.guidance.schedule={self.schedule!r}: "
                f"{did_you_mean(self.schedule, SCHEDULES)}"
            )

    @property
    def is_on(self) -> bool:
        """Whether a second pass is needed at all."""
        return self.scale != 1.0

    def at(self, step: int, num_steps: int) -> float:
        """Return s of one step.

        Args:
            step: 0 ... ``num_steps`` - 1.
            num_steps: S, the steps of a sample.

        >>> [round(Guidance(scale=16, schedule="power_cosine", power=2.75).at(k, 256), 3) for k in
        ...     (0, 64, 128, 255)]
        [1.0, 1.018, 1.803, 15.996]
        >>> Guidance(scale=3, schedule="power_cosine", power=0).at(0, 256)
        3.0
        >>> [round(Guidance(scale=13, schedule="added_cosine").at(k, 16), 3) for k in (7, 15)]
        [7.5, 13.0]
        >>> [Guidance(scale=5, schedule="linear_ahead").at(k, 4) for k in range(4)]
        [2.0, 3.0, 4.0, 4.0]
        """
        if self.schedule == "constant":
            return self.scale
        first, done = 1.0, step / num_steps
        if self.schedule == "linear_ahead":
            done = min(step + 1, num_steps - 1) / num_steps
        if self.schedule == "added_cosine":
            first, done = 2.0, (step + 1) / num_steps
        if self.schedule.endswith("cosine"):
            done = (1.0 - math.cos(math.pi * done**self.power)) / 2.0
        return first + (self.scale - first) * done
