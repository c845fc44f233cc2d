"""Duplication response: whether pictures that the corpus holds more often are copied more often.

Memorization of language and image models grows with the number of copies in the training data
(Kandpal, Wallace and Raffel, "Deduplicating training data mitigates privacy risks in language
models", ICML 2022; Carlini et al., "Extracting training data from diffusion models", 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.intervals import clopper_pearson
from imagegram.metrics.sources import check_candidates, parse_images
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo

#: Smallest size of the clusters of each bucket, its name in scores, and in words.
BUCKETS: Final = (
    (1, "1", "once only"),
    (2, "2_3", "two or three times"),
    (4, "4_9", "four to nine times"),
    (10, "10", "ten times or more"),
)


@dataclass(frozen=True, kw_only=True)
class DuplicationMetric:
    """Metric of copying by multiplicity, the size of the near-duplicate cluster of a source.

    An image *copies* when its largest source (``metrics/sources.py``) has a share of at least
    ``copied_share`` of its tokens. Clusters fall into buckets of size 1, 2-3, 4-9, and 10 or more.

    ``copies_per_image_multiplicity_*``: share of the copying images whose source is in the bucket,
    over the bucket's share of the training *images*. It is 1 when every training image is copied
    as often, so that a picture with k copies is copied k times as often as one without; more than
    1 when copies help more than that.
    ``copies_per_cluster_multiplicity_*``: the same over the bucket's share of the training
    *clusters*: 1 when every picture is copied as often, however often the corpus holds it.
    Both count only the images that copy; intervals are Clopper-Pearson intervals of the
    bucket's share of them. Curves: copying images, training images and clusters by bucket.

    Attributes:
        name: name of this metric in the configuration.
        copied_share: share of an image's tokens from which it counts as a copy of its source.
        max_candidates: occurrences of a phrase among which its source is chosen.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "matches"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = tuple(
        ScoreInfo(
            name=f"copies_per_{unit}_multiplicity_{label}",
            title=f"copies by {unit} of what is held {words}",
            words=f"How often pictures that the corpus holds {words} are copied, {counted}",
            unit="times their share",
            group="copying",
        )
        for unit, counted in (
            ("image", "by the number of their images. 1: as often as any image."),
            ("cluster", "near-duplicates counted once. 1: copies in the corpus do not matter."),
        )
        for _, label, words in BUCKETS
    )

    name: str = "duplication"
    copied_share: float = 0.5
    max_candidates: int = 64

    def __post_init__(self) -> None:
        check_candidates(self.name, self.max_candidates)
        if not 0 < self.copied_share <= 1:
            raise ConfigError(
                f"metric.{self.name}.copied_share is {self.copied_share}; use more than 0 and at "
                "most 1"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Find the images that copy, and count them by the multiplicity of their source."""
        copied = [
            sources.clusters[sources.shares >= self.copied_share]
            for _, sources in parse_images(generated, reference, max_candidates=self.max_candidates)
        ]
        counts = bucket_counts(np.concatenate(copied), reference.clusters())
        nobody = f"no image has {self.copied_share:.0%} of its tokens from one source"
        return Measurement(
            scalars={
                **relative_rates("copies_per_image", counts["copies"], counts["images"], nobody),
                **relative_rates(
                    "copies_per_cluster", counts["copies"], counts["clusters"], nobody
                ),
            },
            curves={
                "multiplicity_edges": np.array([least for least, _, _ in BUCKETS], np.float64),
                **{f"multiplicity_{name}": of.astype(np.float64) for name, of in counts.items()},
            },
        )


def bucket_counts(
    copied: NDArray[np.int64], clusters_N: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Count copying images (``copies``), training ``images`` and ``clusters`` of each bucket.

    Args:
        copied: cluster that each copying image copies.
        clusters_N: cluster of each training document: the lowest document id in it.
    """
    sizes = np.bincount(clusters_N, minlength=len(clusters_N))
    edges = [least for least, _, _ in BUCKETS]

    def count(clusters: NDArray[np.int64]) -> NDArray[np.int64]:
        buckets = np.searchsorted(edges, sizes[clusters], side="right") - 1
        return np.bincount(buckets, minlength=len(BUCKETS))

    return {
        "copies": count(copied),
        "images": count(clusters_N),
        "clusters": count(np.flatnonzero(sizes)),
    }


def relative_rates(
    name: str, copies: NDArray[np.int64], members: NDArray[np.int64], nobody: str
) -> dict[str, Measured]:
    """Return each bucket's share of the copies over its share of the members, with intervals.

    Args:
        name: name of the scores, before ``_multiplicity_``.
        copies: number of copying images by bucket.
        members: training images or clusters by bucket.
        nobody: reason that is given when there are no copies.
    """
    rates = {}
    for (_, label, words), count, size in zip(BUCKETS, copies, members, strict=True):
        if not size:
            rate = Measured(value=None, note=f"the corpus holds no picture {words}")
        elif size == members.sum():
            rate = Measured(value=None, note=f"the corpus holds every picture {words}")
        elif not copies.any():
            rate = Measured(value=None, note=nobody)
        else:
            share = clopper_pearson(successes=int(count), trials=int(copies.sum()))
            ends = (share.value or 0.0, share.low or 0.0, share.high or 0.0)
            value, low, high = (float(end * members.sum() / size) for end in ends)
            rate = Measured(value=value, low=low, high=high)
        rates[f"{name}_multiplicity_{label}"] = rate
    return rates
