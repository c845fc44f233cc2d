"""``psnr``, ``rfd_<encoder>``, ``codebook_usage``: loss and use of ids by the tokenizer alone.

No generator can be better than its tokens. Real images show how far decoded tokens are from their
originals: a large loss on held-out images is the tokenizer's fault and not the generator's. The use
of ids is measured on every set of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import row_tiles
from imagegram.intervals import clopper_pearson, mean_over_images
from imagegram.layout import TokenLayout
from imagegram.metrics.features import FeaturePair, feature_recipe, score_suffix, undefined
from imagegram.metrics.functional import frechet_distance
from imagegram.protocols import Encoder, ImageSet, Reference
from imagegram.records import Features, Images, Measured, Measurement, ScoreInfo, Tokens

#: Images that are compared or embedded at a time.
_IMAGES: Final = 64
#: Tokens that are counted at a time.
_TOKENS: Final = 1 << 22
_PEAK: Final = 255.0


@dataclass(frozen=True, kw_only=True)
class ReconstructionMetric:
    """Metric of the tokenizer's loss; originals are resized to its square, bilinear.

    ``psnr``: ``10 log10(255^2 / MSE)`` in dB, of the mean squared error of all colour values (one
    exact image would make the mean of every image's own PSNR infinite).
    ``exact_reconstruction_rate``: images that are decoded to their original, byte for byte.
    ``rfd_<encoder>``: Frechet distance between features of decoded images and of their originals;
    the same images on both sides, so it has little of the bias of small sets; without interval.
    ``codebook_usage``: share of the vocabulary that occurs in the set, which grows with its size.
    ``codebook_entropy``: entropy of the id frequencies in bits, at most ``log2`` of the
    vocabulary. Curves: both by level.

    Attributes:
        name: name of this metric in the configuration.
        encoder: computes the features.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="psnr",
            title="reconstruction",
            words="Decoded images beside their original files. Higher is closer; what no sample "
            "can exceed.",
            unit="dB",
            better="higher",
            group="tokenizer",
        ),
        ScoreInfo(
            name="exact_reconstruction_rate",
            title="exact reconstructions",
            words="Images that are decoded to their original, byte for byte.",
            unit="% of images",
            better="higher",
            group="tokenizer",
        ),
        ScoreInfo(
            name="rfd_{encoder}",
            title="Fréchet distance of reconstructions",
            words="Fréchet distance of {encoder} features between decoded images and their "
            "original files. Lower is closer.",
            better="lower",
            group="tokenizer",
        ),
        ScoreInfo(
            name="codebook_usage",
            title="ids in use",
            words="Share of the vocabulary that occurs in the set; grows with its size.",
            unit="% of ids",
            group="tokenizer",
            moves_with_n=True,
        ),
        ScoreInfo(
            name="codebook_entropy",
            title="bits of an id",
            words="Bits of a token by the frequency of its id alone.",
            unit="bits",
            group="tokenizer",
            moves_with_n=True,
        ),
    )

    name: str = "reconstruction"
    encoder: Encoder

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Compare one image set with its originals, where there are any, and count its ids."""
        counts_LV = id_counts(generated.tokens, reference.layout, reference.vocab_size)
        scalars, recipe = self._losses(generated, reference)
        for name, measure in (("codebook_usage", usage), ("codebook_entropy", entropy_bits)):
            scalars[name] = Measured(value=measure(counts_LV.sum(axis=0)))
        curves = {
            "codebook_usage": np.array([usage(counts_V) for counts_V in counts_LV]),
            "codebook_entropy": np.array([entropy_bits(counts_V) for counts_V in counts_LV]),
        }
        return Measurement(scalars=scalars, curves=curves, recipe=recipe)

    def _losses(
        self, generated: ImageSet, reference: Reference
    ) -> tuple[dict[str, Measured], dict[str, str]]:
        """Return the scores that need originals, and the recipe."""
        originals, rfd = generated.originals, f"rfd_{score_suffix(self.encoder)}"
        if originals is None:
            names = ("psnr", "exact_reconstruction_rate", rfd)
            reason = undefined("generated and planted images have no original")
            return dict.fromkeys(names, reason), {"N": str(generated.num_images)}
        errors_B = squared_errors(generated.images, originals)
        differs_B = errors_B > 0
        exact = clopper_pearson(successes=int((~differs_B).sum()), trials=len(errors_B))
        decoded = reference.features(self.encoder, generated)
        recipe = feature_recipe(self.encoder, generated=decoded)
        pair = FeaturePair(
            generated=decoded,
            reference=self._original_features(decoded, originals, differs_B),
            recipe=recipe | {"codec": "tokenizer, against the originals"},
        )
        if (reason_given := pair.too_few(2)) is not None:
            distance = undefined(reason_given)
        elif not differs_B.any():
            distance = Measured(value=0.0)
        else:
            value = frechet_distance(generated=pair.generated, reference=pair.reference)
            distance = Measured(value=max(value, 0.0))  # rounding may give a tiny negative number
        scalars = {
            "psnr": peak_signal_to_noise(mean_over_images(errors_B, seed=reference.seed)),
            "exact_reconstruction_rate": exact,
            rfd: distance,
        }
        return scalars, pair.recipe

    def _original_features(
        self, decoded: Features, originals: Images, differs_B: NDArray[np.bool_]
    ) -> Features:
        """Return the features of the originals; rows equal to decoded images are reused."""
        features, rows = np.array(decoded), np.flatnonzero(differs_B)
        for tile in row_tiles(len(rows), _IMAGES):
            features[rows[tile]] = self.encoder.encode(np.asarray(originals[rows[tile]]))
        return features


def squared_errors(images_BHWC: Images, originals_BHWC: Images) -> NDArray[np.float64]:
    """Return the (B,) mean squared differences of the colour values of every image."""
    errors_B = np.empty(len(images_BHWC))
    for rows in row_tiles(len(images_BHWC), _IMAGES):
        differences = images_BHWC[rows].astype(np.float64) - originals_BHWC[rows]
        errors_B[rows] = (differences**2).mean(axis=(1, 2, 3))
    return errors_B


def peak_signal_to_noise(error: Measured) -> Measured:
    """Convert a mean squared error and its interval to PSNR in decibels."""
    if not error.value:
        return undefined("every image is reconstructed exactly, so the ratio is infinite")
    value = _decibels(error.value)
    if not error.low or not error.high:  # resamples without any error: the upper end is infinite
        return Measured(value=value)
    return Measured(value=value, low=_decibels(error.high), high=_decibels(error.low))


def _decibels(error: float) -> float:
    return 10.0 * math.log10(_PEAK**2 / error)


def id_counts(tokens_BT: Tokens, layout: TokenLayout, vocab_size: int) -> NDArray[np.int64]:
    """Count the (L, V) occurrences of every id at every level."""
    counts_LV = np.zeros((layout.num_levels, vocab_size), dtype=np.int64)
    for rows in row_tiles(len(tokens_BT), max(_TOKENS // layout.num_tokens, 1)):
        some = np.asarray(tokens_BT[rows])
        for counts_V, positions in zip(counts_LV, layout.level_slices, strict=True):
            counts_V += np.bincount(some[:, positions].ravel(), minlength=vocab_size)
    return counts_LV


def usage(counts_V: NDArray[np.int64]) -> float:
    """Return the share of the ids that occur.

    >>> usage(np.array([3, 0, 1, 0]))
    0.5
    """
    return float((counts_V > 0).mean())


def entropy_bits(counts_V: NDArray[np.int64]) -> float:
    """Return the entropy of the frequencies, in bits.

    >>> entropy_bits(np.array([2, 0, 1, 1]))
    1.5
    """
    p = counts_V[counts_V > 0] / counts_V.sum()
    return max(0.0, float(-(p * np.log2(p)).sum()))
