"""How much was copied, in token space and exactly: whole images, sources, forced steps, spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from imagegram.errors import ConfigError
from imagegram.metrics.functional import length_counts, length_edges
from imagegram.metrics.intervals import clopper_pearson, mean_over_images
from imagegram.metrics.sources import parse_sources
from imagegram.metrics.tiles import row_tiles
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measurement

#: Tokens that are parsed at a time.
_TOKENS: Final = 1 << 23


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
    READS_TRACE: ClassVar[bool] = True

    name: str = "copying"
    max_candidates: int = 64

    def __post_init__(self) -> None:
        if self.max_candidates < 1:
            raise ConfigError(
                f"metric.{self.name}.max_candidates is {self.max_candidates}; use 1 or more"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the index, and read its trace; takes up to 0.4 GB."""
        layout, seed, index = reference.layout, reference.seed, reference.index
        edges = length_edges(layout.num_tokens)
        num_images = generated.num_images
        equal_B = np.empty(num_images, dtype=np.bool_)
        forced_B, spans_B, shares_B = (np.empty(num_images) for _ in range(3))
        documents_B = np.empty(num_images, dtype=np.int64)
        histograms = np.zeros((layout.num_levels, len(edges)), dtype=np.int64)
        lengths_BT, trace = reference.match_lengths(generated), generated.trace
        task = reference.progress.start("copies", num_images, "images")
        for rows in row_tiles(num_images, max(_TOKENS // layout.num_tokens, 1)):
            tokens_BT = np.asarray(generated.tokens[rows])
            equal_B[rows] = index.documents_equal(tokens_BT, workers=reference.workers) > 0
            sources = parse_sources(
                index,
                tokens_BT,
                lengths_BT[rows],
                max_candidates=self.max_candidates,
                workers=reference.workers,
            )
            shares_B[rows], documents_B[rows] = sources.shares, sources.documents
            spans_B[rows] = sources.span_lengths.mean(axis=1)
            forced = (trace.num_distinct[rows] == 1) & (trace.source_document[rows] >= 0)
            forced_B[rows] = forced.mean(axis=1)
            for level, positions in enumerate(layout.level_slices):
                histograms[level] += length_counts(sources.span_lengths[:, positions], edges)
            reference.progress.advance(task, len(tokens_BT))
        reference.progress.finish(task)
        curves = {
            "copied_span_edges": edges.astype(np.float64),
            "source_share": shares_B,
            "source_document": documents_B.astype(np.float64),
            "exact_copy": equal_B.astype(np.float64),
        }
        for level, counts in enumerate(histograms):
            curves[f"copied_span_level{level}"] = counts / max(1, counts.sum())
        return Measurement(
            scalars={
                "exact_copy_rate": clopper_pearson(
                    successes=int(equal_B.sum()), trials=len(equal_B)
                ),
                "largest_source_share": mean_over_images(shares_B, seed=seed),
                "forced_copy_rate": mean_over_images(forced_B, seed=seed),
                "mean_copied_span": mean_over_images(spans_B, seed=seed),
            },
            curves=curves,
        )
