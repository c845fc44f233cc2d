"""MaskedFlowSampler: how masked latents are filled in, some at every step, each along a flow.

>>> [MaskedFlowSampler(name="masked_flow", steps=4).num_masked(step, 8) for step in range(4)]
[7, 5, 3, 0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from imagegram.samplers.guidance import Guidance
from imagegram.samplers.truncation import is_count, require
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT

#: Rounding of the schedule that would hide a whole latent.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class MaskedFlowSampler:
    """Fill in latents in random order; those of a step without seeing each other.

    After step s of S, floor(K cos(pi / 2 (s + 1) / S)) of K latents are masked still, and at least
    one fewer than before.

    Attributes:
        name: name of the configuration file.
        steps: passes of the transformer, at least 1; no more are made than there are latents.
        flow_steps: steps of equal length from noise to a latent (Euler), at least 1; of published
            networks those of their diffusion, at most 1,000.
        noise_scale: multiplies the start noise, in a diffusion the noise of its steps; below 1
            samples are surer and more alike.
        guidance: of velocities, towards a caption; see :class:`Guidance`.
        error_draws: draws of masks, noise and times by which pictures are measured under captions
            (``metric=caption_errors``), samples and real ones alike; 0: they are not.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    steps: int = 16
    flow_steps: int = 25
    noise_scale: float = 1.0
    guidance: Guidance = field(default=Guidance())
    error_draws: int = field(default=0, metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Refuse impossible knobs."""
        for knob in ("steps", "flow_steps"):
            value = getattr(self, knob)
            require(is_count(value), (knob, value, "a whole number of at least 1"))
        require(
            0.0 <= self.noise_scale < math.inf,
            ("noise_scale", self.noise_scale, "a number of at least 0"),
        )
        require(
            self.error_draws == 0 or is_count(self.error_draws),
            ("error_draws", self.error_draws, "a whole number of at least 0"),
        )

    def num_steps(self, num_latents: int) -> int:
        """Return the number of passes of the transformer for so many latents."""
        return min(self.steps, num_latents)

    def num_masked(self, step: int, num_latents: int) -> int:
        """Return the number of latents that are masked after a step; 0 after the last.

        Args:
            step: 0 ... ``num_steps(num_latents)`` - 1.
            num_latents: latents of an image, K.
        """
        steps = self.num_steps(num_latents)
        done = (step + 1) / steps
        left = int(num_latents * math.cos(math.pi / 2 * done) + _ROUNDING)
        # No step is empty, and none that follows runs out of latents.
        return min(max(left, steps - step - 1), num_latents - step - 1)
