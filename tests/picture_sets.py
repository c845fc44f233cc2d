"""Textured pictures of 16 x 16 pixels as training documents and image sets, for metrics of pixels.

The toy layout of ``image_sets.py`` decodes to 2 x 2 pixels, which have no tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imagegram.images.decode import thumbnail
from imagegram.layout import TokenLayout
from imagegram.protocols import Encoder, ImageSet
from imagegram.records import Features, Images, Tokens
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace
from tests.pictures import ids_of

SIDE = 16
#: Cells of 8, 4 and 1 pixels.
PICTURES = PyramidTokenizer(name="pictures", sizes=(2, 4, SIDE))


def pictures(num_images: int, *, seed: int) -> Images:
    """(B, 16, 16, 3) colour fields with grain: no two alike, all textured.

    All pixels lie in 64 ... 191: no residual clips, so the tokenizer gives them back exactly.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(104, 152, size=(num_images, 4, 4, 3))
    grain = rng.integers(-40, 41, size=(num_images, SIDE, SIDE, 3))
    return (coarse.repeat(4, axis=1).repeat(4, axis=2) + grain).clip(64, 191).astype(np.uint8)


def digits(num_images: int, *, first: int) -> Images:
    """(B, 16, 16, 3) handwritten digits of scikit-learn, from number ``first`` of 1,797 shuffled.

    Real pictures: unlike the others they have something in common, which a collage has not.
    """
    from sklearn.datasets import load_digits

    values = load_digits().images
    order = np.random.default_rng(0).permutation(len(values))[first : first + num_images]
    grey = (64 + values[order] * 127 / 16).astype(np.uint8)
    return np.repeat(grey.repeat(2, axis=1).repeat(2, axis=2)[..., None], 3, axis=3)


def collages(training: Images, num_images: int, *, seed: int) -> Images:
    """(B, 16, 16, 3) quarters of four training pictures each, at their own places."""
    rng = np.random.default_rng(seed)
    half = SIDE // 2
    result = np.empty((num_images, SIDE, SIDE, 3), np.uint8)
    for image in result:
        parts = training[rng.choice(len(training), 4, replace=False)]
        for part, row, column in zip(parts, (0, 0, half, half), (0, half, 0, half), strict=True):
            quarter = (slice(row, row + half), slice(column, column + half))
            image[quarter] = part[quarter]
    return result


def image_set(images: Images) -> MemoryImages:
    """Pictures as an image set; the tokens are those of the pictures."""
    tokens = tokens_of(images)
    return MemoryImages(tokens, free_trace(tokens), images)


def tokens_of(images: Images) -> Tokens:
    return np.stack([ids_of(PICTURES, image) for image in images])


@dataclass(frozen=True)
class PictureTokens(MemoryTokens):
    """Training documents; the thumbnails may be those of other originals."""

    originals: Images | None = None

    def sketch_blocks(self) -> Iterator[tuple[int, Images]]:
        images = PICTURES.decode(self.all) if self.originals is None else self.originals
        first = 0
        for shard in self.shards:
            part = images[first : first + len(shard)]
            yield first, np.stack([thumbnail(image) for image in part])
            first += len(shard)


@dataclass(frozen=True)
class PictureReference(MemoryReference):
    """A Reference of pictures; all training images are reference images."""

    layout: TokenLayout = PICTURES.spec.layout

    @classmethod
    def of(
        cls, training: Images, calibration: Images | None = None, **fields: Any
    ) -> PictureReference:
        half = len(training) // 2
        tokens = tokens_of(training)
        return cls(
            PictureTokens(shards=[tokens[:half], tokens[half:]] if half else [tokens]),
            calibration=None if calibration is None else image_set(calibration),
            **fields,
        )

    @cached_property
    def training(self) -> Images:
        return PICTURES.decode(self.tokens.all)

    def decode(self, tokens_BT: Tokens, **known: Any) -> Images:
        return PICTURES.decode(tokens_BT)

    def training_features(self, encoder: Encoder) -> Features:
        return encoder.encode(self.training)

    def reference_features(self, encoder: Encoder) -> Features:
        return encoder.encode(self.training)

    def features(self, encoder: Encoder, images: ImageSet) -> Features:
        return encoder.encode(images.images)
