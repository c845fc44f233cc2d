"""Reencoded: documents decoded or read to pixels, re-saved, and tokenized again.

    Replay(documents=Reencoded(inner=tokens, tokenizer=tokenizer, side=64), ...)

Image files of unknown origin are compared with training images that were processed in the same way.
A copy of a training image loses some of its tokens when it is saved smaller, saved as JPEG, or
decoded from tokens: the coarse levels of a pyramid are resized from the picture, so other pixels
give other tokens. How many tokens survive is measured here, not guessed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagegram.errors import ConfigError
from imagegram.executors.threads import map_in_order
from imagegram.executors.tiles import row_tiles
from imagegram.images.decode import quiet, read_picture
from imagegram.layout import TokenLayout
from imagegram.protocols import DocumentSource, Tokenizer
from imagegram.records import Images, Tokens
from imagegram.stages.generate import select_documents
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import identity

#: Tokens of documents that are compared at a time.
_TOKENS: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Reencoded:
    """A DocumentSource that shrinks, saves, reads and tokenizes the pictures of another source.

    Attributes:
        inner: the other source. The pictures of a token set are its files; those of any other
            source, or with ``decoded``, are decoded from its tokens.
        tokenizer: encodes and decodes.
        side: pictures whose shorter side is longer than this are resized to it (bilinear, keeping
            their shape); smaller ones are not enlarged. Decoded ones are squares of this side.
        jpeg_quality: saved as JPEG of this quality, 1 ... 100; None: without loss.
        decoded: use decoded pictures even where there are files.
        workers: threads; they do not change the result.
    """

    VERSION: ClassVar[int] = 1
    inner: DocumentSource
    tokenizer: Tokenizer
    side: int
    jpeg_quality: int | None = None
    decoded: bool = False
    workers: int = 1

    def __post_init__(self) -> None:
        check_quality(self.jpeg_quality)

    def identity(self) -> dict[str, Any]:
        """Return the identity of everything that can change a token."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "inner": identity(self.inner),
            "tokenizer": identity(self.tokenizer),
            "side": self.side,
            "jpeg_quality": self.jpeg_quality,
            "decoded": self.decoded or not isinstance(self.inner, TokenSet),
        }

    @property
    def num_documents(self) -> int:
        """Number of documents of the inner source."""
        return self.inner.num_documents

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer[Any]]) -> Tokens:
        """Return the (B, T) uint16 tokens of the documents after re-encoding.

        Raises:
            CorpusError: when a file changed since it was tokenized.
        """
        rows = np.asarray(document_ids, dtype=np.int64)
        tokens_BT = self.inner.gather(rows)
        with quiet():
            pairs = zip(rows.tolist(), tokens_BT, strict=True)
            again = map_in_order(lambda pair: self._again(*pair), pairs, workers=self.workers)
            return np.stack(list(again)) if len(rows) else tokens_BT

    def _again(self, document: int, tokens_T: Tokens) -> Tokens:
        if self.jpeg_quality is None and self._file_side(document) <= self.side:
            return tokens_T  # nothing happens to the pixels
        return self.encode(self.pixels(document, tokens_T))

    def _file_side(self, document: int) -> float:
        """Return the shorter side, in pixels, of the picture in a document's file."""
        if self.decoded or not isinstance(self.inner, TokenSet):
            return math.inf
        metadata = self.inner.metadata(document)
        return float(min(metadata["width"], metadata["height"]))

    def pixels(self, document: int, tokens_T: Tokens) -> Images:
        """Return the (H, W, 3) uint8 picture of a document before it is saved."""
        if self.decoded or not isinstance(self.inner, TokenSet):
            decoded_BHWC = self.tokenizer.decode(tokens_T[None], output_size=self.side)
            return np.asarray(decoded_BHWC[0])
        return shrink(read_picture(self.inner.original(document)), self.side)

    def encode(self, pixels: Images) -> Tokens:
        """Save and read an (H, W, 3) uint8 picture, then return its (T,) tokens."""
        if self.jpeg_quality is not None:
            data = jpeg_bytes(pixels, self.jpeg_quality)
            pixels = read_picture(data)
        (tokens_T,) = self.tokenizer.encode([self.tokenizer.prepare(pixels)]).documents
        return tokens_T


