"""``precision``, ``recall``, ``density``, ``coverage``: fidelity and diversity, separately.

A mode collapse has precision 1 and recall 0; a generator of noise has the opposite.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from imagegram.errors import ConfigError
from imagegram.intervals import check_blocks, delete_block_jackknife
from imagegram.metrics.features import compared_features, undefined
from imagegram.metrics.manifolds import PRDC, ManifoldPair
from imagegram.protocols import Encoder, ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo
from imagegram.stages.effort import Effort


@dataclass(frozen=True, kw_only=True)
class PrdcMetric:
    """Manifolds of balls that reach the k-th nearest image; delete-block jackknife intervals.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
        nearest_k: k; 5 is usual.
        jackknife_blocks: blocks of images left out in turn; at least 2.
    """

    VERSION: ClassVar[int] = 1
    EFFORT: ClassVar[Effort] = Effort(image=6e-4)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="precision",
            title="precision",
            words="Samples that lie among training images. Higher is more faithful.",
            unit="% of samples",
            better="higher",
            group="quality",
            moves_with_n=True,
        ),
        ScoreInfo(
            name="recall",
            title="recall",
            words="Training images that lie among samples. Higher is more diverse.",
            unit="% of training images",
            better="higher",
            group="quality",
            moves_with_n=True,
        ),
        ScoreInfo(
            name="density",
            title="density",
            words="How densely training images surround the samples; about 1 for real ones.",
            better="higher",
            group="quality",
            moves_with_n=True,
        ),
        ScoreInfo(
            name="coverage",
            title="coverage",
            words="Training images with a sample nearby. Higher is more diverse.",
            unit="% of training images",
            better="higher",
            group="quality",
            moves_with_n=True,
            short="coverage",
        ),
    )

    name: str = "prdc"
    encoder: Encoder
    nearest_k: int = 5
    jackknife_blocks: int = 20

    def __post_init__(self) -> None:
        if self.nearest_k < 1:
            raise ConfigError(f"metric.{self.name}.nearest_k is {self.nearest_k}; use 1 or more")
        check_blocks(self.name, self.jackknife_blocks)

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the reference features."""
        features = compared_features(self.encoder, generated=generated, reference=reference)
        recipe = features.recipe | {"nearest_k": str(self.nearest_k)}
        if (reason := features.too_few(self.nearest_k + 1)) is not None:
            return Measurement(
                scalars=dict.fromkeys(PRDC, undefined(reason)), curves={}, recipe=recipe
            )
        task = reference.progress.start("nearest images", 2 * len(features.generated), "images")
        pair = ManifoldPair.fit(
            generated=features.generated,
            reference=features.reference,
            nearest_k=self.nearest_k,
            blocks=self.jackknife_blocks,
            workers=reference.workers,
            advance=lambda images: reference.progress.advance(task, images),
        )
        reference.progress.finish(task)
        measured = delete_block_jackknife(
            lambda without: np.array(list(pair.measure(without).values())),
            num_images=len(features.generated),
            blocks=self.jackknife_blocks,
        )
        scalars = {
            name: _inside(part, 1.0 if name != "density" else None)
            for name, part in zip(PRDC, measured, strict=True)
        }
        return Measurement(scalars=scalars, curves={}, recipe=recipe)


def _inside(measured: Measured, highest: float | None) -> Measured:
    """Clip an interval to the possible values, which a symmetric interval may exceed."""
    if measured.low is None or measured.high is None:
        return measured
    high = measured.high if highest is None else min(measured.high, highest)
    return dataclasses.replace(measured, low=max(measured.low, 0.0), high=high)
