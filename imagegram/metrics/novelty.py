"""What is new, and how much was decided: n-novelty curves and the orders that were used.

Novelty alone rewards noise, and plain samples can be *more* novel than held-out images, because
those share n-grams with the training corpus: read every number against its floor, and beside
quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.metrics.functional import length_edges, length_histogram, novelty_curve
from imagegram.metrics.intervals import mean_over_images
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement

_UNIT_BINS: Final = 32


@dataclass(frozen=True, kw_only=True)
class NoveltyMetric:
    """The n-novelty curve, over all tokens and per level.

    Scores ``novelty_n<n>`` for every n of ``shown_n`` and ``novelty_auc``, the mean of the curve
    over n = 1 ... max_n: 0 when every n-gram was seen, 1 when none was.

    Attributes:
        name: of this metric in the configuration.
        max_n: largest n.
        shown_n: which n become scores.
    """

    VERSION: ClassVar[int] = 1

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
        """Measure one image set against the index."""
        lengths_BT = reference.index.suffix_match_lengths(np.asarray(generated.tokens))
        overall = novelty_curve(lengths_BT, max_n=self.max_n)
        curves = {"novelty": overall.mean(axis=0)}
        for level, positions in enumerate(reference.layout.level_slices):
            ends = np.arange(positions.start, positions.stop)
            of_level = novelty_curve(lengths_BT, max_n=self.max_n, positions=ends)
            curves[f"novelty_level{level}"] = of_level.mean(axis=0)
        scalars = {
            f"novelty_n{n}": _mean(
                overall[:, n - 1], f"images are shorter than {n} tokens", reference
            )
            for n in self.shown_n
        }
        defined = ~np.isnan(overall).all(axis=0)
        scalars["novelty_auc"] = mean_over_images(
            overall[:, defined].mean(axis=1), seed=reference.seed
        )
        return Measurement(scalars=scalars, curves=curves)


@dataclass(frozen=True, kw_only=True)
class OrderMetric:
    """How long the contexts were that decided, and how much choice they left.

    ``mean_suffix_len``: tokens of context used. ``single_context_rate``: share of steps that one
    place of the corpus decided alone. ``choice_bits_per_image``: ``-sum log2 p`` of the written
    tokens, the bits that the sampler had to be told; few bits, little choice.
    ``impossible_step_rate``: share of steps whose token the sampler could not have written; above 0
    only in replayed images, whose bits are then not defined.

    Attributes:
        name: of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1

    name: str = "order"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure the trace of one image set."""
        trace, layout = generated.trace, reference.layout
        orders_BT = np.asarray(trace.suffix_len)
        impossible_BT = np.asarray(trace.probability) <= 0
        entropy_BT = np.asarray(trace.entropy, dtype=np.float64)
        # One bin a length where samplers live, half octaves beyond.
        far = length_edges(layout.num_tokens)
        edges = np.concatenate([np.arange(_UNIT_BINS), far[far >= _UNIT_BINS]])
        curves = {"order_edges": edges.astype(np.float64)}
        for level, positions in enumerate(layout.level_slices):
            curves[f"order_level{level}"] = length_histogram(orders_BT[:, positions], edges)
            curves[f"entropy_level{level}"] = entropy_BT[:, positions].mean(axis=0)
        single_BT = np.asarray(trace.num_contexts) == 1
        scalars = {
            "mean_suffix_len": mean_over_images(orders_BT.mean(axis=1), seed=reference.seed),
            "single_context_rate": mean_over_images(single_BT.mean(axis=1), seed=reference.seed),
            "impossible_step_rate": mean_over_images(
                impossible_BT.mean(axis=1), seed=reference.seed
            ),
        }
        if impossible_BT.any():
            scalars["choice_bits_per_image"] = Measured(
                value=None,
                note=f"{impossible_BT.mean():.2%} of the tokens have probability 0 under the "
                "sampler, so no number of bits writes these images",
            )
        else:
            bits_B = -np.log2(np.asarray(trace.probability, dtype=np.float64)).sum(axis=1)
            scalars["choice_bits_per_image"] = mean_over_images(bits_B, seed=reference.seed)
        return Measurement(scalars=scalars, curves=curves)


def _mean(values_B: NDArray[np.float64], reason: str, reference: Reference) -> Measured:
    if np.isnan(values_B).any():
        return Measured(value=None, note=reason)
    return mean_over_images(values_B, seed=reference.seed)
