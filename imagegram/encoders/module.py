"""Any torch module as an encoder: your own network behind the same distances.

    python -m imagegram.run encoder=module encoder.target=my_package.nets:dinov2
    python -m imagegram.run encoder=module encoder.target=/models/inception.ts

``package.module:factory`` is imported and called without arguments; any other text is the path of a
TorchScript file. The module reads (B, 3, R, R) and returns (B, D), or maps (B, D, h, w), which
are averaged over places.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from imagegram.encoders.preprocessing import (
    bicubic,
    require_device,
    require_images,
    require_resolution,
)
from imagegram.errors import ConfigError
from imagegram.records import Features, Images
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import file_sha256

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class ModuleEncoder:
    """An encoder that runs a torch module of your own.

    Attributes:
        name: part of every score name; letters, digits and underscores.
        target: ``package.module:factory`` or the path of a TorchScript file. A file is known by its
            sha256, so moving it changes nothing; a factory is known by its name: give the encoder
            another ``name`` when its weights change.
        resolution: side length, in pixels, that images are resized to (bicubic, antialiased).
        mean: subtracted from each channel of pixels in 0 ... 1.
        std: divides each channel after that.
        batch_size: images at a time.
        device: where torch runs (``cpu``, ``cuda``).
    """

    VERSION: ClassVar[int] = 1

    name: str
    target: str
    resolution: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    batch_size: int = field(default=64, metadata=NOT_IDENTITY)
    device: str = field(default="cpu", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        require_resolution(self.resolution)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                f"encoder.mean={list(self.mean)} and encoder.std={list(self.std)} must hold three "
                "numbers each, one a channel, with std > 0; for pixels in 0...1 as they are: "
                "encoder.mean=[0,0,0] encoder.std=[1,1,1]"
            )

    def identity(self) -> dict[str, Any]:
        """Return the name, the preprocessing, and the file's sha256 or the factory's name."""
        target = self.target if _is_factory(self.target) else file_sha256(_script(self.target))
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "name": self.name,
            "target": target,
            "resolution": self.resolution,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def check_machine(self) -> None:
        """Refuse a device that is not there, a missing file, a factory that cannot be imported."""
        require_device(self.device)
        if _is_factory(self.target):
            _factory(self.target)
        else:
            _script(self.target)

    def encode(self, images_BHWC: Images) -> Features:
        """Encode (B, H, W, 3) uint8 images as (B, D) float32 features.

        Raises:
            ConfigError: when the module returns anything but (B, D) or (B, D, h, w).
        """
        import torch

        require_images(images_BHWC)
        module = _load(self.target, self.device)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        parts = []
        with torch.inference_mode():
            for first in range(0, len(images_BHWC), self.batch_size):
                pixels = bicubic(images_BHWC[first : first + self.batch_size], self.resolution)
                output = module(((pixels / 255.0 - mean) / std).to(self.device))
                if output.ndim == 4:
                    output = output.mean(dim=(2, 3))
                if output.ndim != 2 or len(output) != len(pixels):
                    raise ConfigError(
                        f"{self.target} returned shape {tuple(output.shape)} for {len(pixels)} "
                        "images; an encoder returns (B, D) features or (B, D, h, w) maps"
                    )
                parts.append(output.float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def _is_factory(target: str) -> bool:
    return ":" in target and not Path(target).exists()


def _script(target: str) -> Path:
    path = Path(target)
    if not path.is_file():
        raise ConfigError(
            f"encoder.target={target!r} is neither a TorchScript file nor package.module:factory; "
            "save a module with torch.jit.script(module).save('net.ts') and give that path"
        )
    return path


def _factory(target: str) -> Callable[[], Any]:
    """Import the factory that ``package.module:factory`` names."""
    package, _, attribute = target.partition(":")
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"encoder.target={target!r} cannot be imported ({error}); it must read "
            "package.module:factory, with the package on PYTHONPATH"
        ) from error
    return factory


@functools.cache
def _load(target: str, device: str) -> torch.nn.Module:
    """Load the module in evaluation mode, once per process and device."""
    import torch

    require_device(device)
    module: torch.nn.Module
    if not _is_factory(target):
        path = _script(target)
        try:
            module = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ConfigError(
                f"encoder.target={target!r} does not load as TorchScript on {device} ({error}); "
                "save a module with torch.jit.script(module).save('net.ts') and give that path"
            ) from error
        return module.eval()
    try:
        module = _factory(target)()
    except TypeError as error:
        raise ConfigError(
            f"encoder.target={target!r} cannot be called without arguments ({error}); write a "
            "factory that needs none: def net(): return Net(...)"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"encoder.target={target!r} gave a {type(module).__name__}; the factory must return a "
            "torch.nn.Module"
        )
    return module.eval().to(device)
