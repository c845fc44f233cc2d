"""``caption_*error*``: whether a generator that paints pictures hears captions.

The error of its denoising objective for pictures under their own caption, that of another image,
and none, with the same masks, noise and times: what a caption saves is a difference within an
image. As low with the caption of another image: captions are not heard.

Errors are no bits: pictures that are painted from continuous latents have no likelihood
(``metrics/captions.py`` has the bits of those that are written token by token). So they are a
metric of their own, with a unit and needs of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from imagegram.intervals import mean_over_images
from imagegram.metrics.features import undefined
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo

_OWN, _OTHER, _NONE = "error", "error_other", "error_none"
#: Arrays of a score: its error, and, where there is a second, what is taken off.
_SCORES: Final = {
    "caption_error": (_OWN,),
    "caption_other_error": (_OTHER,),
    "caption_none_error": (_NONE,),
    "caption_saved_error": (_OTHER, _OWN),
    "caption_saved_error_over_none": (_NONE, _OWN),
}
_UNASKED: Final = "no captions were asked for; type condition=caption"


@dataclass(frozen=True, kw_only=True)
class CaptionErrorsMetric:
    """Metric of a generator that paints pictures under captions.

    An image counts with the mean over its draws; intervals are over images, those of what is saved
    are of differences within an image. The recipe says how many draws there were.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"trace.error_none"})
    TRACE: ClassVar[str] = (
        "errors of denoising pictures, which generator=maskgen_kl sampler.error_draws=8 records"
    )
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="caption_error",
            title="error under the own caption",
            words="Squared error of the velocities of masked latents, a mean over their numbers "
            "(which have variance 1), for the generator that is told the caption of the image; of "
            "samples, the one that they were asked for. No bits.",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_other_error",
            title="error under another's caption",
            words="The same for the generator that is told the caption of another image.",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_none_error",
            title="error without a caption",
            words="The same for the generator that is told no caption.",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_saved_error",
            title="error that the right caption saves",
            words="What the error is more under the caption of another image than under the own "
            "one. 0: captions are not heard.",
            better="higher",
            group="likelihood",
            rank=5,
        ),
        ScoreInfo(
            name="caption_saved_error_over_none",
            title="error that a caption saves",
            words="What the error is more without a caption than under that of the image.",
            better="higher",
            group="likelihood",
        ),
    )

    name: str = "caption_errors"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set; takes 8 bytes a draw."""
        trace, scalars = generated.trace, dict[str, Measured]()
        for name, (first, *others) in _SCORES.items():
            if not {first, *others} <= trace.keys():
                why = "there is only one caption" if _OWN in trace else _UNASKED
                scalars[name] = undefined(why)
                continue
            errors_BM = np.asarray(trace[first], dtype=np.float64)
            for other in others:
                errors_BM = errors_BM - np.asarray(trace[other], dtype=np.float64)
            scalars[name] = mean_over_images(errors_BM.mean(axis=1), seed=reference.seed)
        recipe = {"draws": str(trace[_NONE].shape[1])}
        return Measurement(scalars=scalars, curves={}, recipe=recipe)
