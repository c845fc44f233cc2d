"""The pyramid tokenizer: a coarse picture, then what each doubling of its size gets wrong.

Level 0 is the image at the base size. Level *i* holds, for every colour of every pixel,

    q_i     = clip(resize(image, s_i) - up(recon_{i-1}, s_i) + 128, 0, 255)
    recon_i = clip(up(recon_{i-1}, s_i) + q_i - 128, 0, 255),   recon_0 = q_0

so that decoding is the same recursion, and exact at the finest level wherever no residual of that
level clips. With ``residual_levels`` a residual has the nearest of fewer values (``residuals.py``),
and what one level gets wrong the next one sees. ``colors`` and ``channel_order`` choose the planes
of the picture (``colors.py``). Every ``resize`` is Pillow's bilinear filter (antialiased when it
shrinks), from the original and not from the level above; the aspect ratio is squashed, nothing is
cropped.
:func:`encode_reference` is this, to be read; ``pyramid_kernels.py`` does the same, compiled.

>>> tokenizer = PyramidTokenizer(name="toy", sizes=(1, 2))
>>> image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
>>> encoded = tokenizer.encode([tokenizer.prepare(image)])
>>> tokens = encoded.documents[0]
>>> tokens[:3].tolist(), encoded.counts
([90, 110, 130], {'clipped': 0})
>>> bool((tokenizer.decode(tokens[None])[0] == image).all())
True
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagegram.errors import ConfigError, TokenError, did_you_mean
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality
from imagegram.records import Encoded, Images, Tokens
from imagegram.store.fingerprint import NOT_IDENTITY, NOT_IDENTITY_AT_DEFAULT
from imagegram.store.stage import Ready
from imagegram.tokenizers.checks import require_ids, require_image
from imagegram.tokenizers.colors import COLORS, to_pixels, to_planes
from imagegram.tokenizers.residuals import ResidualValues

_VOCAB_SIZE: Final = 256


@dataclass(frozen=True, kw_only=True)
class PyramidTokenizer:
    """Pyramid of three planes with residual levels; 256 token ids.

    Attributes:
        name: name of the tokenizer in tables and reports; no artifact depends on it.
        sizes: side lengths of the levels in pixels, strictly ascending (``(8, 16, 32)``).
        colors: ``rgb``, or ``ycocg``: brightness and two differences of colour.
        channel_order: order of the three planes in the tokens of a pixel; ``(1, 0, 2)`` of RGB:
            green first.
        residual_levels: number of values of a residual, odd, 3 ... 255; None: all 256.
        residual_spacing: of fewer values than all: ``uniform`` or ``companded``.
    """

    modality: ClassVar[Modality] = IMAGES
    VERSION: ClassVar[int] = 1
    batch_size: ClassVar[int | None] = None
    kernels: ClassVar[tuple[str, ...]] = (
        "imagegram.images.resampling",
        "imagegram.tokenizers.pyramid_kernels",
    )

    name: str = field(default="pyramid", metadata=NOT_IDENTITY)
    sizes: tuple[int, ...] = (8, 16, 32)
    colors: str = field(default="rgb", metadata=NOT_IDENTITY_AT_DEFAULT)
    channel_order: tuple[int, ...] = field(default=(0, 1, 2), metadata=NOT_IDENTITY_AT_DEFAULT)
    residual_levels: int | None = field(default=None, metadata=NOT_IDENTITY_AT_DEFAULT)
    residual_spacing: str = field(default="uniform", metadata=NOT_IDENTITY_AT_DEFAULT)

    def __post_init__(self) -> None:
        """Accept YAML lists; refuse sizes that are no pyramid, and planes that are no picture."""
        sizes = (self.sizes,) if isinstance(self.sizes, int) else tuple(self.sizes)
        object.__setattr__(self, "sizes", sizes)
        whole = bool(sizes) and all(type(size) is int and size > 0 for size in sizes)
        if not whole or any(a >= b for a, b in itertools.pairwise(sizes)):
            raise ConfigError(
                f"tokenizer.sizes must be positive whole numbers in strictly ascending order, "
                f"got {list(sizes)}; type for example tokenizer.sizes=[8,16,32]"
            )
        if self.colors not in COLORS:
            raise ConfigError(
                f"tokenizer.colors={self.colors!r}: {did_you_mean(self.colors, COLORS)}"
            )
        object.__setattr__(self, "channel_order", tuple(self.channel_order))
        if sorted(self.channel_order) != [0, 1, 2]:
            raise ConfigError(
                f"tokenizer.channel_order must hold 0, 1 and 2 once each, got "
                f"{list(self.channel_order)}; type for example tokenizer.channel_order=[1,0,2]"
            )
        ResidualValues.of(self.residual_levels, self.residual_spacing)  # refuses what is no number

    @cached_property
    def residuals(self) -> ResidualValues:
        """What ids of residual levels stand for."""
        return ResidualValues.of(self.residual_levels, self.residual_spacing)

    @cached_property
    def spec(self) -> TokenSpec:
        """Bytes, three a pixel of every level."""
        return TokenSpec(vocab_size=_VOCAB_SIZE, layout=TokenLayout.pyramid(self.sizes))

    @property
    def image_size(self) -> int:
        """Side of the finest level in pixels."""
        return self.sizes[-1]

    @property
    def encoder(self) -> PyramidTokenizer:
        """The tokenizer itself."""
        return self

    def fit(self, corpus: Corpus) -> Ready[PyramidTokenizer]:
        """Return itself: there is nothing to learn."""
        return Ready(self)

    def prepare(self, image: Images) -> Images:
        """Return the image itself.

        Raises:
            TokenError: when ``image`` is not (H, W, 3) uint8.
        """
        require_image(image)
        return image

    def encode(self, prepared: Sequence[Images]) -> Encoded:
        """Encode images as tokens.

        Args:
            prepared: images (H, W, 3) uint8, of any sizes.

        Returns:
            (T,) uint16 ids 0 ... 255 of each, and how many residuals of the finest level were
            ``clipped``: with all residual levels of RGB, 0 means that ``decode`` gives back
            ``resize(image, sizes[-1])`` exactly.
        """
        found = [self._encode(image) for image in prepared]
        clipped = sum(num_clipped for _, num_clipped in found)
        return Encoded(documents=[tokens for tokens, _ in found], counts={"clipped": clipped})

    def _encode(self, image: Images) -> tuple[Tokens, int]:
        from imagegram.images.resampling import as_matrix, taps
        from imagegram.tokenizers.pyramid_kernels import encode_image

        height, width, _ = image.shape
        rows, columns = (taps(tuple((n, s) for s in self.sizes)) for n in (height, width))
        tokens = np.empty(self.spec.length, dtype=np.uint16)
        planes = to_planes(image, self.colors, self.channel_order)
        num_clipped = encode_image(
            as_matrix(planes), rows, columns, taps(self._doublings), self.residuals, tokens
        )
        return tokens, int(num_clipped)

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        """Decode whole token sequences to images.

        Args:
            tokens_BT: (B, T) ids 0 ... 255 of any integer dtype.
            output_size: side in pixels; the finest level is resized to it. None: ``sizes[-1]``.

        Returns:
            (B, S, S, 3) uint8.

        Raises:
            TokenError: for another shape, or an id that is no byte (a separator, for instance);
                ids are never wrapped.
            ConfigError: when ``output_size`` is not positive.
        """
        from imagegram.images.resampling import resize, taps
        from imagegram.tokenizers.pyramid_kernels import decode_images

        tokens = np.asarray(tokens_BT)
        self._check(tokens)
        if output_size is not None and output_size < 1:
            raise ConfigError(f"output_size must be at least 1 pixel, got {output_size}")
        side = self.sizes[-1]
        finest = np.empty((len(tokens), side, side, 3), dtype=np.uint8)
        # A copy: memory maps are read-only, which to numba is another type.
        ids = np.array(tokens, dtype=np.uint16, order="C")
        decode_images(ids, self.sizes[0], taps(self._doublings), self.residuals.values, finest)
        finest = to_pixels(finest, self.colors, self.channel_order)
        if output_size in (None, side):
            return finest
        images = np.empty((len(tokens), output_size, output_size, 3), dtype=np.uint8)
        for image, pixels in zip(images, finest, strict=True):
            image[:] = resize(pixels, output_size)
        return images

    def enlarged(self, coarser: Images, level: int) -> Images:
        """Return the picture that the residuals of a level are added to, as planes.

        Args:
            coarser: (H, W, 3) uint8 planes of the level before.
            level: 1 ... number of levels - 1.
        """
        from imagegram.images.resampling import resize

        return resize(coarser, self.sizes[level])

    @property
    def _doublings(self) -> tuple[tuple[int, int], ...]:
        return tuple(itertools.pairwise(self.sizes))

    def _check(self, tokens: NDArray[np.integer]) -> None:
        length = self.spec.length
        if tokens.ndim != 2 or tokens.shape[1] != length or tokens.dtype.kind not in "iu":
            raise TokenError(
                f"decode needs (B, {length}) integer ids for sizes {list(self.sizes)}, "
                f"got {tokens.shape} {tokens.dtype}"
            )
        require_ids(tokens, _VOCAB_SIZE, self.spec.layout.describe)


def encode_reference(image: Images, tokenizer: PyramidTokenizer) -> tuple[Tokens, int]:
    """Encode an image level by level with Pillow and numpy: the definition of ``encode``.

    Args:
        image: (H, W, 3) uint8.
        tokenizer: sizes, planes and values of residuals.

    Returns:
        Tokens and clipped residuals, as ``encode``.
    """
    planes = to_planes(image, tokenizer.colors, tokenizer.channel_order)
    picture, (values, nearest) = Image.fromarray(planes), tokenizer.residuals
    levels: list[NDArray[np.uint8]] = []
    recon, num_clipped = _resize(picture, tokenizer.sizes[0]), 0
    levels.append(recon)
    for size in tokenizer.sizes[1:]:
        above = _resize(Image.fromarray(recon), size).astype(np.int16)
        residual = _resize(picture, size).astype(np.int16) - above
        level = nearest[residual + 255]
        num_clipped = int(np.count_nonzero((residual < values[0]) | (residual > values[-1])))
        recon = np.clip(above + values[level], 0, 255).astype(np.uint8)
        levels.append(level)
    return np.concatenate([level.ravel() for level in levels]).astype(np.uint16), num_clipped


def _resize(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
