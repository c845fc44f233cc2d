"""A small ordered tokenizer without weights: coarse to fine, every prefix can be decoded.

The image is cropped to its middle square and resized to 8 x 8 pixels; token i holds the colours of
the i-th coefficient of their cosine transform in zigzag order, one digit a colour, as an FSQ code.

>>> tokenizer = OrderedTokenizer(num_tokens=4)
>>> image = np.full((20, 30, 3), 200, np.uint8)
>>> encoded = tokenizer.encode([tokenizer.prepare(image)])
>>> tokenizer.decode(encoded.documents[0][None, :1])[0, 0, 0].tolist(), encoded.counts
([191, 191, 191], {'clipped': 0})
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from imagegram.errors import TokenError
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Modality
from imagegram.records import Encoded, Images, Tokens
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.stage import Ready
from tests.conftest import compose

#: Side of what is transformed; its square is the longest sequence.
SIDE: Final = 8
#: Grey, red against blue, green against both: orthonormal.
_COLOURS: Final = np.array(
    [
        [1 / math.sqrt(3)] * 3,
        [math.sqrt(0.5), 0, -math.sqrt(0.5)],
        [-(6**-0.5), 2 / 6**0.5, -(6**-0.5)],
    ]
)


@dataclass(frozen=True, kw_only=True)
class OrderedTokenizer:
    """A Tokenizer whose positions are ranks of importance.

    Attributes:
        num_tokens: 1 ... 64, how many coefficients are kept.
        image_size: side of decoded images in pixels.
        digits: values of each colour, odd so that nothing is one of them; their product is the
            vocabulary. (39, 39, 41) is one of 62,361.
        name: what reports call it.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 1

    num_tokens: int = 16
    image_size: int = 16
    digits: tuple[int, ...] = (9, 7, 7)
    name: str = field(default="ordered", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digits", tuple(self.digits))

    @property
    def spec(self) -> TokenSpec:
        layout = TokenLayout.sequence(self.num_tokens, digits=self.digits)
        return TokenSpec(vocab_size=math.prod(self.digits), layout=layout)

    @property
    def encoder(self) -> OrderedTokenizer:
        return OrderedTokenizer(num_tokens=SIDE**2, digits=self.digits)

    def fit(self, corpus: Any) -> Ready[OrderedTokenizer]:
        return Ready(self)

    @property
    def prepared_size(self) -> int:
        return SIDE

    def prepare(self, image: Images) -> Images:
        return square(image, self.prepared_size)

    def encode(self, prepared: Sequence[Images]) -> Encoded:
        found = [self._tokens(resized(image, SIDE)) for image in prepared]
        counts = {"clipped": sum(num_clipped for _, num_clipped in found)}
        return Encoded(documents=[tokens for tokens, _ in found], counts=counts)

    def _tokens(self, pixels: Images) -> tuple[Tokens, int]:
        values = (pixels.astype(np.float64) - 127.5) / 127.5 @ _COLOURS.T  # (8, 8, 3)
        basis, order = _basis(), _zigzag()
        spectrum = np.einsum("ur,vc,rcd->uvd", basis, basis, values)
        found = spectrum[order[:, 0], order[:, 1]][: self.num_tokens]
        whole = np.rint(found / self._steps())
        limit = np.array(self.digits) // 2
        kept = np.clip(whole, -limit, limit)
        weights = np.cumprod([1, *self.digits[:-1]])
        ids = ((kept + limit) * weights).sum(axis=1).astype(np.uint16)
        return ids, int((kept != whole).any(axis=1).sum())

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        tokens = np.asarray(tokens_BT)
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.num_tokens:
            raise TokenError(f"decode needs (B, 1 ... {self.num_tokens}) ids, got {tokens.shape}")
        vocab_size = self.spec.vocab_size
        if tokens.size and int(tokens.max()) >= vocab_size:
            raise TokenError(f"ids lie in 0 ... {vocab_size - 1}, got {int(tokens.max())}")
        weights = np.cumprod([1, *self.digits[:-1]])
        digits = tokens.astype(np.int64)[..., None] // weights % np.array(self.digits)
        limit, size = np.array(self.digits) // 2, tokens.shape[1]
        spectrum = np.zeros((len(tokens), SIDE, SIDE, 3))
        order = _zigzag()[:size]
        spectrum[:, order[:, 0], order[:, 1]] = (digits - limit) * self._steps()[:size]
        values = np.einsum("ur,vc,buvd->brcd", _basis(), _basis(), spectrum) @ _COLOURS
        pixels = np.clip(np.rint(values * 127.5 + 127.5), 0, 255).astype(np.uint8)
        side = output_size or self.image_size
        return np.stack([resized(image, side) for image in pixels])

    def _steps(self) -> NDArray[np.float64]:
        """(T, 3) of the quantization: as fine as the digits allow, finer for later tokens."""
        reach = SIDE * math.sqrt(3) / (1 + np.arange(self.num_tokens)) ** 0.6
        limits = np.array(self.digits) // 2
        return np.asarray(reach[:, None] * np.array([1.0, 0.4, 0.3]) / limits)


@dataclass(frozen=True, kw_only=True)
class BatchedOrderedTokenizer(OrderedTokenizer):
    """The same by the batch, as if it had a network; prepared images are what that sees.

    Attributes:
        batch_size: images at a time.
    """

    batch_size: int = field(default=8, metadata=NOT_IDENTITY)

    @property
    def encoder(self) -> BatchedOrderedTokenizer:
        return BatchedOrderedTokenizer(num_tokens=SIDE**2, digits=self.digits)

    @property
    def prepared_size(self) -> int:
        return self.image_size


def compose_ordered(*overrides: str, batched: bool = False, **fields: Any) -> DictConfig:
    """The configuration of these words, with an ordered tokenizer of these fields in it."""
    config = compose(*overrides)
    cls = BatchedOrderedTokenizer if batched else OrderedTokenizer
    chosen = {"_target_": f"{cls.__module__}.{cls.__name__}", "name": "ordered", **fields}
    OmegaConf.set_struct(config, False)
    config.tokenizer = chosen
    return config


def square(image: Images, side: int) -> Images:
    """The middle square of an image, bilinear."""
    height, width, _ = image.shape
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resized(image[top : top + short, left : left + short], side)


def resized(image: Images, side: int) -> Images:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))


@cache
def _basis() -> NDArray[np.float64]:
    """(frequency, place) of the orthonormal cosine transform."""
    frequency, place = np.indices((SIDE, SIDE))
    waves = np.cos(np.pi * (place + 0.5) * frequency / SIDE) * math.sqrt(2 / SIDE)
    waves[0] /= math.sqrt(2)
    return np.asarray(waves)


@cache
def _zigzag() -> NDArray[np.int64]:
    """(64, 2) row and column of the coefficients, coarse to fine."""
    places = [(row, column) for row in range(SIDE) for column in range(SIDE)]
    places.sort(key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
    return np.array(places, dtype=np.int64)
