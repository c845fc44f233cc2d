"""How MaskGIT is trained; Lightning's side of ``objective.py``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.maskgit.masks import random_masks
from imagegram.generators.maskgit.network import MaskGit
from imagegram.models.transformer import build
from imagegram.training.draws import BATCH, generator
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items

#: Name of the network in states of training.
NETWORK: Final = "maskgit"
#: Documents that validation looks at, and how many at a time.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 64


class MaskedModule(TrainingModule):
    """One network and the cross entropy of what was masked."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Fresh weights."""
        sizes = dataclasses.asdict(self.objective.architecture)
        return {NETWORK: build(MaskGit, seed=self.optimization.seed, **sizes)}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy, the mean over tokens by their weight."""
        (ids_BT, masked_BT), task = batch, self.objective
        logits_BTV = self.networks[NETWORK](
            ids_BT.masked_fill(masked_BT, task.architecture.vocab_size)
        )
        losses_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2),
            ids_BT,
            reduction="none",
            label_smoothing=task.label_smoothing,
        )
        weights_BT = torch.where(masked_BT, 1.0, task.unmasked_weight)
        loss = (losses_BT * weights_BT).sum() / weights_BT.sum()
        self.log("train/loss", loss)
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """``val/bits_per_token``: an upper bound, the mean over orders of the tokens.

        With k of T tokens masked, k uniform in 1 ... T, the mean over the masked ones is the cost
        of a token in random order (Hoogeboom et al. 2021, arXiv 2110.02037).
        """
        network: Any = networks[NETWORK]
        num_rows = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_rows) * len(items) // num_rows
        bits = 0.0
        for first in range(0, num_rows, _CHUNK):
            ids = items.gather(rows[first : first + _CHUNK]).astype(np.int64)
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same masks every time
            counts_B = rng.integers(1, ids.shape[1] + 1, len(ids))
            masked = torch.from_numpy(random_masks(counts_B, ids.shape[1], rng)).to(self.device)
            ids_BT = torch.from_numpy(ids).to(self.device)
            logits = network(ids_BT.masked_fill(masked, network.vocab_size))
            losses = F.cross_entropy(logits.float().transpose(1, 2), ids_BT, reduction="none")
            bits += float(((losses * masked).sum(dim=1) / masked.sum(dim=1)).sum())
        return {"val/bits_per_token": bits / math.log(2) / num_rows}
