"""How each token was chosen, from the trace: forced steps, length of context, bits of choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from imagegram.executors.tiles import row_tiles
from imagegram.intervals import mean_over_images
from imagegram.metrics.functional import (
    length_edges,
    mean_of_written,
    num_steps,
    written_counts,
)
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo
from imagegram.stages.effort import Effort

_UNIT_BINS: Final = 32
#: Tokens that are read at a time.
_TOKENS: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class OrderMetric:
    """Metric of the contexts that decided the tokens: their length, and the choice they left.

    ``forced_copy_rate``: share of steps with a single possible next token, which was the one
    written: the model had no choice. ``mean_suffix_len``: tokens of context used.
    ``single_context_rate``: share of steps whose context has a single place in the corpus.
    ``choice_bits_per_image``: ``-sum log2 p`` of the written tokens, the information that the
    random choices added; few bits mean little choice.
    ``impossible_step_rate``: share of steps whose token the sampler could not have written; above 0
    only in replayed images, whose bits are then not defined.

    A step writes a token, or the separator that ends an image early; padding is not a step.

    Curves: lengths of contexts and entropies by level; of ordered tokens also the share of forced
    steps and the mean context of every position.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 3
    EFFORT: ClassVar[Effort] = Effort(token=3e-8)
    TRACE: ClassVar[str] = "the contexts that an n-gram chose its tokens by"
    NEEDS: ClassVar[frozenset[str]] = frozenset(
        f"trace.{name}"
        for name in (
            "suffix_len",
            "num_contexts",
            "num_distinct",
            "probability",
            "entropy",
            "source_document",
        )
    )
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="forced_copy_rate",
            title="forced steps",
            headline=7,
            words="Steps at which the corpus left one single next token. Higher: more copying.",
            unit="% of steps",
            better="lower",
            group="copying",
            rank=3,
            short="forced_copy_rate",
        ),
        ScoreInfo(
            name="mean_suffix_len",
            title="length of the context",
            words="Tokens of context that decided a token. Longer leaves less choice.",
            unit="tokens",
            group="novelty and choice",
        ),
        ScoreInfo(
            name="single_context_rate",
            title="steps that one place decided",
            words="Steps that one place of the corpus decided alone. Higher: more copying.",
            unit="% of steps",
            better="lower",
            group="novelty and choice",
        ),
        ScoreInfo(
            name="impossible_step_rate",
            title="impossible steps",
            words="Tokens that the sampler could not have written; 0 for its own samples.",
            unit="% of steps",
            group="novelty and choice",
        ),
        ScoreInfo(
            name="choice_bits_per_image",
            title="bits of choice",
            words="Bits that tell which tokens were drawn. Fewer bits, closer to a replay.",
            unit="bits",
            group="novelty and choice",
        ),
    )

    name: str = "order"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure the trace of one image set; takes up to 0.2 GB."""
        trace, layout, num_images = generated.trace, reference.layout, generated.num_images
        # One bin per length for the usual contexts, half octaves beyond.
        far = length_edges(layout.num_tokens)
        edges = np.concatenate([np.arange(_UNIT_BINS), far[far >= _UNIT_BINS]])
        curves = {"order_edges": edges.astype(np.float64)}
        orders_B, single_B, forced_B, impossible_B, bits_B = np.empty((5, num_images))
        entropy_T, forced_T, orders_T, steps_T = np.zeros((4, layout.num_tokens))
        histograms = np.zeros((layout.num_levels, len(edges)), dtype=np.int64)
        for rows in row_tiles(num_images, max(_TOKENS // layout.num_tokens, 1)):
            steps_B = num_steps(np.asarray(generated.tokens[rows]))
            orders_BT = np.asarray(trace["suffix_len"][rows])
            probability_BT = np.asarray(trace["probability"][rows], dtype=np.float64)
            orders_B[rows] = mean_of_written(orders_BT, steps_B)
            single_B[rows] = mean_of_written(trace["num_contexts"][rows] == 1, steps_B)
            forced = (trace["num_distinct"][rows] == 1) & (trace["source_document"][rows] >= 0)
            forced_B[rows] = mean_of_written(forced, steps_B)
            impossible_B[rows] = mean_of_written(probability_BT <= 0, steps_B)
            # Impossible steps have no bits; bits are reported only without such steps.
            bits_B[rows] = -np.log2(np.where(probability_BT > 0, probability_BT, 1.0)).sum(axis=1)
            entropy_T += np.asarray(trace["entropy"][rows], dtype=np.float64).sum(axis=0)
            forced_T += forced.sum(axis=0)
            orders_T += orders_BT.sum(axis=0, dtype=np.int64)
            steps_T += (np.arange(layout.num_tokens) < steps_B[:, None]).sum(axis=0)
            for level, positions in enumerate(layout.level_slices):
                histograms[level] += written_counts(orders_BT, steps_B, edges, positions=positions)
        steps_T = np.maximum(steps_T, 1)
        for level, positions in enumerate(layout.level_slices):
            curves[f"order_level{level}"] = histograms[level] / max(1, histograms[level].sum())
            curves[f"entropy_level{level}"] = entropy_T[positions] / steps_T[positions]
        if not layout.is_picture:
            curves["forced_by_position"] = forced_T / steps_T
            curves["suffix_len_by_position"] = orders_T / steps_T
        over: dict[str, Any] = {"seed": reference.seed, "documents": generated.row_documents}
        scalars = {
            "forced_copy_rate": mean_over_images(forced_B, **over),
            "mean_suffix_len": mean_over_images(orders_B, **over),
            "single_context_rate": mean_over_images(single_B, **over),
            "impossible_step_rate": mean_over_images(impossible_B, **over),
        }
        if impossible_B.any():
            scalars["choice_bits_per_image"] = Measured(
                value=None,
                note=f"{impossible_B.mean():.2%} of the tokens have probability 0 under the "
                "sampler, so no number of bits writes these",
            )
        else:
            scalars["choice_bits_per_image"] = mean_over_images(bits_B, **over)
        return Measurement(scalars=scalars, curves=curves)
