"""How MaskGIT is trained: foretell the masked tokens of a document, whatever share is masked.

The share of masked tokens is arccos(u) / (pi / 2), u uniform in [0, 1): more often many than few
(Chang et al. 2022, arXiv 2202.04200; Yu et al. 2024, arXiv 2406.07550).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.maskgit.network import MaskGit
from imagegram.models.transformer import build
from imagegram.training.draws import BATCH, generator
from imagegram.training.objective import Items

#: Documents that validation looks at.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 64


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a :class:`MaskGit`; see there."""

    vocab_size: int
    num_tokens: int
    width: int
    depth: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class MaskedPrediction:
    """The objective of :class:`MaskGit`.

    Attributes:
        architecture: sizes of the network.
        label_smoothing: of the cross entropy, 0 ... 1.
        unmasked_weight: of tokens that were not masked, beside 1 for those that were.
    """

    VERSION: ClassVar[int] = 1

    architecture: Architecture
    label_smoothing: float
    unmasked_weight: float

    def network(self, seed: int) -> nn.Module:
        """The network with fresh weights, on the CPU."""
        return build(MaskGit, seed=seed, **dataclasses.asdict(self.architecture))

    def batch(
        self, items: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(B, T) ids, and which of them are masked: at least one of every document."""
        shares_B = np.arccos(rng.random(len(items))) / (math.pi / 2)
        counts_B = np.maximum(np.rint(shares_B * items.shape[1]), 1)
        return items.astype(np.int64), random_masks(counts_B, items.shape[1], rng)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Cross entropy, the mean over tokens by their weight."""
        ids_BT, masked_BT = batch
        logits_BTV = network(ids_BT.masked_fill(masked_BT, self.architecture.vocab_size))
        losses_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2),
            ids_BT,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        weights_BT = torch.where(masked_BT, 1.0, self.unmasked_weight)
        return (losses_BT * weights_BT).sum() / weights_BT.sum()

    def validate(self, network: nn.Module, items: Items, device: Any) -> dict[str, float]:
        """``val/bits_per_token``: an upper bound, the mean over orders of the tokens.

        With k of T tokens masked, k uniform in 1 ... T, the mean over the masked ones is the cost
        of a token in random order (Hoogeboom et al. 2021, arXiv 2110.02037).
        """
        rows = np.arange(min(NUM_VALIDATION, len(items))) * len(items)
        rows = rows // min(NUM_VALIDATION, len(items))
        bits = 0.0
        for first in range(0, len(rows), _CHUNK):
            ids = items.gather(rows[first : first + _CHUNK]).astype(np.int64)
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same masks every time
            counts_B = rng.integers(1, ids.shape[1] + 1, len(ids))
            masked = torch.from_numpy(random_masks(counts_B, ids.shape[1], rng)).to(device)
            ids_BT = torch.from_numpy(ids).to(device)
            with torch.inference_mode():
                logits = network(ids_BT.masked_fill(masked, self.architecture.vocab_size))
                losses = F.cross_entropy(logits.float().transpose(1, 2), ids_BT, reduction="none")
                bits += float(((losses * masked).sum(dim=1) / masked.sum(dim=1)).sum())
        return {"val/bits_per_token": bits / math.log(2) / len(rows)}


def random_masks(
    counts_B: NDArray[Any], num_tokens: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(B, T) bool, ``counts_B[b]`` of them True in row b, all choices equally likely."""
    ranks_BT = rng.random((len(counts_B), num_tokens)).argsort(axis=1).argsort(axis=1)
    masks: NDArray[np.bool_] = ranks_BT < counts_B[:, None]
    return masks
