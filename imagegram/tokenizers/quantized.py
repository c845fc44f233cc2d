"""What the tokenizers ``conv_vq`` and ``titok`` share: a quantizer, and how it is learned."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenLayout, TokenSpec
from imagegram.tokenizers.learned import LearnedTokenizer
from imagegram.tokenizers.quantization import Quantization
from imagegram.tokenizers.reconstruction import Reconstruction
from imagegram.tokenizers.sizes import NetworkSizes


@dataclass(frozen=True, kw_only=True)
class QuantizedTokenizer(LearnedTokenizer):
    """The fields of a tokenizer whose network has a quantizer; families add sizes and a layout.

    Attributes:
        quantizer: how vectors become ids, and how that is learned.
    """

    quantizer: Quantization

    def __post_init__(self) -> None:
        """Turn lists into tuples; take the sizes of a checkpoint; refuse impossible settings."""
        for item in dataclasses.fields(self):
            if isinstance(value := getattr(self, item.name), list):
                object.__setattr__(self, item.name, tuple(value))
        self.quantizer.check()
        super().__post_init__()

    @property
    def layout(self) -> TokenLayout:
        """What the positions of an image stand for."""
        raise NotImplementedError

    @property
    def spec(self) -> TokenSpec:
        """As many ids as the quantizer has, in the layout of the family."""
        vocab_size = self.quantizer.sizes()["vocab_size"]
        return TokenSpec(vocab_size=vocab_size, layout=self.layout)

    @property
    def architecture(self) -> NetworkSizes:
        """Sizes of the network, with those of the quantizer."""
        known = self.quantizer.sizes()
        own = (item.name for item in dataclasses.fields(self.SIZES) if item.name not in known)
        return self.SIZES(**{name: getattr(self, name) for name in own}, **known)

    def fields_of(self, sizes: NetworkSizes) -> dict[str, Any]:
        """Return the fields of this tokenizer that sizes of a checkpoint decide."""
        values = sizes.as_dict()
        known = {name: values.pop(name) for name in self.quantizer.sizes()}
        return values | {"quantizer": self.quantizer.with_sizes(known)}

    @property
    def codebooks(self) -> NDArray[np.float32]:
        """(1, V, D) float32 vectors that the ids stand for.

        Raises:
            ConfigError: when there are no weights yet.
        """
        from imagegram.tokenizers.inference import vectors

        return vectors(self._network(), self.spec.vocab_size)[None]

    def objective(self) -> Reconstruction:
        """Return the objective of the network's training."""
        return Reconstruction(
            architecture=self.architecture, quantizer=self.quantizer, flips=self.flips
        )
