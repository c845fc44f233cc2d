"""``vendi_<encoder>``: effective number of different images; diversity without a reference.

A collapsed generator scores 1. Copies of training images score as high as real images, so it does
not measure copying.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import check_blocks, delete_block_jackknife
from imagegram.metrics.features import feature_recipe, score_suffix, undefined
from imagegram.protocols import Encoder, ImageSet, Reference
from imagegram.records import Measurement, ScoreInfo


@dataclass(frozen=True, kw_only=True)
class VendiMetric:
    """The Vendi score with the cosine kernel; delete-block jackknife interval.

    The exponential of the entropy of the eigenvalues of ``K / N`` (Friedman and Dieng, TMLR 2023):
    between 1, all features point the same way, and N. It grows with N: compare at equal N.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
        jackknife_blocks: blocks of images left out in turn; at least 2.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="vendi_{encoder}",
            title="different pictures",
            words="How many different pictures the samples are, by {encoder} features. Says "
            "nothing of copying.",
            unit="pictures",
            better="higher",
            group="quality",
            moves_with_n=True,
        ),
    )

    name: str = "vendi"
    encoder: Encoder
    jackknife_blocks: int = 20

    def __post_init__(self) -> None:
        check_blocks(self.name, self.jackknife_blocks)

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set."""
        features = reference.features(self.encoder, generated)
        score = f"vendi_{score_suffix(self.encoder)}"
        recipe = feature_recipe(self.encoder, generated=features)
        lengths = np.linalg.norm(features.astype(np.float64), axis=1)
        if not np.isfinite(lengths).all() or not lengths.all():
            reason = (
                "the encoder returned features that are not finite or 0: they have no direction"
            )
            return Measurement(scalars={score: undefined(reason)}, curves={}, recipe=recipe)
        directions = features / lengths[:, None]
        blocks = np.arange(len(features)) % self.jackknife_blocks
        task = reference.progress.start("Vendi score", self.jackknife_blocks + 1, "subsets")
        (measured,) = delete_block_jackknife(
            lambda without: np.array([vendi_score(directions[blocks != without])]),
            num_images=len(features),
            blocks=self.jackknife_blocks,
            workers=reference.workers,
            advance=lambda subsets: reference.progress.advance(task, subsets),
        )
        reference.progress.finish(task)
        if measured.low is not None:  # a symmetric interval may reach below 1, the smallest score
            measured = dataclasses.replace(measured, low=max(measured.low, 1.0))
        return Measurement(scalars={score: measured}, curves={}, recipe=recipe)


def vendi_score(directions: NDArray[Any]) -> float:
    """Return the Vendi score of (N, D) unit vectors, from the N x N or D x D form.

    >>> round(vendi_score(np.eye(3)), 6), round(vendi_score(np.ones((5, 1))), 6)
    (3.0, 1.0)
    """
    size, dimensions = directions.shape
    gram = directions @ directions.T if size <= dimensions else directions.T @ directions
    eigenvalues = np.linalg.eigvalsh(gram / size)
    shares = eigenvalues[eigenvalues > 0]  # rounding makes tiny negative eigenvalues
    return float(np.exp(-(shares * np.log(shares)).sum()))
