"""Sizes of the ordered autoencoder, checked and stored in the metadata of its weights."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imagegram.errors import ConfigError
from imagegram.records import EOS_TOKEN_ID

#: Key of the sizes of the network in the metadata of a weights file.
METADATA: Final = "ordered_fsq"
#: Name of the network in states of training.
NETWORK: Final = "autoencoder"


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of the network; they are written beside its weights.

    Attributes:
        image_size: side of the images in pixels.
        patch_size: side of a patch in pixels; divides ``image_size``.
        num_registers: tokens of an image.
        levels: values of every digit of an id, the least significant first.
        width: features of a position.
        encoder_depth, decoder_depth: blocks.
        num_heads: divides ``width``.
    """

    image_size: int
    patch_size: int
    num_registers: int
    levels: tuple[int, ...]
    width: int
    encoder_depth: int
    decoder_depth: int
    num_heads: int

    def check(self) -> None:
        """Refuse sizes that a network cannot have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        sizes = {k: v for k, v in dataclasses.asdict(self).items() if k != "levels"}
        for name, value in sizes.items():
            if value < 1:
                raise ConfigError(f"tokenizer.{name}={value} must be at least 1")
        for name, divisor in (("image_size", "patch_size"), ("width", "num_heads")):
            if sizes[name] % sizes[divisor]:
                raise ConfigError(
                    f"tokenizer.{divisor}={sizes[divisor]} must divide "
                    f"tokenizer.{name}={sizes[name]}"
                )
        vocab_size = math.prod(self.levels)
        if not self.levels or min(self.levels) < 2 or vocab_size > EOS_TOKEN_ID:
            raise ConfigError(
                f"tokenizer.levels={list(self.levels)} must be numbers from 2 on whose product, the"
                f" vocabulary, is at most {EOS_TOKEN_ID:,}, got {vocab_size:,}; type for example "
                "tokenizer.levels=[8,5,5,5]"
            )


def read_architecture(checkpoint: str | Path) -> dict[str, Any]:
    """Read the sizes of the network from the header of a weights file.

    Raises:
        ConfigError: when the file is missing, or is not one of this network.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(checkpoint)
    try:
        with safe_open(path, framework="np") as file:
            sizes = json.loads((file.metadata() or {})[METADATA])
        return dataclasses.asdict(Architecture(**{**sizes, "levels": tuple(sizes["levels"])}))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        found = "holds no weights of this tokenizer" if path.is_file() else "is no file"
        raise ConfigError(
            f"tokenizer.checkpoint={checkpoint} {found} ({error}); type "
            "tokenizer.checkpoint=FOLDER/model.safetensors, a file that a training wrote, or "
            "tokenizer.checkpoint=null to train"
        ) from error
