"""How much was copied, in token space and exactly: whole images, sources, forced steps, spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from imagegram.errors import ConfigError
from imagegram.metrics.functional import length_edges, length_histogram
from imagegram.metrics.intervals import clopper_pearson, mean_over_images
from imagegram.metrics.sources import parse_sources
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measurement


@dataclass(frozen=True, kw_only=True)
class CopyingMetric:
    """Copies, measured against the index and in the trace.

    ``exact_copy_rate``: images whose tokens are those of a training document.
    ``largest_source_share``: mean over images of the share of tokens credited to one training
    document, see ``metrics/sources.py``. ``forced_copy_rate``: steps with a single possible next
    token, which was the one written. ``mean_copied_span``: tokens of the phrase that a token lies
    in, averaged over tokens. A training image reads 1, 1, -, T.

    Attributes:
        name: of this metric in the configuration.
        max_candidates: occurrences of a phrase among which its source is chosen.
    """

    VERSION: ClassVar[int] = 1

    name: str = "copying"
    max_candidates: int = 64

    def __post_init__(self) -> None:
        if self.max_candidates < 1:
            raise ConfigError(
                f"metric.{self.name}.max_candidates is {self.max_candidates}; use 1 or more"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the index, and read its trace."""
        tokens_BT = np.asarray(generated.tokens)
        layout, trace, seed = reference.layout, generated.trace, reference.seed
        equal_B = reference.index.documents_equal(tokens_BT) > 0
        sources = parse_sources(reference.index, tokens_BT, max_candidates=self.max_candidates)
        forced_BT = (np.asarray(trace.num_distinct) == 1) & (np.asarray(trace.source_document) >= 0)
        edges = length_edges(layout.num_tokens)
        curves = {
            "copied_span_edges": edges.astype(np.float64),
            "source_share": sources.shares,
            "source_document": sources.documents.astype(np.float64),
            "exact_copy": equal_B.astype(np.float64),
        }
        for level, positions in enumerate(layout.level_slices):
            curves[f"copied_span_level{level}"] = length_histogram(
                sources.span_lengths[:, positions], edges
            )
        return Measurement(
            scalars={
                "exact_copy_rate": clopper_pearson(
                    successes=int(equal_B.sum()), trials=len(equal_B)
                ),
                "largest_source_share": mean_over_images(sources.shares, seed=seed),
                "forced_copy_rate": mean_over_images(forced_BT.mean(axis=1), seed=seed),
                "mean_copied_span": mean_over_images(sources.span_lengths.mean(axis=1), seed=seed),
            },
            curves=curves,
        )
