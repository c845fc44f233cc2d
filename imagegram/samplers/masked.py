"""MaskedSampler: how a masked generator fills in its tokens, step by step.

``python -m imagegram.run generator=maskgit sampler.steps=4 sampler.temperature=1``
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.truncation import Truncation, is_count, require
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT

CONFIDENCE: Final = ("logit", "log_prob", "random")
ANNEALING: Final = ("linear", "constant")
#: Share of tokens that are masked again after a share of the steps, by name of the schedule.
SCHEDULES: Final[Mapping[str, Callable[[float], float]]] = {
    "arccos": lambda done: math.acos(done) / (math.pi / 2),
    "cosine": lambda done: math.cos(done * math.pi / 2),
    "linear": lambda done: 1.0 - done,
    "square": lambda done: 1.0 - done**2,
    "cubic": lambda done: 1.0 - done**3,
    "root": lambda done: 1.0 - math.sqrt(done),
}
#: Rounding of a schedule that would hide a whole token.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class MaskedSampler(Truncation):
    """Draw all masked tokens at every step, keep the surest, mask the others again.

    After step s of S, floor(T f(s / S)) of T tokens are masked again, and at least one fewer than
    before; f is the schedule. Chang et al., "MaskGIT: Masked Generative Image Transformer" (arXiv
    2202.04200), with ``arccos`` of Yu et al., "An Image is Worth 32 Tokens" (arXiv 2406.07550).

    A token is drawn from softmax(logits / (softmax_temperature * temperature)), cut by ``top_k``,
    ``top_p`` and ``min_p``; its confidence gets Gumbel noise times ``temperature``.

    Attributes:
        name: name of the configuration file.
        steps: network passes, at least 1; no more are made than there are tokens.
        schedule: one of :data:`SCHEDULES`.
        temperature: that of the first step; 0: always the most probable token.
        annealing: ``linear``: the temperature falls with the steps, to 0 at the last one, which
            takes the most probable tokens; ``constant``.
        softmax_temperature: two divisors of the logits, before the first step and at the last one;
            between them it falls linearly.
        top_k, top_p, min_p: see :class:`Truncation`.
        confidence: measure of the surest tokens: the ``logit`` of a token, the ``log_prob`` that
            the network gives it, or at ``random``. Only the random order does not depend on the
            tokens, so that given tokens have a likelihood under it.
        guidance: towards the label of a condition; see :class:`Guidance`.
    """

    VERSION: ClassVar[int] = 2
    name: str = field(metadata=NOT_IDENTITY)
    steps: int = 8
    schedule: str = "arccos"
    temperature: float = 4.5
    annealing: str = "linear"
    softmax_temperature: tuple[float, float] = (1.0, 1.0)
    confidence: str = "logit"
    guidance: Guidance = field(default=Guidance(), metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Refuse impossible knobs."""
        super().__post_init__()
        object.__setattr__(self, "softmax_temperature", tuple(self.softmax_temperature))
        require(is_count(self.steps), ("steps", self.steps, "a whole number of at least 1"))
        for knob, known in (
            ("schedule", tuple(SCHEDULES)),
            ("annealing", ANNEALING),
            ("confidence", CONFIDENCE),
        ):
            if (value := getattr(self, knob)) not in known:
                raise ConfigError(f"sampler.{knob}={value!r}: {did_you_mean(value, known)}")
        ends = self.softmax_temperature
        require(
            len(ends) == 2 and all(0.0 < end < math.inf for end in ends),
            ("softmax_temperature", list(ends), "two positive numbers, [1,1] to change nothing"),
        )

    @property
    def in_random_order(self) -> bool:
        """Whether the order of the tokens does not depend on the tokens."""
        return self.confidence == "random"

    def num_steps(self, num_tokens: int) -> int:
        """Return the number of network passes for samples of ``num_tokens`` tokens."""
        return min(self.steps, num_tokens)

    def num_masked(self, step: int, num_tokens: int) -> int:
        """Return the number of tokens that the schedule masks again after a step; 0 after the last.

        Args:
            step: 0 ... ``num_steps(num_tokens)`` - 1.
            num_tokens: tokens of a sample, T.

        >>> [MaskedSampler(name="masked", steps=4).num_masked(step, 8) for step in range(4)]
        [6, 5, 3, 0]
        """
        return int(self.left_of(step, np.array([num_tokens]), num_tokens=num_tokens)[0])

    def left_of(
        self, step: int, sizes_B: NDArray[np.int64], *, num_tokens: int
    ) -> NDArray[np.int64]:
        """Return the same of rows of which only some tokens are filled in.

        Args:
            step: 0 ... ``num_steps(num_tokens)`` - 1.
            sizes_B: (B,) tokens of each row that are filled in.
            num_tokens: tokens of a sample, T.
        """
        steps = self.num_steps(num_tokens)
        if step + 1 >= steps:
            return np.zeros_like(sizes_B)
        share = SCHEDULES[self.schedule]((step + 1) / steps)
        return np.maximum((sizes_B * share + _ROUNDING).astype(np.int64), 1)

    def noise(self, step: int, num_tokens: int) -> float:
        """Return the temperature of a step; see :meth:`num_masked`."""
        if self.annealing == "constant":
            return self.temperature
        return self.temperature * (1 - (step + 1) / self.num_steps(num_tokens))

    def divisor(self, step: int, num_tokens: int) -> float:
        """Return what the logits of a step are divided by; see :meth:`num_masked`.

        >>> sampler = MaskedSampler(name="masked", steps=4, softmax_temperature=(1.3, 0.5))
        >>> [round(sampler.divisor(step, 32), 2) for step in range(4)]
        [1.1, 0.9, 0.7, 0.5]
        """
        first, last = self.softmax_temperature
        done = (step + 1) / self.num_steps(num_tokens)
        return first + (last - first) * done
