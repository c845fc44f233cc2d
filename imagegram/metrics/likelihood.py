"""``bits_per_token``, ``bits_per_dim``: code length of an image under a smoothed n-gram.

The counts of all contexts of 0 ... ``max_context`` tokens become one proper distribution over the
vocabulary at every position: no token is impossible, and all of them sum to one. So

    sum_t -log2 p(x_t | x_0 ... x_{t-1})

is a code length: an arithmetic coder with these probabilities writes the tokens in at most two bits
more, and a reader with the same training images can decode them. Decoding tokens is deterministic,
so these bits also encode the decoded picture (other tokens may decode to the same picture, so its
shortest code can only be shorter). Therefore the number is comparable with the sizes of PNG, WebP
and JPEG XL files of the same pictures (``metrics/codecs.py``).

Held-out images show how well the counts predict new pictures. Training images need fewer bits
because they are in the counts; they are not subtracted. Generated images are measured under this
same model, whatever generated them: too few bits mean pictures that are already in the corpus, too
many bits mean pictures unlike the corpus.

>>> counts = np.array([3.0, 1.0, 0.0])  # of three tokens after some context
>>> p = interpolate(np.full(3, 1 / 3), counts, total=4.0, distinct=2.0, discount=0.75)
>>> p.round(4).tolist(), float(p.sum())
([0.6875, 0.1875, 0.125], 1.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, UnsupportedError, did_you_mean
from imagegram.executors.tiles import row_tiles
from imagegram.generators.ngram.model import NgramModel
from imagegram.layout import TokenLayout
from imagegram.metrics.features import undefined
from imagegram.metrics.intervals import mean_over_images
from imagegram.protocols import ImageSet, Index, Reference
from imagegram.records import EOS_TOKEN_ID, Measurement, ScoreInfo, Tokens, Trace
from imagegram.samplers.ngram import MATCHING, NgramSampler, matching_classes

Array = NDArray[np.float64]
#: Tokens that are replayed at a time, with 24 bytes of trace and 50 of counts each.
_TOKENS: Final = 1 << 21


@dataclass(frozen=True, kw_only=True)
class LikelihoodMetric:
    """Code lengths under an n-gram with interpolated absolute discounting.

    ``p_k(w|h) = max(c(hw) - d, 0) / c(h) + d N1+(h) / c(h) p_{k-1}(w|h')``

    with h the last k tokens, h' the last k - 1, c(h) the number of places after h (``matching``
    defines which count), c(hw) the number of them with token w, N1+(h) the number of different
    tokens there. Below order 0 every token of the vocabulary is equally likely; an order whose
    context does not occur is skipped. The separator before an image is a context token; the first
    token, which only the separator precedes, has no order 0. (Ney, Essen, Kneser, "On structuring
    probabilistic dependences in stochastic language modelling", Computer Speech and Language 8,
    1994; Chen, Goodman, "An empirical study of smoothing techniques for language modeling", ibid.
    13, 1999.)

    Scores: ``bits_per_token``, ``bits_per_token_level<k>`` where there are levels, and
    ``bits_per_dim``, all bits of an image by its 3 S S colour values, S the side of the finest
    level. Ordered tokens have no colour values of their own: S is then the side of the measured
    images, and larger images read fewer bits. Curve: ``code_length``, mean bits of every position.

    Counts come from the traces of ``max_context`` replays of the images, and of one replay of a few
    rows for order 0 (with matching by position, of up to twice as many rows as images). A trace
    keeps probabilities in 24 bits: counts are exact below 2^23, and beyond wrong by less than one
    in 2^23, some 10^-7 bits.

    Attributes:
        name: name of this metric in the configuration.
        max_context: longest context in tokens.
        discount: d, in (0, 1].
        matching: which places may continue a context, as in a sampler.
    """

    VERSION: ClassVar[int] = 2
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "places"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="bits_per_token",
            title="bits per token",
            headline=5,
            words="Code length under a smoothed n-gram of the corpus. Fewer: the corpus foretells "
            "it.",
            unit="bits",
            group="likelihood",
            rank=2,
            short="heldout_bits_per_token",
            short_of="floor",
        ),
        ScoreInfo(
            name="bits_per_dim",
            title="bits per colour value",
            words="The same by colour value of the picture; read it beside the lossless files.",
            unit="bits",
            group="likelihood",
            rank=1,
        ),
        ScoreInfo(
            name="bits_per_token_level{level:d}",
            title="bits per token of level {level}",
            words="Code length of a token of level {level}.",
            unit="bits",
            group="likelihood",
        ),
    )

    name: str = "likelihood"
    max_context: int = 2
    discount: float = 0.9
    matching: str = "channel"

    def __post_init__(self) -> None:
        if self.max_context < 1:
            raise ConfigError(
                f"metric.{self.name}.max_context is {self.max_context}; use 1 or more"
            )
        if not 0 < self.discount <= 1:
            raise ConfigError(
                f"metric.{self.name}.discount is {self.discount}; it must lie in (0, 1], type "
                f"metric.{self.name}.discount=0.9"
            )
        if self.matching not in MATCHING:
            raise ConfigError(
                f"metric.{self.name}.matching={self.matching!r}: "
                f"{did_you_mean(self.matching, MATCHING)}"
            )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set under the training corpus; takes up to 0.3 GB."""
        layout, num_images = reference.layout, generated.num_images
        levels_BL = np.empty((num_images, layout.num_levels))
        bits_T = np.zeros(layout.num_tokens)
        recipe = {
            "max_context": str(self.max_context),
            "discount": str(self.discount),
            "matching": self.matching,
        }
        dims = num_dims(layout, generated)
        if not layout.is_picture and dims:
            recipe["pixels"] = "x".join(map(str, generated.images.shape[1:]))
        task = reference.progress.start("code lengths", num_images, "images")
        for rows in row_tiles(num_images, max(_TOKENS // layout.num_tokens, 1)):
            try:
                bits_BT = self.code_lengths(np.asarray(generated.tokens[rows]), reference)
            except UnsupportedError as error:  # this engine does not support the matching
                reference.progress.finish(task)
                names = score_names(layout)
                reason = f"metric.{self.name}.matching={self.matching}: {error}"
                return Measurement(
                    scalars=dict.fromkeys(names, undefined(reason)), curves={}, recipe=recipe
                )
            for level, positions in enumerate(layout.level_slices):
                levels_BL[rows, level] = bits_BT[:, positions].sum(axis=1)
            bits_T += bits_BT.sum(axis=0)
            reference.progress.advance(task, len(bits_BT))
        reference.progress.finish(task)
        bits_B = levels_BL.sum(axis=1)
        values = [bits_B / layout.num_tokens, bits_B / max(dims, 1)]
        if layout.is_picture:  # one level equals all tokens
            values += list((levels_BL / layout.level_sizes).T)
        scalars = {
            name: mean_over_images(value_B, seed=reference.seed)
            for name, value_B in zip(score_names(layout), values, strict=True)
        }
        if not dims:
            scalars["bits_per_dim"] = undefined("these items are no pictures: they have no colours")
        return Measurement(
            scalars=scalars, curves={"code_length": bits_T / num_images}, recipe=recipe
        )

    def code_lengths(self, tokens_BT: Tokens, reference: Reference) -> Array:
        """Return (B, T) ``-log2 p`` of every token given the tokens before it."""
        p_BT = np.full(tokens_BT.shape, 1.0 / reference.vocab_size)
        for order in range(self.max_context + 1):
            if order:
                counts = self._counts(tokens_BT, reference, order)
            else:
                counts = self._zero_counts(tokens_BT, reference)
            longer = interpolate(
                p_BT, counts.held, counts.total, counts.distinct, discount=self.discount
            )
            p_BT = np.where(counts.seen, longer, p_BT)
        return np.asarray(-np.log2(p_BT))

    def _counts(self, tokens_BT: Tokens, reference: Reference, order: int) -> Counts:
        """Return the counts after the last ``order`` tokens before every position."""
        sampler = NgramSampler(
            name=f"order_{order}",
            temperature=1.0,
            max_context=max(order, 1),
            matching=self.matching,
        )
        model = NgramModel.over(reference.index).prepared(
            sampler, reference.context, reference.layout
        )
        trace = model.score(
            tokens_BT,
            sampler=sampler,
            layout=reference.layout,
            seed=reference.seed,
            progress=reference.progress,
            workers=reference.workers,
        )
        return counts_of(trace, order)

    def _zero_counts(self, tokens_BT: Tokens, reference: Reference) -> Counts:
        """Return the counts of order 0, by replaying tokens after one that occurs nowhere.

        They depend only on the class of a position and its token: each pair is replayed once.
        """
        seen = np.zeros(tokens_BT.shape, dtype=np.bool_)
        none = Counts(seen, *(np.ones(tokens_BT.shape) for _ in range(3)))
        if tokens_BT.shape[1] == 1:  # only first tokens
            return none
        classes_T = matching_classes(self.matching, reference.layout)
        asked = pack_pairs(tokens_BT[:, 1:], classes_T, absent=absent_token(reference.index))
        answers = self._counts(asked.rows, reference, 0)
        for wanted, answer in zip(none, answers, strict=True):
            wanted[:, 1:] = answer[asked.row, asked.column][asked.inverse]
        return none


class Pairs(NamedTuple):
    """Rows to replay that count how often a token occurs at positions of a class.

    Attributes:
        rows: (R, T) uint16; every counted token follows a token that occurs nowhere.
        row, column: (P,) place of each pair of class and token in ``rows``.
        inverse: (B, T - 1) pair of every token but the first of each image.
    """

    rows: Tokens
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    inverse: NDArray[np.int64]


def pack_pairs(tokens_BT: Tokens, classes_T: NDArray[np.int32], *, absent: int) -> Pairs:
    """Pack the pairs of class and token into few rows.

    A row has counted tokens at even or at odd positions and ``absent`` elsewhere; so two rows count
    one token at every position but the first, whose context is the separator.

    Args:
        tokens_BT: (B, T - 1) tokens of the positions 1 ... T - 1.
        classes_T: matching class of every position.
        absent: an id that no training image holds.
    """
    keys, inverse = np.unique(classes_T[1:].astype(np.int64) << 16 | tokens_BT, return_inverse=True)
    columns = np.argsort(classes_T[1:], kind="stable") + 1  # class by class
    of_columns, of_keys = classes_T[columns], keys >> 16
    first = np.searchsorted(of_columns, of_keys)
    width = np.searchsorted(of_columns, of_keys, side="right") - first
    turn, place = np.divmod(np.arange(len(keys)) - np.searchsorted(of_keys, of_keys), width)
    column = columns[first + place]
    row = 2 * turn + column % 2
    rows = np.full((2 * int(turn.max()) + 2, len(classes_T)), absent, dtype=np.uint16)
    rows[row, column] = keys & 0xFFFF
    return Pairs(rows=rows, row=row, column=column, inverse=inverse.reshape(tokens_BT.shape))


class Counts(NamedTuple):
    """Exact counts of one order, arrays (B, T).

    Attributes:
        seen: whether the context occurs, c(h) > 0; otherwise the other counts are undefined.
        held: c(hw) of the row's own token.
        total: c(h).
        distinct: N1+(h).
    """

    seen: NDArray[np.bool_]
    held: Array
    total: Array
    distinct: Array


def counts_of(trace: Trace, order: int) -> Counts:
    """Return the counts of one order from the trace of a sampler with temperature 1."""
    total = trace["num_contexts"].astype(np.float64)
    return Counts(
        seen=trace["suffix_len"] == order,
        held=np.rint(trace["probability"].astype(np.float64) * total),
        total=total,
        distinct=trace["num_distinct"].astype(np.float64),
    )


def interpolate(shorter: Array, held: Any, total: Any, distinct: Any, *, discount: float) -> Array:
    """Return probabilities of tokens after a context, given those after a shorter one.

    Args:
        shorter: p_{k-1}(w|h').
        held: c(hw), number of places with the token after the context.
        total: c(h), number of places after the context; at least 1.
        distinct: N1+(h), number of different tokens after the context.
        discount: d in (0, 1], subtracted from the count of every seen token.
    """
    return np.asarray((np.maximum(held - discount, 0.0) + discount * distinct * shorter) / total)


def absent_token(index: Index) -> int:
    """Return the largest id that occurs in no training image.

    Raises:
        UnsupportedError: when all 65,535 occur.
    """
    for token in range(EOS_TOKEN_ID - 1, -1, -1):
        if index.count([token]) == 0:
            return token
    raise UnsupportedError("every id below the separator occurs, so none can stand for no context")


def num_dims(layout: TokenLayout, images: ImageSet) -> int:
    """Return the number of colour values of an image: of the finest level, else of the picture.

    0 for items that are not pictures.
    """
    if layout.num_channels == 3:
        return 3 * layout.heights[-1] * layout.widths[-1]
    pictures = getattr(images, "images", None)
    return 0 if pictures is None else int(np.prod(pictures.shape[1:]))


def score_names(layout: TokenLayout) -> list[str]:
    """Return the names of the scores, in their order."""
    overall = ["bits_per_token", "bits_per_dim"]
    if not layout.is_picture:
        return overall
    return overall + [f"bits_per_token_level{level}" for level in range(layout.num_levels)]
