"""Quantization: which quantizer makes ids of vectors, and how it is learned; no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from imagegram.errors import ConfigError, did_you_mean, require_bounds
from imagegram.records import EOS_TOKEN_ID

#: ``ema``, ``gradient``, ``clustering``: how the codes of a codebook are learned
#: (``models/clusters.py``); ``fsq``: no codebook, numbers are rounded (``models/quantizers.py``).
KINDS: Final = ("ema", "gradient", "clustering", "fsq")


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Fields ``tokenizer.quantizer``.

    Attributes:
        kind: one of :data:`KINDS`.
        vocab_size: codes of a codebook.
        dim: numbers of a code.
        normalized: compare directions only.
        commitment: weight, in the loss, of the distance between vectors and their codes.
        decay: of the moving averages that codes and their usage are.
        revive_below: a code used less than this share of the mean becomes a vector of the batch;
            0: never.
        levels: of ``fsq``, values of each digit of an id, the least significant first.
    """

    kind: str = "ema"
    vocab_size: int = 1024
    dim: int = 12
    normalized: bool = True
    commitment: float = 0.25
    decay: float = 0.99
    revive_below: float = 0.1
    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        """Turn a list of a configuration into a tuple."""
        object.__setattr__(self, "levels", tuple(self.levels))

    @property
    def has_codebook(self) -> bool:
        """Whether there are codes to learn."""
        return self.kind != "fsq"

    def identity(self) -> dict[str, Any]:
        """Return what counts for this kind."""
        if not self.has_codebook:
            return {"kind": self.kind, "levels": list(self.levels)}
        fields = ("kind", "vocab_size", "dim", "normalized", "commitment", "decay", "revive_below")
        return {name: getattr(self, name) for name in fields}

    def sizes(self) -> dict[str, Any]:
        """Return what the network needs to know; a checkpoint keeps it."""
        if self.has_codebook:
            return {
                "vocab_size": self.vocab_size,
                "code_dim": self.dim,
                "normalized": self.normalized,
                "levels": (),
            }
        return {
            "vocab_size": math.prod(self.levels),
            "code_dim": len(self.levels),
            "normalized": False,
            "levels": self.levels,
        }

    def with_sizes(self, sizes: dict[str, Any]) -> Quantization:
        """Return the quantizer of a checkpoint, which brings what :meth:`sizes` gave."""
        if sizes["levels"]:
            return Quantization(kind="fsq", levels=sizes["levels"])
        return Quantization(
            kind=self.kind if self.has_codebook else "ema",
            vocab_size=sizes["vocab_size"],
            dim=sizes["code_dim"],
            normalized=sizes["normalized"],
            commitment=self.commitment,
            decay=self.decay,
            revive_below=self.revive_below,
        )

    def check(self) -> None:
        """Refuse what cannot be learned.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        if self.kind not in KINDS:
            raise ConfigError(
                f"tokenizer.quantizer.kind={self.kind} is unknown; {did_you_mean(self.kind, KINDS)}"
            )
        if not self.has_codebook:
            check_levels(self.levels, setting="tokenizer.quantizer.levels")
            return
        bounds = {
            "vocab_size": (2, EOS_TOKEN_ID),
            "dim": (2 if self.normalized else 1, math.inf),
            "commitment": (0, math.inf),
            "decay": (0, 0.99999),
            "revive_below": (0, 1),
        }
        notes = {"dim": "; directions need two numbers"} if self.normalized else {}
        require_bounds(self, bounds, prefix="tokenizer.quantizer.", notes=notes)


def check_levels(levels: tuple[int, ...], *, setting: str) -> None:
    """Refuse levels that make no ids of a token file.

    Args:
        levels: of each digit of an id.
        setting: the name of the field, for the message.

    Raises:
        ConfigError: naming the field and what is allowed.
    """
    vocab_size = math.prod(levels)
    if not levels or min(levels) < 2 or vocab_size > EOS_TOKEN_ID:
        raise ConfigError(
            f"{setting}={list(levels)} must be numbers from 2 on whose product, the"
            f" vocabulary, is at most {EOS_TOKEN_ID:,}, got {vocab_size:,}; type for example "
            f"{setting}=[8,5,5,5]"
        )
