"""QuiltingSampler: how large patches are, and what they follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from imagegram.samplers.truncation import is_count, require
from imagegram.store.fingerprint import NOT_IDENTITY

#: How blocks lie in a picture.
GRID: Final = "grid"
PINWHEEL: Final = "pinwheel"


@dataclass(frozen=True, kw_only=True)
class QuiltingSampler:
    """Put pictures together of patches, one of a training image for every block.

    Attributes:
        name: name of the configuration file.
        arrangement: ``grid``: squares in raster order; ``pinwheel``: four bars along the sides of a
            picture, then what they enclose.
        block: numbers of the thumbnail that a square has, a side, which divides
            ``generator.guide_size``; or that a bar is thick, below half of it. No image gives more
            than one patch to a picture, so no more than ((block + 2 overlap) / guide_size)^2 of it
            by squares, and (1 - 2 (block - overlap) / guide_size)^2 by what bars enclose.
        overlap: part of a number's pixels that a patch has more than its block, on every side; at
            least 0 and below half a block.
        shift: numbers of the thumbnail beside its place that a patch may also be taken from, in
            eight directions; nine times as many candidates. 0: only from its own place.
        seam_step: part of the step over a seam that is left, 0 ... 1; the rest is spread over the
            picture. 1: patches stay as they are.
        guide_images: similar training images that a guide is mixed from; 1: a thumbnail is followed
            as it is.
        guide_contrast: multiplies the differences of a guide from its mean colour, since mixing and
            looking for near patches take contrast away.
        guide_weight: squared differences from the guide beside those from what is painted.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    arrangement: str = GRID
    block: int = 2
    overlap: float = 0.25
    shift: float = 0.0
    seam_step: float = 0.7
    guide_images: int = 2
    guide_contrast: float = 1.4
    guide_weight: float = 4.0

    def __post_init__(self) -> None:
        """Refuse impossible knobs."""
        require(
            self.arrangement in (GRID, PINWHEEL),
            ("arrangement", self.arrangement, f"{GRID} or {PINWHEEL}"),
        )
        require(0.0 <= self.seam_step <= 1.0, ("seam_step", self.seam_step, "0 ... 1"))
        for knob in ("block", "guide_images"):
            value = getattr(self, knob)
            require(is_count(value), (knob, value, "a whole number of at least 1"))
        require(
            0.0 <= self.overlap < self.block / 2,
            ("overlap", self.overlap, f"at least 0 and below {self.block / 2:g}, half a block"),
        )
        for knob in ("shift", "guide_contrast", "guide_weight"):
            value = getattr(self, knob)
            require(0.0 <= value < math.inf, (knob, value, "a number of at least 0"))
