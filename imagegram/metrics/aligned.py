"""Copying in place: tokens that a training image has at the same positions.

A match anywhere may be a common texture. A match at the same level, row and column is a part of one
training picture that was copied without being moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import row_tiles
from imagegram.indexes.base import suffix_lengths
from imagegram.intervals import clopper_pearson, mean_over_images
from imagegram.layout import TokenLayout
from imagegram.metrics.features import undefined
from imagegram.metrics.functional import length_counts, length_edges
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo, Tokens
from imagegram.stages.effort import Effort

#: Tokens of images that are compared with the corpus at a time.
_TOKENS: Final = 1 << 25
#: Tokens that are read at a time.
_FEW_TOKENS: Final = 1 << 22
_NO_ORDER: Final = "these tokens have no order: their first ones say no more than any others"


@dataclass(frozen=True, kw_only=True)
class AlignedMetric:
    """Metric of equal tokens at equal positions, exact over all training documents.

    ``near_exact_rate``: images of which at least ``near_exact_share`` of the tokens are those of
    one training document. ``aligned_agreement``: mean share of tokens that an image has in common
    with the document that agrees best. ``mean_aligned_match``: mean length of the longest match
    that ends at a token and that some document holds at the same positions;
    ``mean_free_match``: the same, anywhere in the corpus. ``copied_prefix_share``: mean share of
    the longest prefix that is some document's prefix, coarse levels first.
    ``copied_through_level<k>_rate``: images whose copied prefix reaches the end of level k; of
    ordered tokens, which have one level, ``copied_through_k<k>_rate``: k tokens, a quarter of them,
    half and all. A training image reads 1, 1, (T + 1) / 2, at least as much, 1, 1.

    Curves: one number an image, matches and agreement by level; of ordered tokens also the share of
    images whose copied prefix reaches a position.

    Attributes:
        name: name of this metric in the configuration.
        near_exact_share: share of equal tokens from which an image counts as a near copy.
    """

    VERSION: ClassVar[int] = 1
    EFFORT: ClassVar[Effort] = Effort(training_token=2.6e-8, pair_token=3e-11)
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "matches", "places"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="near_exact_rate",
            title="nearly exact copies",
            words="Samples that share nearly all of their tokens, each at its place, with one "
            "training document. Higher: more copying.",
            unit="% of samples",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="aligned_agreement",
            title="agreement in place",
            words="Tokens equal to those of the training document that agrees best, at the same "
            "places. Higher: more copying.",
            unit="% of tokens",
            better="lower",
            group="copying",
            per_image=("aligned_document",),
        ),
        ScoreInfo(
            name="mean_aligned_match",
            title="copied run in place",
            words="Tokens of the longest run up to a token that a training document holds at the "
            "same places. Longer: more copying.",
            unit="tokens",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="mean_free_match",
            title="copied run anywhere",
            words="The same run, wherever in a training document. Hardly longer than in place: a "
            "part was copied; much longer: what is common to many.",
            unit="tokens",
            group="copying",
        ),
        ScoreInfo(
            name="copied_prefix_share",
            title="copied beginning",
            words="Share of the longest beginning, coarse tokens first, that is a training "
            "document's. Higher: its layout was copied.",
            unit="% of tokens",
            better="lower",
            group="copying",
            per_image=("copied_prefix",),
        ),
        ScoreInfo(
            name="copied_through_level{level:d}_rate",
            title="copied up to level {level}",
            words="Samples that are one training document's up to the end of level {level}. "
            "Higher: more copying.",
            unit="% of samples",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="copied_through_k{k:d}_rate",
            title="first {k} tokens copied",
            words="Samples whose prefix of length {k} is a training document's. Higher: more "
            "copying.",
            unit="% of samples",
            better="lower",
            group="copying",
        ),
    )

    name: str = "aligned"
    near_exact_share: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.near_exact_share <= 1:
            raise ConfigError(
                f"metric.{self.name}.near_exact_share is {self.near_exact_share}; use a share "
                "above 0 and up to 1, for example 0.9"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against all documents; takes up to 0.3 GB, 0.15 GB a worker.

        Most of the time goes into comparing every image with every document: 0.03 ns x images x
        documents x tokens on one core.
        """
        layout, seed = reference.layout, reference.seed
        found = [
            _lay_over(np.asarray(generated.tokens[rows]), reference)
            for rows in row_tiles(generated.num_images, max(_TOKENS // layout.num_tokens, 1))
        ]
        prefixes_B = np.concatenate([part.prefixes for part in found])
        shares_LB = np.concatenate([part.shares for part in found], axis=1)
        equal_B = np.concatenate([part.equal for part in found]) / layout.num_tokens
        scalars = {
            # Two correctly rounded quotients: a share of exactly 0.9 is not below 0.9.
            "near_exact_rate": _rate(equal_B >= self.near_exact_share),
            "aligned_agreement": mean_over_images(equal_B, seed=seed),
            "mean_aligned_match": mean_over_images(
                np.concatenate([part.means for part in found]), seed=seed
            ),
            "mean_free_match": mean_over_images(_free_matches(generated, reference), seed=seed),
            "copied_prefix_share": undefined(_NO_ORDER)
            if layout.order == "none"
            else mean_over_images(prefixes_B / layout.num_tokens, seed=seed),
        }
        edges = length_edges(layout.num_tokens)
        histograms = np.sum([part.histograms for part in found], axis=0)
        curves = {
            "aligned_match_edges": edges.astype(np.float64),
            "copied_prefix": prefixes_B.astype(np.float64),
            "aligned_document": np.concatenate([part.documents for part in found]).astype(float),
        }
        for through, end in prefix_ends(layout).items():
            scalars[f"copied_through_{through}_rate"] = _rate(prefixes_B >= end)
        if not layout.is_picture and layout.order != "none":
            positions = np.arange(layout.num_tokens)
            reached = [float((prefixes_B > position).mean()) for position in positions]
            curves["copied_prefix_by_position"] = np.array(reached)
        for level, counts in enumerate(histograms):
            curves[f"aligned_match_level{level}"] = counts / max(1, counts.sum())
            curves[f"agreement_level{level}"] = shares_LB[level].mean(keepdims=True)
        return Measurement(scalars=scalars, curves=curves)


def prefix_ends(layout: TokenLayout) -> dict[str, int]:
    """Return the prefixes that become scores: name -> number of tokens.

    >>> prefix_ends(TokenLayout.pyramid((1, 2)))
    {'level0': 3, 'level1': 15}
    >>> prefix_ends(TokenLayout.sequence(16))
    {'k4': 4, 'k8': 8, 'k16': 16}
    >>> prefix_ends(TokenLayout.sequence(16, order="none"))
    {'k16': 16}
    """
    if layout.is_picture:
        return {f"level{level}": part.stop for level, part in enumerate(layout.level_slices)}
    cuts = (1,) if layout.order == "none" else (4, 2, 1)
    lengths = {max(layout.num_tokens // parts, 1) for parts in cuts}
    return {f"k{length}": length for length in sorted(lengths)}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Overlay:
    """The agreement of some images with the training documents, position by position.

    Attributes:
        equal: (B,) number of tokens equal to those of the best document.
        documents: (B,) id of that document.
        shares: (L, B) share of equal tokens with that document, by level.
        means: (B,) mean length of the longest aligned match that ends at a token.
        prefixes: (B,) tokens of the longest copied prefix.
        histograms: (L, E) aligned matches by level and length.
    """

    equal: NDArray[np.int32]
    documents: NDArray[np.int64]
    shares: NDArray[np.float64]
    means: NDArray[np.float64]
    prefixes: NDArray[np.int64]
    histograms: NDArray[np.int64]


def _lay_over(tokens_BT: Tokens, reference: Reference) -> _Overlay:
    from imagegram.metrics.positional import aligned_agreement, aligned_suffix_lengths

    layout, documents, progress = reference.layout, reference.documents, reference.progress
    task = progress.start("same positions", 2 * documents.num_documents, "documents")
    shared: dict[str, Any] = {
        "workers": reference.workers,
        "advance": lambda number: progress.advance(task, number),
    }
    lengths_BT = aligned_suffix_lengths(tokens_BT, documents, **shared)
    equal_B, documents_B = aligned_agreement(tokens_BT, documents, **shared)
    progress.finish(task)
    edges = length_edges(layout.num_tokens)
    return _Overlay(
        equal=equal_B,
        documents=documents_B,
        shares=_shares_by_level(tokens_BT, documents_B, reference),
        means=lengths_BT.mean(axis=1),
        # A match of t + 1 tokens that ends at t began with the image, so all before it did.
        prefixes=(lengths_BT == np.arange(1, layout.num_tokens + 1)).sum(axis=1),
        histograms=np.array(
            [length_counts(lengths_BT[:, part], edges) for part in layout.level_slices]
        ),
    )


def _shares_by_level(
    tokens_BT: Tokens, documents_B: NDArray[np.int64], reference: Reference
) -> NDArray[np.float64]:
    """Return the (L, B) share of each level's tokens that equal those of each row's document."""
    layout: TokenLayout = reference.layout
    shares_LB = np.empty((layout.num_levels, len(tokens_BT)))
    for rows in row_tiles(len(tokens_BT), max(_FEW_TOKENS // layout.num_tokens, 1)):
        equal_BT = tokens_BT[rows] == reference.documents.gather(documents_B[rows])
        for level, part in enumerate(layout.level_slices):
            shares_LB[level, rows] = equal_BT[:, part].mean(axis=1)
    return shares_LB


def _free_matches(generated: ImageSet, reference: Reference) -> NDArray[np.float64]:
    """Return the (B,) mean length of the longest match anywhere that ends at a token."""
    matches_BT = reference.match_lengths(generated)
    means_B = np.empty(generated.num_images)
    for rows in row_tiles(len(means_B), max(_FEW_TOKENS // reference.layout.num_tokens, 1)):
        means_B[rows] = suffix_lengths(matches_BT[rows]).mean(axis=1)
    return means_B


def _rate(hits_B: NDArray[np.bool_]) -> Measured:
    return clopper_pearson(successes=int(hits_B.sum()), trials=len(hits_B))
