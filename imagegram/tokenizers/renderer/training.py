"""Training and validation of a renderer; the torch side of ``objective.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.tokenizers.renderer.items import RendererItems, hide
from imagegram.tokenizers.renderer.network import fresh_renderer, seen_mask
from imagegram.tokenizers.renderer.sizes import NETWORK
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items

#: Rows that validation looks at, and how many at a time.
NUM_VALIDATION: Final = 128
_CHUNK: Final = 8


class RendererModule(TrainingModule):
    """One renderer and the cross entropy of the tokens of sentences."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the network with fresh weights."""
        codebooks, seed = self.objective.codes.codebooks, self.optimization.seed
        return {NETWORK: fresh_renderer(self.objective.sizes, codebooks, seed=seed)}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the cross entropy in nats, the mean over tokens."""
        ids_BT, places_BT, segments_BT, targets_BT, weights_BT = batch
        losses_N = token_losses(self.networks[NETWORK], ids_BT, places_BT, segments_BT, targets_BT)
        loss = (losses_N * weights_BT[targets_BT >= 0]).sum() / weights_BT.numel()
        self.log("train/loss", loss)
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return bits per token with the own codes, with those of others, and with none.

        ``val/bits_per_token``, ``val/shuffled_bits_per_token``, ``val/no_codes_bits_per_token``.
        """
        assert isinstance(items, RendererItems)
        network = networks[NETWORK]
        scores = {"val/bits_per_token": self._bits(network, items)}
        if self.objective.sizes.conditioning == "none":
            return scores
        shuffled = self._bits(network, replace(items, shuffled=True))
        without = self._bits(network, items, without=True)
        others = {"val/shuffled_bits_per_token": shuffled, "val/no_codes_bits_per_token": without}
        return scores | others

    def _bits(self, network: nn.Module, items: RendererItems, *, without: bool = False) -> float:
        """Return the bits per token of rows spread over all, or of these without codes."""
        num_rows = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_rows) * len(items) // num_rows
        bits, count = 0.0, 0
        for first in range(0, num_rows, _CHUNK):
            found: Any = items.gather(rows[first : first + _CHUNK]).astype(np.int64)
            if without:
                hide(found[:, 2], found[:, 4], np.zeros((len(found), items.capacity), int))
            arrays = torch.from_numpy(found).to(self.device).unbind(dim=1)[:4]
            losses_N = token_losses(network, *arrays)
            bits += float(losses_N.double().sum()) / math.log(2)
            count += len(losses_N)
        return bits / max(count, 1)


def token_losses(
    network: Any, ids_BT: Tensor, places_BT: Tensor, segments_BT: Tensor, targets_BT: Tensor
) -> Tensor:
    """Return the losses in nats of all positions with a target, (N,), row by row."""
    x_BTW = network.read(ids_BT, places_BT, segments_BT)
    features_BTW = network(x_BTW, seen_mask(segments_BT))
    counted_BT = targets_BT >= 0
    logits_NV = network.to_logits(features_BTW[counted_BT])
    return F.cross_entropy(logits_NV.float(), targets_BT[counted_BT], reduction="none")
