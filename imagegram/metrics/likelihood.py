"""``bits_per_token``, ``bits_per_dim``, ``bits_per_byte``: code lengths under a smoothed n-gram.

The counts of all contexts of 0 ... ``max_context`` tokens become one proper distribution over the
vocabulary at every position: no token is impossible, and all of them sum to one. So

    sum_t -log2 p(x_t | x_0 ... x_{t-1})

is a code length: an arithmetic coder with these probabilities writes the tokens in at most two bits
more, and a reader with the same training documents can decode them. Decoding tokens is
deterministic, so these bits also encode the decoded picture or text (other tokens may decode to the
same one, so its shortest code can only be shorter). Therefore the number is comparable with the
sizes of PNG, WebP and JPEG XL files of the same pictures (``metrics/codecs.py``), or of compressed
files of the same texts (``metrics/text_codecs.py``).

Held-out documents show how well the counts predict new ones. Training documents need fewer bits
because they are in the counts; they are not subtracted. Generated ones are measured under this same
model, whatever generated them: too few bits mean what is already in the corpus, too many bits mean
what is unlike the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, UnsupportedError, did_you_mean
from imagegram.executors.tiles import row_tiles
from imagegram.indexes.smoothing import SMOOTHING, smoothed
from imagegram.intervals import Documents, mean_over_images, ratio_over_images
from imagegram.layout import TokenLayout
from imagegram.metrics.features import undefined
from imagegram.metrics.functional import num_steps
from imagegram.metrics.replayed_counts import counts_after, counts_after_nothing, interpolate
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Counting, Measured, Measurement, ScoreInfo, Tokens
from imagegram.samplers.ngram import MATCHING, matching_classes
from imagegram.store.fingerprint import NOT_IDENTITY_AT_DEFAULT

Array = NDArray[np.float64]
#: Tokens that are measured at a time, with 24 bytes of trace and 50 of counts each.
_TOKENS: Final = 1 << 21


@dataclass(frozen=True, kw_only=True)
class LikelihoodMetric:
    """Code lengths under an interpolated n-gram, see ``indexes/smoothing.py``.

    With ``smoothing=absolute`` and one discount, order k has the probabilities

    ``p_k(w|h) = max(c(hw) - d, 0) / c(h) + d N1+(h) / c(h) p_{k-1}(w|h')``

    with h the last k tokens, h' the last k - 1, c(h) the number of places after h (``matching``
    defines which count), c(hw) the number of them with token w, N1+(h) the number of different
    tokens there. Below order 0 every token of the vocabulary is equally likely; an order whose
    context does not occur is skipped. (Chen, Goodman, "An empirical study of smoothing techniques
    for language modeling", Computer Speech and Language 13, 1999.)

    The separator before an image is a context token; the first token, which only the separator
    precedes, has no order 0. A text is a window of its document: nothing is known of what stands
    before it, any place of the corpus matches, and the separator that ends it early is one more
    token, which has its bits.

    Scores: ``bits_per_token``, ``bits_per_token_level<k>`` where there are levels; of pictures
    ``bits_per_dim``, all bits of an image by its 3 S S colour values, S the side of the finest
    level; of texts ``bits_per_byte``, all bits by all bytes. Ordered tokens have no colour values
    of their own: S is then the side of the measured images, and larger images read fewer bits.
    Curve: ``code_length``, mean bits of every position.

    Counts are those of replays (``metrics/replayed_counts.py``) with ``absolute``, one discount and
    pictures; otherwise of a walk over the whole corpus (``Index.gram_counts``), of half a
    microsecond a token of it, shared by threads.

    Attributes:
        name: name of this metric in the configuration.
        max_context: longest context in tokens; 4 are 5-grams.
        discount: d, in (0, 1]; None: three an order, for counts of 1, 2 and more, from how many
            n-grams have which count ("modified").
        matching: which places may continue a context, as in a sampler.
        smoothing: ``absolute``, or ``kneser_ney``: shorter contexts count different tokens before.
    """

    VERSION: ClassVar[int] = 2
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids"})
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
            name="bits_per_byte",
            title="bits per byte",
            words="The same by byte of UTF-8 of the text; read it beside the compressed files.",
            unit="bits",
            group="likelihood",
            rank=1,
            short="heldout_bits_per_byte",
            short_of="floor",
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
    discount: float | None = 0.9
    matching: str = "channel"
    smoothing: str = field(default="absolute", metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.max_context < 1:
            raise ConfigError(
                f"metric.{self.name}.max_context is {self.max_context}; use 1 or more"
            )
        if self.discount is not None and not 0 < self.discount <= 1:
            raise ConfigError(
                f"metric.{self.name}.discount is {self.discount}; it must lie in (0, 1], or be "
                f"null for three discounts from the counts; type metric.{self.name}.discount=0.9"
            )
        for knob, choices in (("matching", MATCHING), ("smoothing", SMOOTHING)):
            if (value := getattr(self, knob)) not in choices:
                raise ConfigError(
                    f"metric.{self.name}.{knob}={value!r}: {did_you_mean(value, choices)}"
                )
        if self.matching == "position" and not self._replays:
            raise ConfigError(
                f"metric.{self.name}.matching=position leaves too few places to count what stands "
                "before them, or how many n-grams have which count; type "
                f"metric.{self.name}.matching=channel, or smoothing=absolute and a discount"
            )

    @property
    def _replays(self) -> bool:
        """Whether replays give all counts that the smoothing asks for."""
        return self.smoothing == "absolute" and self.discount is not None

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set under the training corpus; takes up to 0.3 GB."""
        layout, num_images = reference.layout, generated.num_images
        texts = getattr(generated, "texts", None)
        levels_BL = np.empty((num_images, layout.num_levels))
        steps_B = np.empty(num_images)
        bits_T, steps_T = np.zeros((2, layout.num_tokens))
        dims = num_dims(layout, generated)
        recipe = self._recipe(layout, generated, is_text=texts is not None)
        task = reference.progress.start("code lengths", num_images, "images")
        for rows in row_tiles(num_images, max(_TOKENS // layout.num_tokens, 1)):
            tokens_BT = np.asarray(generated.tokens[rows])
            try:
                bits_BT = self.code_lengths(tokens_BT, reference, windows=texts is not None)
            except UnsupportedError as error:  # this engine does not support the matching
                reference.progress.finish(task)
                names = score_names(layout, is_text=texts is not None)
                reason = f"metric.{self.name}.matching={self.matching}: {error}"
                return Measurement(
                    scalars=dict.fromkeys(names, undefined(reason)), curves={}, recipe=recipe
                )
            for level, positions in enumerate(layout.level_slices):
                levels_BL[rows, level] = bits_BT[:, positions].sum(axis=1)
            steps_B[rows] = num_steps(tokens_BT)
            bits_T += bits_BT.sum(axis=0)
            steps_T += (np.arange(layout.num_tokens) < steps_B[rows, None]).sum(axis=0)
            reference.progress.advance(task, len(bits_BT))
        reference.progress.finish(task)
        bits_B = levels_BL.sum(axis=1)
        over: dict[str, Any] = {"seed": reference.seed, "documents": generated.row_documents}
        scalars = {"bits_per_token": mean_over_images(bits_B / steps_B, **over)}
        if texts is not None:
            scalars["bits_per_byte"] = bits_per_byte(bits_B, texts, **over)
        elif dims:
            scalars["bits_per_dim"] = mean_over_images(bits_B / dims, **over)
        else:
            scalars["bits_per_dim"] = undefined("these items are no pictures: they have no colours")
        if layout.is_picture:  # one level equals all tokens
            for level, bits in enumerate((levels_BL / layout.level_sizes).T):
                scalars[f"bits_per_token_level{level}"] = mean_over_images(bits, **over)
        curves = {"code_length": bits_T / np.maximum(steps_T, 1)}
        return Measurement(scalars=scalars, curves=curves, recipe=recipe)

    def _recipe(self, layout: TokenLayout, images: ImageSet, *, is_text: bool) -> dict[str, str]:
        recipe = {
            "max_context": str(self.max_context),
            "discount": "from the counts" if self.discount is None else str(self.discount),
            "matching": "free" if is_text else self.matching,
        }
        if self.smoothing != "absolute":
            recipe["smoothing"] = self.smoothing
        if is_text:
            recipe["window"] = str(layout.num_tokens)
        elif not layout.is_picture and num_dims(layout, images):
            recipe["pixels"] = "x".join(map(str, images.images.shape[1:]))
        return recipe

    def code_lengths(
        self, tokens_BT: Tokens, reference: Reference, *, windows: bool = False
    ) -> Array:
        """Return (B, T) ``-log2 p`` of every token given the tokens before it; 0 of padding.

        Args:
            tokens_BT: rows.
            reference: the corpus.
            windows: whether rows are windows of documents of any length, and not documents.
        """
        if self._replays and not windows:
            return self._replayed(tokens_BT, reference)
        if windows:
            classes_T = np.zeros(1, dtype=np.int32)
        else:
            classes_T = matching_classes(self.matching, reference.layout)
            check_lengths(reference)
        p_BT = smoothed(
            tokens_BT,
            reference.index,
            max_context=self.max_context,
            discount=self.discount,
            counting=Counting(
                class_of=classes_T,
                continuations=self.smoothing == "kneser_ney",
                ends=windows,
            ),
            vocab_size=reference.vocab_size,
            workers=reference.workers,
        )
        return np.abs(np.log2(p_BT))  # p is at most 1; no -0.0

    def _replayed(self, tokens_BT: Tokens, reference: Reference) -> Array:
        """Return the code lengths of one discount, from the counts of replays."""
        p_BT = np.full(tokens_BT.shape, 1.0 / reference.vocab_size)
        for order in range(self.max_context + 1):
            if order:
                counts = counts_after(tokens_BT, reference, order, matching=self.matching)
            else:
                counts = counts_after_nothing(tokens_BT, reference, matching=self.matching)
            longer = interpolate(
                p_BT, counts.held, counts.total, counts.distinct, discount=float(self.discount or 1)
            )
            p_BT = np.where(counts.seen, longer, p_BT)
        return np.asarray(-np.log2(p_BT))


def check_lengths(reference: Reference) -> None:
    """Refuse documents that are not as long as the rows.

    Raises:
        UnsupportedError: naming a shard of them.
    """
    width = reference.layout.num_tokens
    for number, shard in enumerate(reference.index.shards):
        length = shard.document_length
        if shard.num_documents and length != width:
            held = "documents of different lengths" if length is None else f"{length} tokens each"
            raise UnsupportedError(f"shard {number} holds {held}, and a row has {width}")


def bits_per_byte(bits_B: Array, texts: Any, *, seed: int, documents: Documents = None) -> Measured:
    """Return all bits by all bytes of UTF-8, with an interval over texts or their documents."""
    bytes_B = num_bytes(texts)
    if not bytes_B.any():
        return undefined("nothing was written")
    return ratio_over_images(bits_B, bytes_B, seed=seed, documents=documents)


def num_bytes(texts: Any) -> Array:
    """Return the (B,) number of bytes of texts in UTF-8."""
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    return np.array(sizes, dtype=np.float64)


def num_dims(layout: TokenLayout, images: ImageSet) -> int:
    """Return the number of colour values of an image: of the finest level, else of the picture.

    0 for items that are not pictures.
    """
    if layout.num_channels == 3:
        return 3 * layout.heights[-1] * layout.widths[-1]
    pictures = getattr(images, "images", None)
    return 0 if pictures is None else int(np.prod(pictures.shape[1:]))


def score_names(layout: TokenLayout, *, is_text: bool = False) -> list[str]:
    """Return the names of the scores, in their order."""
    overall = ["bits_per_token", "bits_per_byte" if is_text else "bits_per_dim"]
    if not layout.is_picture:
        return overall
    return overall + [f"bits_per_token_level{level}" for level in range(layout.num_levels)]
