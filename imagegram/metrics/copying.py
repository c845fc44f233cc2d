"""Copying, measured exactly in tokens: whole images, sources, phrases, spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import (
    Documents,
    mean_over_images,
    of_rows,
    quantile_over_images,
    rate_over_images,
)
from imagegram.layout import TokenLayout
from imagegram.metrics.coverage import usage_scores
from imagegram.metrics.functional import length_edges, mean_of_written, written_counts
from imagegram.metrics.sources import check_candidates, parse_images
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo, Sources, row_sizes
from imagegram.stages.effort import Effort

_HIGH_QUANTILE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class CopyingMetric:
    """Metric of copied tokens, by the index; sources are defined in ``metrics/sources.py``.

    ``exact_copy_rate``: images that are one phrase of one training document: of documents that all
    have the length of an image, those whose tokens are a document's.
    ``largest_source_share``: share of an image's tokens that is credited to one cluster of
    near-duplicates, mean over images; ``max_source_share_p95``: its 95th percentile.
    ``num_phrases``: fewest cut-and-paste operations that make an image, mean over images.
    ``num_effective_sources``: exp(entropy) of the shares of an image's sources, mean over the
    images that have one. ``source_coverage`` and ``source_gini``: use of the training corpus by all
    images, see ``metrics/coverage.py``. ``mean_copied_span``: tokens of the phrase that a token
    lies in, averaged over tokens. A set of training images reads 1, 1, 1, 1 phrase, 1 source and a
    span of T. Curves: one number an image, spans and shares by level; of ordered tokens also the
    share of images whose token at a position is credited to their largest source.

    Attributes:
        name: name of this metric in the configuration.
        max_candidates: occurrences of a phrase among which its source is chosen.
    """

    VERSION: ClassVar[int] = 2
    EFFORT: ClassVar[Effort] = Effort(token=3e-7)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "matches"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="exact_copy_rate",
            title="exact copies",
            headline=1,
            counts=("exact copy", "exact copies"),
            words="Samples whose tokens are those of a training document. Higher: more copying.",
            unit="% of samples",
            better="lower",
            group="copying",
            rank=2,
            short="exact_copy_rate",
            per_image=("exact_copy",),
        ),
        ScoreInfo(
            name="largest_source_share",
            title="largest source",
            headline=2,
            words="Mean share of a sample that one training document explains. Higher: more "
            "copying.",
            unit="% of tokens",
            better="lower",
            group="copying",
            rank=1,
            per_image=("source_share", "source_document"),
        ),
        ScoreInfo(
            name="max_source_share_p95",
            title="largest source of the worst 5 %",
            words="That share at its 95th percentile over the samples: how bad the worst are.",
            unit="% of tokens",
            better="lower",
            group="copying",
            short="max_source_share_p95",
        ),
        ScoreInfo(
            name="num_phrases",
            title="phrases",
            headline=3,
            words="Fewest cut-and-paste operations that make a sample of training documents. "
            "Fewer: more copying.",
            unit="phrases",
            better="higher",
            group="copying",
        ),
        ScoreInfo(
            name="num_effective_sources",
            title="effective sources",
            words="Training documents that a sample is made of, by entropy. 1 is a copy, a few are "
            "a collage.",
            unit="sources",
            group="copying",
        ),
        ScoreInfo(
            name="mean_copied_span",
            title="length of a copied run",
            words="Tokens in the copied phrase that a token lies in. Longer: more copying.",
            unit="tokens",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="source_coverage",
            title="training documents used",
            words="Training documents that any sample took a phrase from. Low: few are used.",
            unit="% of sources",
            group="copying",
            moves_with_n=True,
        ),
        ScoreInfo(
            name="source_gini",
            title="unevenness of use",
            words="How unevenly training documents are used: 0 all alike, 1 a single one.",
            group="copying",
            moves_with_n=True,
        ),
    )

    name: str = "copying"
    max_candidates: int = 64

    def __post_init__(self) -> None:
        check_candidates(self.name, self.max_candidates)

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the index; takes up to 0.4 GB."""
        layout, clusters = reference.layout, reference.clusters()
        edges = length_edges(layout.num_tokens)
        histograms = np.zeros((layout.num_levels, len(edges)), dtype=np.int64)
        credited_N = np.zeros(len(clusters), dtype=np.int64)
        own_T = np.zeros(layout.num_tokens)
        parts = []
        parses = parse_images(generated, reference, max_candidates=self.max_candidates)
        for tokens_BT, sources in parses:
            sizes_B = row_sizes(tokens_BT)
            own_BT = _is_largest(sources, clusters)
            exact_B = (sources.num_phrases == 1) & (sources.documents >= 0)
            parts.append(
                {
                    "exact_copy": exact_B.astype(np.float64),
                    "source_share": sources.shares,
                    "source_document": sources.documents.astype(np.float64),
                    "num_phrases": sources.num_phrases.astype(np.float64),
                    "num_effective": sources.num_effective,
                    "copied_span": mean_of_written(sources.span_lengths, sizes_B),
                    **_level_shares(own_BT, sizes_B, layout),
                }
            )
            own_T += own_BT.sum(axis=0)
            seen = sources.token_documents[sources.token_documents >= 0]
            credited_N += np.bincount(clusters[seen], minlength=len(clusters))
            for level, positions in enumerate(layout.level_slices):
                histograms[level] += written_counts(
                    sources.span_lengths, sizes_B, edges, positions=positions
                )
        images = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        curves = {name: images[name] for name in ("source_share", "source_document", "exact_copy")}
        curves["copied_span_edges"] = edges.astype(np.float64)
        for level, counts in enumerate(histograms):
            curves[f"copied_span_level{level}"] = counts / max(1, counts.sum())
            name = f"source_share_level{level}"
            curves[name] = images[name].mean(keepdims=True)
        if not layout.is_picture:
            curves["source_share_by_position"] = own_T / generated.num_images
        return Measurement(
            scalars={
                **_scores(images, generated.row_documents, seed=reference.seed),
                **usage_scores(credited_N, clusters),
            },
            curves=curves,
        )


