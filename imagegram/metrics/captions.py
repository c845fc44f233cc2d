"""``caption_*``: whether a generator hears captions, and whether they make copies.

Of samples under captions of training images: how much of each is the image whose caption it was
given, token by token at the same places, beside how much is the image of another caption.

Bits of a token of real images for the generator that is told their own caption, that of another
image, and none, in one order of the tokens: what a caption saves is a difference within an image.
As low with the caption of another image: captions are not heard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import mean_over_images, rate_over_images
from imagegram.metrics.features import undefined
from imagegram.metrics.functional import num_steps
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo

_OWN, _OTHER, _NONE = "log_prob", "log_prob_other", "log_prob_none"
#: Arrays of a score: of its bits, and, where there is a second, of what is taken off.
_SCORES: Final = {
    "caption_bits_per_token": (_OWN,),
    "caption_other_bits_per_token": (_OTHER,),
    "caption_none_bits_per_token": (_NONE,),
    "caption_gain_bits": (_OTHER, _OWN),
    "caption_gain_over_none_bits": (_NONE, _OWN),
}
_COPIES: Final = ("caption_own_tokens", "caption_other_tokens", "caption_own_copies")


@dataclass(frozen=True, kw_only=True)
class CaptionsMetric:
    """Metric of a generator that reads captions, on held-out and on training images.

    Of samples only the bits under the caption that they were asked for are known. Intervals are
    over images; those of gains are of differences within an image.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "trace.probability"})
    TRACE: ClassVar[str] = "probabilities of tokens (painted pictures: metric=[caption_errors])"
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="caption_bits_per_token",
            title="bits under the own caption",
            words="Code length of a token for the generator that is told the caption of the image; "
            "of samples, the one that they were asked for.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_other_bits_per_token",
            title="bits under another's caption",
            words="The same for the generator that is told the caption of another image.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_none_bits_per_token",
            title="bits without a caption",
            words="The same for the generator that is told no caption.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_gain_bits",
            title="bits that the right caption saves",
            words="What a token costs more under the caption of another image than under its own. "
            "0: captions are not heard.",
            unit="bits",
            better="higher",
            group="likelihood",
            rank=4,
        ),
        ScoreInfo(
            name="caption_gain_over_none_bits",
            title="bits that a caption saves",
            words="What a token costs more without a caption than under that of its image.",
            unit="bits",
            better="higher",
            group="likelihood",
        ),
        ScoreInfo(
            name="caption_own_tokens",
            title="tokens of the image whose caption was given",
            words="Tokens that the training image whose caption a sample was given has at the same "
            "place.",
            unit="% of tokens",
            better="lower",
            group="copying",
        ),
        ScoreInfo(
            name="caption_other_tokens",
            title="tokens of an image of another caption",
            words="The same of the image of the next sample that was given another caption: what "
            "is alike without a caption.",
            unit="% of tokens",
            group="copying",
        ),
        ScoreInfo(
            name="caption_own_copies",
            title="copies of the image whose caption was given",
            words="Samples that are, token by token, the training image whose caption they were "
            "given.",
            unit="% of samples",
            better="lower",
            group="copying",
        ),
    )

    name: str = "captions"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set; takes 8 bytes a token."""
        trace = generated.trace
        steps_B = num_steps(np.asarray(generated.tokens))

        def bits(array: str) -> NDArray[np.float64]:
            values_BT = np.asarray(trace[array], dtype=np.float64)
            found: NDArray[np.float64] = -values_BT.sum(axis=1) / math.log(2) / steps_B
            return found

        scalars = self._copies(generated, reference)
        for name, (first, *others) in _SCORES.items():
            if not {first, *others} <= trace.keys():
                scalars[name] = undefined(
                    "known of real images under generator=maskgen with captions asked for, in "
                    "random order: condition=caption sampler=any_order"
                )
                continue
            values_B = bits(first) - sum(bits(other) for other in others)
            scalars[name] = mean_over_images(values_B, seed=reference.seed)
        return Measurement(scalars=scalars, curves={}, recipe={"order": "random, so <="})

    def _copies(self, generated: Any, reference: Reference) -> dict[str, Measured]:
        """Compare samples with the training images whose captions they were given."""
        documents = getattr(generated, "caption_documents", None)
        if documents is None:
            why = "samples were given no captions of training images; type condition=caption"
            return dict.fromkeys(_COPIES, undefined(why))
        tokens_BT = np.asarray(generated.tokens)
        own_BT = tokens_BT == reference.documents.gather(documents)
        scalars = {
            "caption_own_tokens": mean_over_images(own_BT.mean(axis=1), seed=reference.seed),
            "caption_other_tokens": undefined("there is only one caption"),
            "caption_own_copies": rate_over_images(own_BT.all(axis=1)),
        }
        rows, others = other_rows(generated.captions)
        if len(rows):
            others_BT = tokens_BT[rows] == reference.documents.gather(documents[others])
            alike = mean_over_images(others_BT.mean(axis=1), seed=reference.seed)
            scalars["caption_other_tokens"] = alike
        return scalars


def other_rows(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows for which there is another caption, and the next row that has one.

    >>> [rows.tolist() for rows in other_rows(["a", "a", "b"])]
    [[0, 1, 2], [2, 2, 0]]
    >>> [rows.tolist() for rows in other_rows(["a", "a"])]
    [[], []]
    """
    count, pairs = len(texts), []
    for row, text in enumerate(texts):
        following = ((row + far) % count for far in range(1, count))
        other = next((each for each in following if texts[each] != text), None)
        if other is not None:
            pairs.append((row, other))
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]
