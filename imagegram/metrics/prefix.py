"""``prefix_psnr_k<k>``: quality of images decoded from their first k tokens, beside JPEG.

An ordered tokenizer writes the most important tokens first and decodes every prefix of a sequence.
So one set of images shows the error at each length: it should fall with every token, and be below
that of JPEG with as many bits, which was not fitted to a corpus. Of other tokens no prefix is a
picture: there is one length, all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.tiles import over_tiles, row_tiles
from imagegram.intervals import mean_over_images
from imagegram.layout import prefix_lengths
from imagegram.metrics.codecs import content_order
from imagegram.metrics.features import undefined
from imagegram.metrics.jpeg_budget import best_errors
from imagegram.metrics.reconstruction import entropy_bits, peak_signal_to_noise, squared_errors
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Images, Measured, Measurement, ScoreInfo, Tokens

Array = NDArray[np.float64]
#: Images that are decoded at a time.
_IMAGES: Final = 64
#: Images that a thread saves as JPEG at a time.
_SAVED: Final = 4


@dataclass(frozen=True, kw_only=True)
class PrefixMetric:
    """Reconstructions from the first k tokens, k = 1, 2, 4 ... and all, beside their originals.

    Tokens that are not ordered by importance have one length, k = all.

    ``prefix_psnr_k<k>``: as ``psnr`` of ``metrics/reconstruction.py``, of images that are decoded
    from their first k tokens. ``prefix_jpeg_psnr_k<k>``: of the best JPEG of each original whose
    scan has no more bytes than k tokens, ``k log2(vocabulary)`` bits rounded up to bytes: what it
    leaves out says ``metrics/jpeg_budget.py``. Not defined where it fits for some images only. Both
    are measured on the same images. Curves: ``prefix_lengths``, ``prefix_psnr`` and
    ``prefix_jpeg_psnr`` by length; ``id_entropy``, bits by position of which nothing but the
    frequencies of its ids in the whole set are known, at most ``log2`` of the number of images.

    Attributes:
        name: name of this metric in the configuration.
        max_images: number of images that are decoded and saved, chosen by a hash of their tokens.
    """

    VERSION: ClassVar[int] = 2
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "images"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="prefix_psnr_k{k:d}",
            title="first {k} tokens decoded",
            words="Images decoded from their prefix of length {k} beside their original files. "
            "Higher is closer.",
            unit="dB",
            better="higher",
            group="tokenizer",
        ),
        ScoreInfo(
            name="prefix_jpeg_psnr_k{k:d}",
            title="JPEG as small as {k} tokens",
            words="JPEG of as many bits as a prefix of length {k} beside the same originals; its "
            "headers and tables are not counted.",
            unit="dB",
            group="tokenizer",
        ),
    )

    name: str = "prefix"
    max_images: int = 100

    def __post_init__(self) -> None:
        if self.max_images < 1:
            raise ConfigError(f"metric.{self.name}.max_images is {self.max_images}; use 1 or more")

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Decode prefixes of one image set, where there are originals to compare them with."""
        layout = reference.layout
        lengths = prefix_lengths(layout.num_tokens) if layout.is_ranked else (layout.num_tokens,)
        curves = {"id_entropy": id_entropy(generated.tokens)}
        originals = generated.originals
        recipe = {
            "N": str(min(generated.num_images, self.max_images)),
            "pixels": "x".join(map(str, generated.images.shape[1:])),
            "bits of a token": f"{math.log2(reference.vocab_size):.2f}",
            "JPEG": f"Pillow {_pillow_version()}, scan alone",
        }
        if originals is None:
            reason = "generated and planted images have no original"
            scalars = dict.fromkeys(score_names(lengths), undefined(reason))
            return Measurement(scalars=scalars, curves=curves, recipe=recipe)
        rows = np.sort(content_order(generated.tokens)[: self.max_images])
        bits_K = np.array(lengths) * math.log2(reference.vocab_size)
        ours = self._tokens_psnr(generated, originals, rows, lengths, reference)
        theirs = _jpeg_psnr(originals[rows], np.ceil(bits_K / 8).astype(int), reference)
        values = [*ours, *theirs]
        if layout.is_ranked:
            curves |= {
                "prefix_lengths": np.array(lengths, dtype=np.float64),
                "prefix_psnr": _curve(ours),
                "prefix_jpeg_psnr": _curve(theirs),
            }
        scalars = dict(zip(score_names(lengths), values, strict=True))
        return Measurement(scalars=scalars, curves=curves, recipe=recipe)

    def _tokens_psnr(
        self,
        generated: ImageSet,
        originals: Images,
        rows: NDArray[np.int64],
        lengths: Sequence[int],
        reference: Reference,
    ) -> list[Measured]:
        """Return, by length, the PSNR of images decoded from that many tokens."""
        task = reference.progress.start("prefixes", len(lengths) * len(rows), "images")
        found = []
        for length in lengths:
            errors_B = np.empty(len(rows))
            for tile in row_tiles(len(rows), _IMAGES):
                tokens_BT = np.asarray(generated.tokens[rows[tile]])
                decoded = reference.decode(np.ascontiguousarray(tokens_BT[:, :length]))
                errors_B[tile] = squared_errors(decoded, originals[rows[tile]])
                reference.progress.advance(task, len(tokens_BT))
            found.append(_psnr(errors_B, reference))
        reference.progress.finish(task)
        return found


def _jpeg_psnr(
    originals: Images, num_bytes_K: NDArray[np.int64], reference: Reference
) -> list[Measured]:
    """Return, by length, the PSNR of the best JPEG files with at most as many bits."""
    task = reference.progress.start("JPEG of as many bits", len(originals), "images")
    parts: list[Array] = []

    def encode(rows: slice) -> Array:
        return np.array([best_errors(image, num_bytes_K.tolist()) for image in originals[rows]])

    for part in over_tiles(encode, row_tiles(len(originals), _SAVED), workers=reference.workers):
        parts.append(part)
        reference.progress.advance(task, len(part))
    reference.progress.finish(task)
    found = []
    for errors_B, num_bytes in zip(np.concatenate(parts).T, num_bytes_K.tolist(), strict=True):
        fits = int(np.isfinite(errors_B).sum())
        if fits < len(errors_B):
            reason = f"only {fits} of {len(errors_B)} images have a JPEG scan of {num_bytes} bytes"
            found.append(undefined(reason if fits else f"no JPEG scan has {num_bytes} bytes"))
        else:
            found.append(_psnr(errors_B, reference))
    return found


def _psnr(errors_B: Array, reference: Reference) -> Measured:
    return peak_signal_to_noise(mean_over_images(errors_B, seed=reference.seed))


def _curve(values: list[Measured]) -> Array:
    return np.array([np.nan if one.value is None else one.value for one in values])


def _pillow_version() -> str:
    from PIL import __version__

    return __version__


def score_names(lengths: Sequence[int]) -> list[str]:
    """Return the names of the scores, in their order."""
    return [f"prefix_{of}psnr_k{length}" for of in ("", "jpeg_") for length in lengths]


def id_entropy(tokens_BT: Tokens) -> Array:
    """Return the (T,) entropy, in bits, of the id frequencies at every position.

    >>> id_entropy(np.array([[7, 1], [7, 2]], dtype=np.uint16)).tolist()
    [0.0, 1.0]
    """
    columns: Any = np.asarray(tokens_BT).T
    return np.array([entropy_bits(np.unique(ids, return_counts=True)[1]) for ids in columns])
