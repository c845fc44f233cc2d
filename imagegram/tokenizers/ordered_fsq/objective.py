"""How the ordered autoencoder is trained: squared error of pixels, under nested dropout.

The loss of an image is the mean squared error of its pixels in 0 ... 1, painted from the first k
codes, k drawn anew for every image and step; nothing else is added. Validation paints held-out
images from 1, 2, 4, ... codes, so the curves tell what each length costs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagegram.layout import prefix_lengths
from imagegram.models.cores import map_on_cores
from imagegram.models.transformer import build
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq
from imagegram.tokenizers.ordered_fsq.tokenizer import Architecture
from imagegram.training.draws import keep_lengths
from imagegram.training.objective import Items

#: Images that validation looks at.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 32


@dataclass(frozen=True, kw_only=True)
class OrderedReconstruction:
    """The objective of :class:`OrderedFsq`.

    Attributes:
        architecture: sizes of the network.
        keep: law of nested dropout, ``pow2`` or ``uniform``.
        flips: mirror half of the images.
    """

    VERSION: ClassVar[int] = 1

    architecture: Architecture
    keep: str
    flips: bool

    def network(self, seed: int) -> nn.Module:
        """Fresh weights."""
        return build(OrderedFsq, seed=seed, **dataclasses.asdict(self.architecture))

    def batch(
        self, items: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Images (B, S, S, 3) uint8, some mirrored, and how many codes each keeps (B,)."""
        keep_B = keep_lengths(
            rng,
            how=self.keep,
            batch_size=len(items),
            num_registers=self.architecture.num_registers,
        )
        if self.flips:
            mirrored = rng.integers(0, 2, len(items)).astype(np.bool_)
            items[mirrored] = items[mirrored, :, ::-1]
        return items, keep_B

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error of pixels in 0 ... 1."""
        images, keep_B = batch
        target = to_float(images)
        return squared_error(network(target, keep_B), target).mean()

    def validate(self, network: nn.Module, items: Items, device: Any) -> dict[str, float]:
        """``val/mse_k1``, ``_k2``, ...: mean squared error of pixels in 0 ... 1, clipped."""
        num_images = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_images) * len(items) // num_images
        lengths = prefix_lengths(self.architecture.num_registers)

        def errors(first: int) -> list[float]:
            pixels = torch.from_numpy(items.gather(rows[first : first + _CHUNK]))
            images = to_float(pixels.to(device))
            with torch.inference_mode():
                codes = network.encode(images)  # type: ignore[operator]
                painted = (network.decode(codes, _all(k, codes)) for k in lengths)  # type: ignore[operator]
                return [float(squared_error(p.clamp(-1, 1), images).sum()) for p in painted]

        firsts = range(0, num_images, _CHUNK)
        totals = np.sum(list(map_on_cores(errors, firsts, device=device)), axis=0) / num_images
        return {f"val/mse_k{k}": float(mse) for k, mse in zip(lengths, totals, strict=True)}


def _all(length: int, codes: Tensor) -> Tensor:
    """(B,) the same length for every image."""
    return torch.full((len(codes),), length, device=codes.device)


def to_float(images: Tensor) -> Tensor:
    """Bytes 0 ... 255 to float32 in -1 ... 1."""
    return images.float() / 127.5 - 1


def squared_error(painted: Tensor, images: Tensor) -> Tensor:
    """(B,) mean squared error of each image, in units of pixels in 0 ... 1; float32."""
    return ((painted.float() - images) / 2).square().flatten(1).mean(dim=1)
