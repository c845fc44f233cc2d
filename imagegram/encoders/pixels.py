"""Pixels as features: the baseline that needs no network, and the quick one of the tests.

>>> import numpy as np
>>> image = np.full((1, 32, 32, 3), 255, np.uint8)
>>> PixelEncoder(resolution=2).encode(image).tolist()
[[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.preprocessing import require_images, require_resolution
from imagegram.records import Features, Images


@dataclass(frozen=True, kw_only=True)
class PixelEncoder:
    """Area-averaged pixels in 0 ... 1, resolution * resolution * 3 features.

    Attributes:
        name: part of every score name (``fd_pixels``).
        resolution: side length in pixels.
    """

    VERSION: ClassVar[int] = 1

    name: str = "pixels"
    resolution: int = 16

    def __post_init__(self) -> None:
        require_resolution(self.resolution)

    def encode(self, images_BHWC: Images) -> Features:
        """(B, H, W, 3) uint8 to (B, resolution * resolution * 3) float32."""
        require_images(images_BHWC)
        batch, height, width, _ = images_BHWC.shape
        rows, columns = _area(height, self.resolution), _area(width, self.resolution)
        features = np.empty((batch, self.resolution**2 * 3), dtype=np.float32)
        for index, image in enumerate(images_BHWC):  # one at a time: memory stays flat
            small = np.einsum("rh,hwc,sw->rsc", rows, image / 255.0, columns, optimize=True)
            features[index] = small.ravel()
        return features


def _area(size: int, resolution: int) -> NDArray[np.float64]:
    """(resolution, size) weights: the share of every source pixel that each target pixel covers."""
    edges = np.linspace(0.0, size, resolution + 1)
    pixels = np.arange(size)
    lower = np.maximum(edges[:-1, None], pixels)
    upper = np.minimum(edges[1:, None], pixels + 1)
    overlap = np.maximum(upper - lower, 0.0)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))
