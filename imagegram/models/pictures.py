"""Pictures as networks see them: pixels in -1 ... 1.

Array names: ``B`` images, ``S`` side in pixels, ``C`` colours.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """Map bytes 0 ... 255 to float32 in -1 ... 1."""
    return images.float() / 127.5 - 1


def to_bytes(pixels: Tensor) -> Tensor:
    """Map -1 ... 1, and what lies outside, to bytes 0 ... 255."""
    return ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def squared_error(painted: Tensor, images: Tensor) -> Tensor:
    """Return the (B,) float32 mean squared error of each image, for pixels in 0 ... 1."""
    return ((painted.float() - images) / 2).square().flatten(1).mean(dim=1)


def planes(images_BSSC: Tensor) -> Tensor:
    """Return (B, 3, S, S) images, as convolutions take them.

    They are copied: with channels last in memory, torch normalizes groups ten times slower.
    """
    return images_BSSC.permute(0, 3, 1, 2).contiguous()


def pixels(images_BCSS: Tensor) -> Tensor:
    """Return (B, S, S, 3) images of the (B, 3, S, S) output of convolutions."""
    return images_BCSS.permute(0, 2, 3, 1)
