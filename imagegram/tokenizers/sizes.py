"""Sizes of a tokenizer's network, checked, and stored in the metadata of its weights; no torch."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from imagegram.errors import ConfigError
from imagegram.store.hashing import file_stamp

if TYPE_CHECKING:
    from torch import nn

#: Name of the network in states of training.
NETWORK: Final = "autoencoder"
S = TypeVar("S", bound="NetworkSizes")


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes of a network; they are written beside its weights.

    Attributes:
        image_size: side of the images in pixels.
    """

    #: Key of the sizes in the metadata of a weights file.
    METADATA: ClassVar[str]

    image_size: int

    def check(self) -> None:
        """Refuse sizes that a network cannot have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        raise NotImplementedError

    def network(self) -> type[nn.Module]:
        """Return the class of the network, which is built from the fields."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes by name."""
        return dataclasses.asdict(self)


def check_positive(sizes: NetworkSizes) -> None:
    """Refuse whole numbers below 1.

    Raises:
        ConfigError: naming the field.
    """
    for name, value in sizes.as_dict().items():
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ConfigError(f"tokenizer.{name}={value} must be at least 1")


def check_divides(sizes: NetworkSizes, *pairs: tuple[str, str]) -> None:
    """Refuse sizes of which one does not divide the other.

    Args:
        sizes: sizes of a network.
        pairs: names of a size and of what has to divide it.

    Raises:
        ConfigError: naming both fields.
    """
    for name, divisor in pairs:
        whole, part = getattr(sizes, name), getattr(sizes, divisor)
        if whole % part:
            raise ConfigError(f"tokenizer.{divisor}={part} must divide tokenizer.{name}={whole}")


def has_sizes(path: Path, kind: type[NetworkSizes]) -> bool:
    """Return whether a file has the sizes of this network in its header."""
    return path.suffix == ".safetensors" and _has_key(path, file_stamp(path), kind.METADATA)


@functools.lru_cache(maxsize=32)
def _has_key(path: Path, stamp: str, key: str) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return key in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def read_sizes(
    checkpoint: str | Path, kind: type[S], *, setting: str = "tokenizer.checkpoint"
) -> S:
    """Read the sizes of a network from the header of a weights file.

    Args:
        checkpoint: the file.
        kind: which network it should be of.
        setting: how the file is asked for, for messages.

    Raises:
        ConfigError: when the file is missing, or is not one of this network.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(checkpoint)
    try:
        with safe_open(path, framework="np") as file:
            sizes = json.loads((file.metadata() or {})[kind.METADATA])
        tuples: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()
        }
        return kind(**tuples)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        found = "holds no weights of this tokenizer" if path.is_file() else "is no file"
        raise ConfigError(
            f"{setting}={checkpoint} {found} ({error}); type {setting}=FOLDER/model.safetensors, "
            f"a file that a training wrote, or {setting}=null to train"
        ) from error
