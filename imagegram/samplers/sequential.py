"""SequentialSampler: one token after the other, by a network's distribution over the next one.

>>> SequentialSampler(name="raster", temperature=1.0).top_p
1.0
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from imagegram.samplers.guidance import Guidance
from imagegram.samplers.truncation import Truncation
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT


@dataclass(frozen=True, kw_only=True)
class SequentialSampler(Truncation):
    """What an autoregressive network's distribution is sharpened and cut by.

    Attributes:
        name: name of the configuration file.
        temperature, top_k, top_p, min_p: see :class:`Truncation`.
        guidance: towards the label of a condition; see :class:`Guidance`.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    guidance: Guidance = field(default=Guidance(), metadata=NOT_IDENTITY_AT_DEFAULT)
