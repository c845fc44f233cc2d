"""A small ordered tokenizer that is trained here: coarse tokens first, every prefix a picture.

    python -m imagegram.run tokenizer=ordered_fsq_tiny
    python -m imagegram.run tokenizer=ordered_fsq corpus=tiny_imagenet_20 paths.data=DATA
    python -m imagegram.run tokenizer=ordered_fsq tokenizer.checkpoint=FOLDER/model.safetensors

The network is ``model.py``, what it learns ``objective.py``, how ``training.py``; what it shares
with other learned tokenizers is in ``tokenizers/learned.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, cast

from numpy.typing import NDArray

from imagegram.errors import ConfigError, TokenError, did_you_mean
from imagegram.layout import TokenLayout, TokenSpec, prefix_lengths
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.tokenizers.learned import MINUTES, LearnedTokenizer
from imagegram.tokenizers.ordered_fsq.objective import OrderedReconstruction
from imagegram.tokenizers.ordered_fsq.sizes import Architecture
from imagegram.tokenizers.sizes import NetworkSizes
from imagegram.training.optimization import Optimization

_OPTIMIZATION: Final = replace(MINUTES, ema_decay=0.998)
_KEEP: Final = ("pow2", "uniform")


@dataclass(frozen=True, kw_only=True)
class OrderedFsqTokenizer(LearnedTokenizer):
    """An ordered tokenizer: registers of a transformer, rounded to ids.

    Attributes:
        patch_size, num_registers, levels, width, encoder_depth, decoder_depth, num_heads: as in
            :class:`Architecture`; a checkpoint brings its own, which count.
        keep: how nested dropout draws lengths: ``pow2`` (1, 2, 4, ...) or ``uniform``.
        num_tokens: number of first tokens that are kept; None: all.
        name, image_size, flips, optimization, trainer, checkpoint, device, batch_size, dtype,
            compile, hash_cache: as in :class:`LearnedTokenizer`.
    """

    VERSION: ClassVar[int] = 2
    SIZES: ClassVar[type[NetworkSizes]] = Architecture

    name: str = field(default="ordered_fsq", metadata=NOT_IDENTITY)
    patch_size: int = 8
    num_registers: int = 32
    levels: tuple[int, ...] = (8, 5, 5, 5)
    width: int = 128
    encoder_depth: int = 3
    decoder_depth: int = 3
    num_heads: int = 2
    keep: str = "pow2"
    optimization: Optimization = _OPTIMIZATION
    num_tokens: int | None = None

    def __post_init__(self) -> None:
        """Take the sizes of a checkpoint; refuse impossible settings."""
        object.__setattr__(self, "levels", tuple(self.levels))
        super().__post_init__()
        if self.keep not in _KEEP:
            hint = did_you_mean(self.keep, _KEEP)
            raise ConfigError(f"tokenizer.keep={self.keep} is unknown; {hint}")
        if self.num_tokens is None:
            object.__setattr__(self, "num_tokens", self.num_registers)
        if not 1 <= self._length <= self.num_registers:
            raise ConfigError(
                f"tokenizer.num_tokens={self.num_tokens} must lie in 1 ... {self.num_registers}, "
                "the tokens of a whole image; type tokenizer.num_tokens=null for all"
            )

    def identity(self) -> dict[str, Any]:
        """Return the identity: weights (or the recipe of their training) and number of tokens."""
        return super().identity() | {"num_tokens": self._length}

    def objective(self) -> OrderedReconstruction:
        """Return the objective of the network's training."""
        sizes = cast(Architecture, self.architecture)
        return OrderedReconstruction(architecture=sizes, keep=self.keep, flips=self.flips)

    @property
    def _length(self) -> int:
        return cast(int, self.num_tokens)

    @property
    def spec(self) -> TokenSpec:
        """A ranked sequence of ids whose digits are those of the quantizer."""
        layout = TokenLayout.sequence(self._length, digits=self.levels)
        return TokenSpec(vocab_size=math.prod(self.levels), layout=layout)

    @property
    def encoder(self) -> OrderedFsqTokenizer:
        """The same tokenizer with all tokens."""
        return replace(self, num_tokens=self.num_registers)

    @property
    def shown_lengths(self) -> Sequence[int]:
        """1, 2, 4, ... tokens."""
        return prefix_lengths(self._length)

    def _check_tokens(self, tokens: NDArray[Any]) -> None:
        whole = tokens.ndim == 2 and tokens.dtype.kind in "iu"
        if not whole or not 1 <= tokens.shape[1] <= self._length:
            raise TokenError(
                f"decode needs (B, K) integer ids with K in 1 ... {self._length}, got "
                f"{tokens.shape} {tokens.dtype}"
            )
