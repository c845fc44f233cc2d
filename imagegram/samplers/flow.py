"""FlowSampler: how a flow is followed from noise to latents.

>>> FlowSampler(name="flow", steps=4).times
(0.0, 0.25, 0.5, 0.75, 1.0)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.samplers.truncation import is_count, require
from imagegram.store.fingerprint import NOT_IDENTITY

METHODS: Final = ("euler", "heun")


@dataclass(frozen=True, kw_only=True)
class FlowSampler:
    """Steps of equal length from time 0, noise, to time 1, latents.

    Attributes:
        name: name of the configuration file.
        steps: steps, at least 1.
        method: ``euler``, one pass of the network a step; ``heun``, two, of second order.
        noise_scale: multiplies the start noise; below 1 samples are surer and more alike.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    steps: int = 50
    method: str = "euler"
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse impossible knobs."""
        require(is_count(self.steps), ("steps", self.steps, "a whole number of at least 1"))
        if self.method not in METHODS:
            raise ConfigError(
                f"sampler.method={self.method} is unknown; {did_you_mean(self.method, METHODS)}"
            )
        require(self.noise_scale >= 0, ("noise_scale", self.noise_scale, "at least 0"))

    @property
    def times(self) -> tuple[float, ...]:
        """The ends of the steps, 0 ... 1."""
        return tuple(step / self.steps for step in range(self.steps + 1))
