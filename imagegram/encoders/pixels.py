"""Pixels as features: the baseline that needs no network, and the quick one of the tests.

>>> import numpy as np
>>> image = np.full((1, 32, 32, 3), 255, np.uint8)
>>> PixelEncoder(resolution=2).encode(image).tolist()
[[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.preprocessing import require_images, require_resolution
from imagegram.records import Features, Images

#: Pixels that are averaged at a time, 24 bytes each.
_PIXELS: Final = 1 << 18


@dataclass(frozen=True, kw_only=True)
class PixelEncoder:
    """Area-averaged pixels in 0 ... 1, resolution * resolution * 3 features.

    Attributes:
        name: part of every score name (``fd_pixels``).
        resolution: side length in pixels.
    """

    VERSION: ClassVar[int] = 1
    #: Seconds an image on one core, for forecasts.
    SECONDS: ClassVar[float] = 3e-5

    name: str = "pixels"
    resolution: int = 16

    def __post_init__(self) -> None:
        require_resolution(self.resolution)

    def encode(self, images_BHWC: Images) -> Features:
        """Encode (B, H, W, 3) uint8 images as (B, resolution * resolution * 3) float32."""
        require_images(images_BHWC)
        batch, height, width, _ = images_BHWC.shape
        rows, columns = _area(height, self.resolution), _area(width, self.resolution)
        features = np.empty((batch, self.resolution**2 * 3), dtype=np.float32)
        at_once = max(_PIXELS // (height * width), 1)
        for first in range(0, batch, at_once):  # some at a time: memory stays flat
            part = images_BHWC[first : first + at_once] / 255.0
            low = rows @ part.reshape(len(part), height, width * 3)
            small = columns @ low.reshape(-1, width, 3)
            features[first : first + at_once] = small.reshape(len(part), -1)
        return features


def _area(size: int, resolution: int) -> NDArray[np.float64]:
    """Return (resolution, size) weights: how much of each source pixel a target pixel covers."""
    edges = np.linspace(0.0, size, resolution + 1)
    pixels = np.arange(size)
    lower = np.maximum(edges[:-1, None], pixels)
    upper = np.minimum(edges[1:, None], pixels + 1)
    overlap = np.maximum(upper - lower, 0.0)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))
