"""``caption_*``: whether a generator hears captions.

Bits of a token of real images for the generator that is told their own caption, that of another
image, and none, in one order of the tokens: what a caption saves is a difference within an image.
As low with the caption of another image: captions are not heard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.metrics.features import undefined
from imagegram.metrics.functional import num_steps
from imagegram.metrics.intervals import mean_over_images
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measurement, ScoreInfo

_OWN, _OTHER, _NONE = "log_prob", "log_prob_other", "log_prob_none"
#: Arrays of a score: of its bits, and, where there is a second, of what is taken off.
_SCORES: Final = {
    "caption_bits_per_token": (_OWN,),
    "caption_other_bits_per_token": (_OTHER,),
    "caption_none_bits_per_token": (_NONE,),
    "caption_gain_bits": (_OTHER, _OWN),
    "caption_gain_over_none_bits": (_NONE, _OWN),
}


@dataclass(frozen=True, kw_only=True)
class CaptionsMetric:
    """Metric of a generator that reads captions, on held-out and on training images.

    Of samples only the caption that they were asked for is known. Intervals are over images; those
    of gains are of differences within an image.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"trace.log_prob"})
    TRACE: ClassVar[str] = "probabilities of tokens, which generator=maskgen has in random order"
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="caption_bits_per_token",
            title="bits under the own caption",
            words="Code length of a token for the generator that is told the caption of the image; "
            "of samples, the one that they were asked for.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_other_bits_per_token",
            title="bits under another's caption",
            words="The same for the generator that is told the caption of another image.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_none_bits_per_token",
            title="bits without a caption",
            words="The same for the generator that is told no caption.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_gain_bits",
            title="bits that the right caption saves",
            words="What a token costs more under the caption of another image than under its own. "
            "0: captions are not heard.",
            unit="bits",
            better="higher",
            group="likelihood",
            rank=4,
        ),
        ScoreInfo(
            name="caption_gain_over_none_bits",
            title="bits that a caption saves",
            words="What a token costs more without a caption than under that of its image.",
            unit="bits",
            better="higher",
            group="likelihood",
        ),
    )

    name: str = "captions"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set; takes 8 bytes a token."""
        trace = generated.trace
        steps_B = num_steps(np.asarray(generated.tokens))

        def bits(array: str) -> NDArray[np.float64]:
            values_BT = np.asarray(trace[array], dtype=np.float64)
            found: NDArray[np.float64] = -values_BT.sum(axis=1) / math.log(2) / steps_B
            return found

        scalars = {}
        for name, (first, *others) in _SCORES.items():
            if not {first, *others} <= trace.keys():
                scalars[name] = undefined(
                    "known of real images under generator=maskgen with captions asked for, in "
                    "random order: condition=caption sampler=any_order"
                )
                continue
            values_B = bits(first) - sum(bits(other) for other in others)
            scalars[name] = mean_over_images(values_B, seed=reference.seed)
        return Measurement(scalars=scalars, curves={}, recipe={"order": "random, so <="})