@dataclass(frozen=True, kw_only=True)
class PixelCollages:
    """A DocumentSource of collages: pictures made of quarters of four others, then tokenized.

    Like the planted ``collages`` of tokens, but joined in pixels: a quarter loses its tokens where
    a coarse pixel, or the resize of a level, reaches across a seam.

    Attributes:
        pictures: source of the quarters; the four are resized to squares of their shortest side.
        num_documents: number of collages, made of as many pictures, first in evaluation order.
        seed: seed of the evaluation order.
    """

    VERSION: ClassVar[int] = 1
    pictures: Reencoded
    num_documents: int
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return the identity: pictures, number and seed."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "pictures": self.pictures.identity(),
            "num_documents": self.num_documents,
            "seed": self.seed,
        }

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer[Any]]) -> Tokens:
        """Return the (B, T) uint16 tokens of the given collages, 0 ... num_documents - 1."""
        with quiet():
            again = map_in_order(
                lambda row: self.pictures.encode(self._collage(row)),
                np.asarray(document_ids, dtype=np.int64).tolist(),
                workers=self.pictures.workers,
            )
            return np.stack(list(again))

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        return select_documents(self.pictures.num_documents, self.seed)[: self.num_documents]

    def _collage(self, row: int) -> Images:
        from imagegram.images.resampling import resize

        order = self._order
        four = [int(order[(row + quarter) % len(order)]) for quarter in range(4)]
        tokens = self.pictures.inner.gather(four)
        parts = [self.pictures.pixels(*pair) for pair in zip(four, tokens, strict=True)]
        side = min(min(part.shape[:2]) for part in parts)  # nothing is enlarged
        below, right = (2 * axis >= side for axis in np.indices((side, side)))
        collage = np.empty((side, side, 3), dtype=np.uint8)
        for quarter, part in enumerate(parts):
            here = 2 * below + right == quarter
            collage[here] = resize(part, side)[here]
        return collage


def shrink(image: Images, side: int) -> Images:
    """Shrink a picture until its shorter side is at most ``side`` pixels; never enlarge it.

    >>> shrink(np.zeros((40, 60, 3), np.uint8), 20).shape
    (20, 30, 3)
    """
    from imagegram.images.resampling import resize

    height, width, _ = image.shape
    shorter = min(height, width)
    if shorter <= side:
        return image
    return resize(image, round(height * side / shorter), round(width * side / shorter))


def jpeg_bytes(image: Images, quality: int) -> bytes:
    """Return an (H, W, 3) uint8 picture as a JPEG file with Pillow's default options."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def jpeg_quality_of(data: bytes) -> int | None:
    """Return the libjpeg quality 1 ... 100 whose brightness table is nearest to that of a file.

    Args:
        data: an encoded picture.

    Returns:
        The quality, or None when the data is not a JPEG file.

    >>> jpeg_quality_of(jpeg_bytes(np.zeros((8, 8, 3), np.uint8), 50))
    50
    """
    steps = _quantization(data)
    if steps is None:
        return None
    distances = [int(np.abs(steps - of_quality).sum()) for of_quality in _libjpeg_steps()]
    return 1 + int(np.argmin(distances))


def _quantization(data: bytes) -> NDArray[np.int64] | None:
    """Return the (64,) quantization steps of the first table (brightness), from the header."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return np.array(picture.quantization[0])  # type: ignore[attr-defined]
    except (OSError, SyntaxError, KeyError):
        return None


@lru_cache(maxsize=1)
def _libjpeg_steps() -> list[NDArray[np.int64]]:
    """Return libjpeg's (64,) quantization steps for the qualities 1 ... 100."""
    black = np.zeros((8, 8, 3), dtype=np.uint8)
    tables = (_quantization(jpeg_bytes(black, quality)) for quality in range(1, 101))
    return [table for table in tables if table is not None]


def check_quality(quality: int | None) -> None:
    """Refuse a number that is not a JPEG quality.

    Raises:
        ConfigError: naming the range.
    """
    if quality is not None and not 1 <= quality <= 100:
        raise ConfigError(
            f"jpeg={quality}: a JPEG quality is a whole number in 1 ... 100; type jpeg=75, "
            "jpeg=auto for that of the audited files, or jpeg=null to measure no JPEG copies"
        )


def token_agreement(
    before: DocumentSource,
    after_BT: Tokens,
    document_ids: NDArray[np.integer[Any]],
    layout: TokenLayout,
) -> dict[str, Any]:
    """Return the share of tokens that re-encoding left unchanged.

    Args:
        before: the documents with their original tokens.
        after_BT: (B, T) tokens of the same documents after re-encoding.
        document_ids: (B,) ids of the documents.
        layout: layout of both token rows.

    Returns:
        ``all``: share of all tokens; ``levels``: share of each level, coarse to fine.
    """
    equal = np.zeros(layout.num_levels, dtype=np.int64)
    for rows in row_tiles(len(document_ids), max(_TOKENS // layout.num_tokens, 1)):
        same_BT = before.gather(document_ids[rows]) == after_BT[rows]
        equal += [int(same_BT[:, part].sum()) for part in layout.level_slices]
    count = len(document_ids)
    return {
        "all": float(equal.sum() / (count * layout.num_tokens)),
        "levels": (equal / (count * np.array(layout.level_sizes))).tolist(),
    }
