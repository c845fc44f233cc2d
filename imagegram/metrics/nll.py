"""``nll_bits_per_token``: code length of documents under the generator that is measured itself.

``nll_bits_per_byte``, of texts, is the same by bytes, beside which compressed files can be read
(``metrics/text_codecs.py``); ``nll_bits_per_dim``, where tokens are colours, by the colour values
of the picture, beside PNG, WebP and JPEG XL (``metrics/codecs.py``).
``nll_memorized_bits_per_token`` is the code length of held-out documents less that of training
documents.

The mean of ``-log2 p(x_t | x_0 ... x_{t-1})`` with the generator's own probabilities, before any
sampler sharpens or cuts them. Of a network that fills in tokens in random order (its trace has
``step``, the pass that wrote a token) it is an upper bound of the code length: each document is
measured in one order drawn for it, tokens of one pass without each other.

Held-out documents show how well it predicts, training documents how much of them it has learned by
heart: on 20,000 images they differ little, on 1,000 images and many epochs by many bits.
(``likelihood`` is the same under an n-gram of the corpus, for any generator.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from imagegram.executors.tiles import row_tiles
from imagegram.intervals import mean_over_images
from imagegram.metrics.functional import num_steps
from imagegram.metrics.likelihood import bits_per_byte, num_dims
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo

#: Tokens that are read at a time.
_TOKENS: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class NllMetric:
    """Metric of the negative log-likelihood that a generator gives to tokens, in bits.

    A step writes a token, or the separator that ends a document early; padding is not a step.

    Curve: ``nll``, mean bits of every position.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 5
    NEEDS: ClassVar[frozenset[str]] = frozenset({"trace.log_prob"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="nll_bits_per_token",
            title="bits per token under the generator",
            words="Code length under the generator itself. Training documents far below held-out "
            "ones: it has learned them by heart. An upper bound (<=) for masked generators, in one "
            "random order a document.",
            unit="bits",
            group="likelihood",
            rank=1,
            short="heldout_nll_bits_per_token",
            short_of="floor",
        ),
        ScoreInfo(
            name="nll_bits_per_dim",
            title="bits per colour value under the generator",
            words="All bits of a picture by its colour values, where tokens are colours; read it "
            "beside the lossless files.",
            unit="bits",
            group="likelihood",
            rank=2,
            short="heldout_nll_bits_per_dim",
            short_of="floor",
        ),
        ScoreInfo(
            name="nll_bits_per_byte",
            title="bits per byte under the generator",
            words="The same by byte of UTF-8 of the text; read it beside the compressed files.",
            unit="bits",
            group="likelihood",
            rank=2,
            short="heldout_nll_bits_per_byte",
            short_of="floor",
        ),
        ScoreInfo(
            name="nll_memorized_bits_per_token",
            title="bits learned by heart",
            words="Held-out less training bits of a token: what the generator knows of its "
            "training documents beyond what it knows of others.",
            unit="bits",
            group="likelihood",
            rank=3,
            short="memorized_bits_per_token",
        ),
    )

    name: str = "nll"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set; takes up to 0.1 GB."""
        num_images, num_tokens = generated.num_images, generated.tokens.shape[1]
        bits_B, steps_of_B = np.empty((2, num_images))
        bits_T, steps_T = np.zeros((2, num_tokens))
        for rows in row_tiles(num_images, max(_TOKENS // num_tokens, 1)):
            steps_B = num_steps(np.asarray(generated.tokens[rows]))
            log_prob_BT = np.asarray(generated.trace["log_prob"][rows], dtype=np.float64)
            bits_BT = -log_prob_BT / math.log(2)
            bits_B[rows], steps_of_B[rows] = bits_BT.sum(axis=1), steps_B
            bits_T += bits_BT.sum(axis=0)
            steps_T += (np.arange(num_tokens) < steps_B[:, None]).sum(axis=0)
        seed, texts = reference.seed, getattr(generated, "texts", None)
        over: dict[str, Any] = {"seed": seed, "documents": generated.row_documents}
        scalars = {"nll_bits_per_token": mean_over_images(bits_B / steps_of_B, **over)}
        if texts is not None:
            scalars["nll_bits_per_byte"] = bits_per_byte(bits_B, texts, **over)
        elif reference.layout.is_picture and reference.layout.num_channels == len("rgb"):
            dims = num_dims(reference.layout, generated)
            scalars["nll_bits_per_dim"] = mean_over_images(bits_B / dims, **over)
        order = {"order": "random, so <="} if "step" in generated.trace else {}
        return Measurement(
            scalars=scalars,
            curves={"nll": bits_T / np.maximum(steps_T, 1)},
            recipe=order,
        )

    def across(self, measured: Mapping[str, Measurement]) -> dict[str, Measured]:
        """Return the held-out less the training bits; their errors are independent."""
        name = "nll_memorized_bits_per_token"
        ends = [measured.get(which) for which in ("floor", "ceiling")]
        found = [each.scalars["nll_bits_per_token"] for each in ends if each is not None]
        if len(found) < len(ends):
            return {name: Measured(value=None, note="needs held-out and training documents")}
        floor, ceiling = found
        if floor.value is None or ceiling.value is None:
            return {name: Measured(value=None, note=floor.note or ceiling.note)}
        value = floor.value - ceiling.value
        if None in (floor.low, floor.high, ceiling.low, ceiling.high):
            return {name: Measured(value=value)}
        low, high = (
            math.hypot(_gap(floor, end), _gap(ceiling, other))
            for end, other in (("low", "high"), ("high", "low"))
        )
        return {name: Measured(value=value, low=value - low, high=value + high)}


def _gap(measured: Measured, end: str) -> float:
    return float(getattr(measured, end) - (measured.value or 0.0))
