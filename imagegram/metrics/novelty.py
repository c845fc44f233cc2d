"""Novelty: the share of n-grams that the training corpus does not contain.

Novelty alone rewards noise, and samples can be *more* novel than held-out images, which share
n-grams with the training corpus: compare every number with its floor, and read it with quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import row_tiles
from imagegram.indexes.base import suffix_lengths
from imagegram.intervals import Documents, mean_over_images, of_rows
from imagegram.metrics.functional import mean_of_defined, novelty_curve
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo, row_sizes
from imagegram.stages.effort import Effort

#: Tokens that are read at a time.
_TOKENS: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class NoveltyMetric:
    """Metric of the n-novelty curve, over all tokens and per level.

    Scores ``novelty_n<n>`` for every n of ``shown_n`` and ``novelty_auc``, the mean of the curve
    over n = 1 ... max_n: 0 when every n-gram was seen, 1 when none was.

    Attributes:
        name: name of this metric in the configuration.
        max_n: largest n.
        shown_n: values of n that become scores.
    """

    VERSION: ClassVar[int] = 1
    EFFORT: ClassVar[Effort] = Effort(token=1.3e-8)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "matches"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="novelty_n{n:d}",
            title="new runs of {n} tokens",
            words="Runs of {n} tokens that no training document holds. Lower repeats the corpus; "
            "above held-out is noise.",
            unit="% of runs",
            better="higher",
            group="novelty and choice",
        ),
        ScoreInfo(
            name="novelty_auc",
            title="new runs of tokens",
            headline=6,
            words="Mean of the novelty curve. Lower repeats the corpus; above held-out is noise.",
            unit="% of runs",
            better="higher",
            group="novelty and choice",
            short="novelty_auc_gap",
            short_of="gap",
        ),
    )

    name: str = "novelty"
    max_n: int = 64
    shown_n: tuple[int, ...] = (8, 16, 32)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shown_n", tuple(self.shown_n))
        if self.max_n < 1 or not all(1 <= n <= self.max_n for n in self.shown_n):
            raise ConfigError(
                f"metric.{self.name}: shown_n={list(self.shown_n)} must lie in 1 ... max_n="
                f"{self.max_n}, and max_n must be at least 1"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the index; takes up to 0.1 GB and 2 KB an image."""
        matches_BT = reference.match_lengths(generated)
        levels = [np.arange(part.start, part.stop) for part in reference.layout.level_slices]
        num_images, num_tokens = matches_BT.shape
        overall = np.empty((num_images, self.max_n))
        of_levels = np.empty((len(levels), num_images, self.max_n))
        for rows in row_tiles(num_images, max(_TOKENS // max(num_tokens, 1), 1)):
            lengths_BT = suffix_lengths(matches_BT[rows])
            curve: dict[str, Any] = {
                "max_n": self.max_n,
                "sizes_B": row_sizes(np.asarray(generated.tokens[rows])),
            }
            overall[rows] = novelty_curve(lengths_BT, **curve)
            for level, ends in enumerate(levels):
                of_levels[level, rows] = novelty_curve(lengths_BT, **curve, positions=ends)
        # Images without tokens have no n-grams, short images no long n-grams: NaN.
        written = ~np.isnan(overall[:, 0])
        if not written.any():
            nothing = Measured(value=None, note="nothing was written")
            names = [*(f"novelty_n{n}" for n in self.shown_n), "novelty_auc"]
            return Measurement(scalars=dict.fromkeys(names, nothing), curves={})
        documents = generated.row_documents
        if not written.all():
            overall, of_levels = overall[written], of_levels[:, written]
            documents = of_rows(documents, written)
        curves = {"novelty": mean_of_defined(overall, axis=0)}
        for level, of_level in enumerate(of_levels):
            curves[f"novelty_level{level}"] = mean_of_defined(of_level, axis=0)
        seed = reference.seed
        scalars = {
            f"novelty_n{n}": _mean(overall[:, n - 1], n, documents, seed=seed) for n in self.shown_n
        }
        defined = ~np.isnan(overall).all(axis=0)
        scalars["novelty_auc"] = mean_over_images(
            mean_of_defined(overall[:, defined], axis=1), seed=seed, documents=documents
        )
        return Measurement(scalars=scalars, curves=curves)


def _mean(values_B: NDArray[np.float64], n: int, documents: Documents, *, seed: int) -> Measured:
    """Return the mean over the images that have n-grams."""
    long_enough = ~np.isnan(values_B)
    if not long_enough.any():
        return Measured(value=None, note=f"all samples are shorter than {n} tokens")
    return mean_over_images(
        values_B[long_enough], seed=seed, documents=of_rows(documents, long_enough)
    )
