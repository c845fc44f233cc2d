"""Views of an image: mirror images and crops, which a corpus trains on beside or instead of it.

Ten crops are those of RAR's training (Yu et al., arXiv 2411.00776): the middle square, 1.1 times as
large as what is cut from it at its corners and its centre, each as it is and mirrored. They are
squares of the pixels that are there; the tokenizer resizes them as it does any image.

>>> image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
>>> view_of(image, "flip").tolist()
[[[3, 4, 5], [0, 1, 2]]]
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from imagegram.records import Images

#: The image as it is.
ORIGINAL: Final = "original"
FLIP: Final = "flip"
#: Side of the middle square in sides of a crop.
_CROP_RANGE: Final = 1.1
#: Rows and columns before each crop, in shares of what is cut away.
_CORNERS: Final = {
    "top_left": (0.0, 0.0),
    "top_right": (0.0, 1.0),
    "bottom_left": (1.0, 0.0),
    "bottom_right": (1.0, 1.0),
    "centre": (0.5, 0.5),
}
#: Names of the views of every image, by the value of ``corpus.views``.
VIEWS: Final = {
    "none": (ORIGINAL,),
    "flip": (ORIGINAL, FLIP),
    "ten_crop": (*_CORNERS, *(f"{corner}_{FLIP}" for corner in _CORNERS)),
}


def view_of(image: Images, view: str) -> Images:
    """Return a view of an image.

    Args:
        image: (H, W, 3) uint8.
        view: one of the names in :data:`VIEWS`.

    Raises:
        KeyError: for another name.
    """
    if view == ORIGINAL:
        return image
    corner = view.removesuffix(FLIP).removesuffix("_")
    if corner:
        image = _crop(image, *_CORNERS[corner])
    return np.ascontiguousarray(image[:, ::-1]) if view.endswith(FLIP) else image


def mirror_half(images_BHWC: Images, rng: np.random.Generator) -> None:
    """Mirror about half of (B, H, W, 3) images in place, each by a draw of its own."""
    mirrored = rng.integers(0, 2, len(images_BHWC)).astype(np.bool_)
    images_BHWC[mirrored] = images_BHWC[mirrored, :, ::-1]


def _crop(image: Images, down: float, right: float) -> Images:
    """Return the square at a share of the way down and to the right in the middle square."""
    height, width = image.shape[:2]
    side = min(height, width)
    size = math.ceil(side / _CROP_RANGE)
    top = (height - side) // 2 + math.floor(down * (side - size))
    left = (width - side) // 2 + math.floor(right * (side - size))
    return np.ascontiguousarray(image[top : top + size, left : left + size])