def _scores(
    images: dict[str, NDArray[np.float64]], documents: Documents, *, seed: int
) -> dict[str, Measured]:
    """Return the scores of an image set from one number per image."""
    exact, shares = images["exact_copy"], images["source_share"]
    over: dict[str, Any] = {"seed": seed, "documents": documents}
    credited = images["num_effective"] > 0
    effective = Measured(value=None, note="no token is credited to a training image")
    if credited.any():
        over_credited = over | {"documents": of_rows(documents, credited)}
        effective = mean_over_images(images["num_effective"][credited], **over_credited)
    return {
        "exact_copy_rate": rate_over_images(exact > 0, documents=documents),
        "largest_source_share": mean_over_images(shares, **over),
        "max_source_share_p95": quantile_over_images(
            shares, _HIGH_QUANTILE, lowest=0.0, highest=1.0, documents=documents
        ),
        "num_phrases": mean_over_images(images["num_phrases"], **over),
        "num_effective_sources": effective,
        "mean_copied_span": mean_over_images(images["copied_span"], **over),
    }


def _level_shares(
    own_BT: NDArray[np.bool_], sizes_B: NDArray[np.int64], layout: TokenLayout
) -> dict[str, NDArray[Any]]:
    """Return the (B,) shares of each level's tokens that are credited to the largest source."""
    return {
        f"source_share_level{level}": mean_of_written(own_BT, sizes_B, positions=positions)
        for level, positions in enumerate(layout.level_slices)
    }


def _is_largest(sources: Sources, clusters: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (B, T) whether a token is credited to the image's largest source."""
    documents = sources.token_documents
    return np.asarray((clusters[documents] == sources.clusters[:, None]) & (documents >= 0))
