"""dHash: 64 bits of a picture that small changes of the picture leave the same.

>>> ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8)[:, None], (1, 32, 1, 3))
>>> hashes = DifferenceHash().encode(np.concatenate([ramp, ramp[:, :, ::-1]]))
>>> hashes.sum(axis=1).tolist()
[64.0, 0.0]
>>> nearest_hash(hashes, [hashes[:1]], workers=1).tolist()
[0.0, 64.0]
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.preprocessing import require_images
from imagegram.images.decode import THUMBNAIL_SIZE, thumbnail
from imagegram.records import Features, Images

_SIDE: Final = 8
#: Rec. 601 luma in thousandths: whole numbers, so that equal cells are equal and not nearly so.
_LUMA: Final = np.array([299.0, 587.0, 114.0])
#: Images that are hashed at a time.
_AT_ONCE: Final = 4096
#: Hashes that are packed and searched at a time.
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class DifferenceHash:
    """An encoder of images to 64 features, each 0 or 1.

    The picture's 16x16 bilinear thumbnail becomes 8 rows of 9 cells of area-averaged luma; a bit
    is 1 where a cell is brighter than the cell on its left. The thumbnail is used because only
    thumbnails of the original training images are kept.
    """

    VERSION: ClassVar[int] = 1

    name: str = "dhash"

    def encode(self, images_BHWC: Images) -> Features:
        """Encode (B, H, W, 3) uint8 images as (B, 64) float32."""
        require_images(images_BHWC)
        bits = np.empty((len(images_BHWC), _SIDE, _SIDE), dtype=np.float32)
        rows, columns = _overlaps(THUMBNAIL_SIZE, _SIDE), _overlaps(THUMBNAIL_SIZE, _SIDE + 1)
        for first in range(0, len(bits), _AT_ONCE):  # some at a time: memory stays bounded
            part = images_BHWC[first : first + _AT_ONCE]
            luma = np.stack([thumbnail(np.asarray(image)) for image in part]) @ _LUMA
            cells = rows @ luma @ columns.T  # sums of whole numbers below 2^53: exact in any order
            bits[first : first + _AT_ONCE] = cells[:, :, 1:] > cells[:, :, :-1]
        return bits.reshape(len(bits), -1)


def _overlaps(size: int, cells: int) -> NDArray[np.float64]:
    """Return (cells, size) overlaps of pixels and cells, in units of 1 / cells of a pixel."""
    pixels, edges = np.arange(size) * cells, np.arange(cells + 1)[:, None] * size
    overlaps = np.minimum(pixels + cells, edges[1:]) - np.maximum(pixels, edges[:-1])
    return np.asarray(np.maximum(overlaps, 0), dtype=np.float64)


def nearest_hash(
    hashes_BD: Features, blocks: Iterable[Features], *, workers: int
) -> NDArray[np.float64]:
    """Return the (B,) Hamming distances, 0 ... 64, to the nearest hash of all blocks.

    Args:
        hashes_BD: (B, 64) bits.
        blocks: (N, 64) bits of training images, at least one block with one image.
        workers: threads.
    """
    # faiss logs at INFO which instruction sets it tried
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    faiss.omp_set_num_threads(workers)  # it would take all cores
    queries, nearest = _packed(hashes_BD), np.full(len(hashes_BD), np.inf)
    for block in blocks:
        for first in range(0, len(block), _BLOCK):
            index = faiss.IndexBinaryFlat(_SIDE * _SIDE)
            index.add(_packed(block[first : first + _BLOCK]))
            distances, _ = index.search(queries, 1)
            np.minimum(nearest, distances[:, 0], out=nearest)
    return nearest


def _packed(bits: Features) -> NDArray[np.uint8]:
    return np.packbits(np.asarray(bits) > 0, axis=1)
