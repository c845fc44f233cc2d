"""LPIPS: how different two pictures look, by features of a network that knows ImageNet.

After Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (arXiv
1801.03924), version 0.1 of the weights. At each of five layers features are scaled to length one in
every place; the squared differences of the channels, weighted, are averaged over the places.

Array names: ``B`` images, ``S`` side in pixels, ``C`` channels, ``H`` and ``W`` places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.lpips_weights import find_weights, read_weights

#: Mean and deviation of the pixels, in -1 ... 1, that the networks were trained on.
_SHIFT: Final = (-0.030, -0.088, -0.188)
_SCALE: Final = (0.458, 0.448, 0.450)
#: Least length of features.
_EPSILON: Final = 1e-10


@dataclass(frozen=True)
class _Conv:
    """A convolution and a ReLU.

    Attributes:
        channels: of its output.
        size, stride, padding: of its window.
        compared: whether LPIPS looks at its output.
        pooled: size of the maximum with stride 2 before it; 0: none.
    """

    channels: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    compared: bool = False
    pooled: int = 0


LAYERS: Final = {
    "alexnet": (
        _Conv(64, size=11, stride=4, padding=2, compared=True),
        _Conv(192, size=5, padding=2, compared=True, pooled=3),
        _Conv(384, compared=True, pooled=3),
        _Conv(256, compared=True),
        _Conv(256, compared=True),
    ),
    "vgg16": (
        _Conv(64),
        _Conv(64, compared=True),
        _Conv(128, pooled=2),
        _Conv(128, compared=True),
        _Conv(256, pooled=2),
        _Conv(256),
        _Conv(256, compared=True),
        _Conv(512, pooled=2),
        _Conv(512),
        _Conv(512, compared=True),
        _Conv(512, pooled=2),
        _Conv(512),
        _Conv(512, compared=True),
    ),
}
#: Names in the files of weights.
_NAMES: Final = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}


class Lpips(nn.Module):
    """Pairs of pictures to their LPIPS; it is never trained.

    Args:
        network: ``alexnet`` or ``vgg16``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: str) -> None:
        super().__init__()
        self.layers = LAYERS[network]
        widths = [3, *(layer.channels for layer in self.layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, layer.channels, layer.size, stride=layer.stride, padding=layer.padding)
            for width, layer in zip(widths, self.layers, strict=False)
        )
        compared = [layer.channels for layer in self.layers if layer.compared]
        self.weights = nn.ParameterList(torch.zeros(channels) for channels in compared)
        for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.requires_grad_(requires_grad=False)

    def forward(self, some_BSSC: Tensor, other_BSSC: Tensor) -> Tensor:
        """Return the (B,) LPIPS of pairs of (B, S, S, 3) pictures in -1 ... 1.

        Computed in float32, even under autocast.
        """
        with torch.autocast(some_BSSC.device.type, enabled=False):
            total = some_BSSC.new_zeros(len(some_BSSC), dtype=torch.float32)
            features = zip(self.features(some_BSSC), self.features(other_BSSC), strict=True)
            for weight_C, (some_BCHW, other_BCHW) in zip(self.weights, features, strict=True):
                apart = (_unit(some_BCHW) - _unit(other_BCHW)).square()
                total = total + torch.einsum("bchw,c->bhw", apart, weight_C).mean(dim=(1, 2))
            return total

    def features(self, images_BSSC: Tensor) -> list[Tensor]:
        """Return the (B, C, H, W) features of the layers that are compared."""
        hidden = ((images_BSSC.float() - self.shift) / self.scale).permute(0, 3, 1, 2).contiguous()
        found = []
        for layer, convolution in zip(self.layers, self.convolutions, strict=True):
            if layer.pooled:
                hidden = F.max_pool2d(hidden, layer.pooled, stride=2)
            hidden = F.relu(convolution(hidden))
            if layer.compared:
                found.append(hidden)
        return found


def load_lpips(network: str) -> Lpips:
    """Return LPIPS with its weights.

    Raises:
        ConfigError: for an unknown network, or a file of other weights.
        MissingDependencyError: where there are none; with the line that installs them.
    """
    made = Lpips(network)
    arrays = read_weights(find_weights(network), network)

    def tensor(layer: dict[str, Any], name: str) -> Tensor:
        return torch.from_numpy(np.array(layer[name], dtype=np.float32))

    for number, convolution in enumerate(made.convolutions):
        layer = arrays[_NAMES[network]][f"Conv_{number}"]
        convolution.weight.copy_(tensor(layer, "kernel").permute(3, 2, 0, 1))  # type: ignore[operator]
        convolution.bias.copy_(tensor(layer, "bias"))  # type: ignore[operator]
    for number, weight in enumerate(made.weights):
        weight.copy_(tensor(arrays[f"NetLinLayer_{number}"]["Conv_0"], "kernel").flatten())
    return made


def _unit(features_BCHW: Tensor) -> Tensor:
    """Scale the features of every place to length one; where there are none, they stay zero.

    The gradient of this norm is zero there, that of a root of squares is none.
    """
    length = torch.linalg.vector_norm(features_BCHW, dim=1, keepdim=True)
    unit: Tensor = features_BCHW / (length + _EPSILON)
    return unit
