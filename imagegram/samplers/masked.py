"""MaskedSampler: how a masked generator fills in its tokens, step by step.

``python -m imagegram.run generator=maskgit sampler.steps=4 sampler.temperature=1``
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean
from imagegram.store.fingerprint import NOT_IDENTITY

CONFIDENCE: Final = ("logit", "log_prob", "random")


@dataclass(frozen=True, kw_only=True)
class MaskedSampler:
    """Fill in all tokens at every step, keep the surest, mask the others again.

    After step s of S, floor(T arccos(s / S) / (pi / 2)) tokens are masked again, fewer at every
    step. Chang et al., "MaskGIT: Masked Generative Image Transformer" (arXiv 2202.04200), with the
    arccos schedule of Yu et al., "An Image is Worth 32 Tokens" (arXiv 2406.07550).

    Attributes:
        name: name of the configuration file.
        steps: network passes, at least 1; more than tokens are not taken.
        temperature: temperature of the first step; it falls linearly to 0 at the last one, where
            the most probable token is taken. 0: always the most probable token.
        confidence: measure of the surest tokens: the ``logit`` of a token, its
            ``log_prob``, each with Gumbel noise of the step's temperature, or at ``random``.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    steps: int = 8
    temperature: float = 4.5
    confidence: str = "logit"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(
                f"sampler.steps={self.steps}: must be a whole number of at least 1; type "
                "sampler.steps=8"
            )
        if not 0.0 <= self.temperature < math.inf:
            raise ConfigError(
                f"sampler.temperature={self.temperature}: must be 0 (always the most probable "
                "token) or a positive number; type sampler.temperature=4.5"
            )
        if self.confidence not in CONFIDENCE:
            raise ConfigError(
                f"sampler.confidence={self.confidence!r}: "
                f"{did_you_mean(self.confidence, CONFIDENCE)}"
            )

    def num_masked(self, step: int, num_tokens: int) -> int:
        """Return the number of tokens that are masked again after a step.

        Args:
            step: 0 ... ``steps`` - 1.
            num_tokens: tokens of a sample, T.

        >>> [MaskedSampler(name="masked", steps=4).num_masked(step, 8) for step in range(4)]
        [6, 5, 3, 0]
        """
        return int(num_tokens * math.acos((step + 1) / self.steps) / (math.pi / 2))
