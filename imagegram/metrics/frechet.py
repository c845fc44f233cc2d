"""``fd_<encoder>``: Frechet distance of features, the FID proxy.

It is never called FID, the name for Inception features of 50,000 images. At the sample sizes of one
run it is mostly bias: compare it with its held-out floor at the same N, and prefer KD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from imagegram.intervals import check_blocks, delete_block_jackknife
from imagegram.metrics.features import compared_features, score_suffix, undefined
from imagegram.metrics.functional import FrechetPair
from imagegram.protocols import Encoder, ImageSet, Reference
from imagegram.records import Measurement, ScoreInfo
from imagegram.stages.effort import Effort


@dataclass(frozen=True, kw_only=True)
class FrechetMetric:
    """Frechet distance to training features, with a delete-block jackknife interval.

    The interval is the noise of drawing these images, not the bias of drawing so few.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
        jackknife_blocks: blocks of images left out in turn; at least 2.
    """

    VERSION: ClassVar[int] = 1
    EFFORT: ClassVar[Effort] = Effort(image=3.5e-3)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="fd_{encoder}",
            title="Fréchet distance",
            words="Fréchet distance of {encoder} features to training images, mostly bias where "
            "images are few. Lower is closer.",
            better="lower",
            group="quality",
            moves_with_n=True,
            rank=2,
            short="fd_minus_floor",
            short_of="gap",
        ),
    )

    name: str = "frechet"
    encoder: Encoder
    jackknife_blocks: int = 20

    def __post_init__(self) -> None:
        check_blocks(self.name, self.jackknife_blocks)

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the reference features."""
        features = compared_features(self.encoder, generated=generated, reference=reference)
        score = f"fd_{score_suffix(self.encoder)}"
        if (reason := features.too_few(2)) is not None:
            return Measurement(
                scalars={score: undefined(reason)}, curves={}, recipe=features.recipe
            )
        task = reference.progress.start("Frechet distance", self.jackknife_blocks + 1, "subsets")
        pair = FrechetPair.fit(
            generated=features.generated,
            reference=features.reference,
            blocks=self.jackknife_blocks,
            workers=reference.workers,
        )
        (measured,) = delete_block_jackknife(
            lambda without: np.array([pair.distance(without)]),
            num_images=len(features.generated),
            blocks=self.jackknife_blocks,
            workers=reference.workers,
            advance=lambda subsets: reference.progress.advance(task, subsets),
        )
        reference.progress.finish(task)
        return Measurement(scalars={score: measured}, curves={}, recipe=features.recipe)
