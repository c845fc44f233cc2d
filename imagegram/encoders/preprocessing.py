"""Resizing for encoders: part of the metric, so there is one way to do it and it is named.

Bicubic with antialiasing: without it, downscaling moves Frechet distances by several points
(Parmar, Zhang, Zhu, "On aliased resizing and surprising subtleties in GAN evaluation", CVPR 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imagegram.errors import ConfigError
from imagegram.records import Images

if TYPE_CHECKING:
    import torch


def require_images(images_BHWC: Images) -> None:
    """Refuse images that are not RGB bytes: a float image would silently be scaled wrongly.

    Raises:
        ConfigError: naming the shape and dtype received.
    """
    if images_BHWC.ndim != 4 or images_BHWC.shape[3] != 3 or images_BHWC.dtype != np.uint8:
        raise ConfigError(
            f"an encoder reads images of shape (B, H, W, 3) and dtype uint8, received "
            f"{images_BHWC.shape} {images_BHWC.dtype}; decode the tokens with tokenizer.decode"
        )


def require_resolution(resolution: int, *, smallest: int = 1) -> None:
    """Refuse a side length that no encoder can read.

    Raises:
        ConfigError: naming the value and the smallest one allowed.
    """
    if resolution < smallest:
        raise ConfigError(
            f"encoder.resolution is {resolution}; it must be at least {smallest} pixels, type "
            f"for example encoder.resolution={max(smallest, 64)}"
        )


def require_device(device: str, *, setting: str = "encoder.device") -> None:
    """Refuse a device that this torch or this machine does not have.

    Args:
        device: name of a torch device.
        setting: key of the configuration that holds the name, for messages.

    Raises:
        ConfigError: naming the device and what to type.
    """
    if device == "cpu":
        return  # always there, and torch is slow to import
    import torch

    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # not compiled in, not installed, unknown name
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{setting}={device} cannot be used ({reason}); type {setting}=cpu"
        ) from error


def bicubic(images_BHWC: Images, resolution: int) -> torch.Tensor:
    """Resize (B, H, W, 3) uint8 to (B, 3, R, R) float32 in 0 ... 255: bicubic, antialiased."""
    import torch

    pixels = torch.from_numpy(np.array(images_BHWC)).permute(0, 3, 1, 2).float()
    if pixels.shape[2:] == (resolution, resolution):
        return pixels
    resized = torch.nn.functional.interpolate(
        pixels, size=(resolution, resolution), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.clamp(0.0, 255.0)
