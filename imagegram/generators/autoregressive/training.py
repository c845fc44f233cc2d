"""Training and validation of an autoregressive transformer; the torch side of ``objective.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.autoregressive.sizes import make_fresh
from imagegram.generators.learned import as_ids
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items
from imagegram.training.tokens import split_classes

#: Name of the network in states and files.
NETWORK: Final = "autoregressive"
#: Documents that validation looks at, and how many at a time.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 32


class NextTokenModule(TrainingModule):
    """One causal transformer and the cross entropy of its next tokens."""

    validation_loss = "val/bits_per_token"

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the network with fresh weights."""
        return {NETWORK: make_fresh(self.objective.architecture, seed=self.optimization.seed)}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the cross entropy in nats, the mean over tokens."""
        ids_BT, weights_BT, *others = batch
        classes_B = others.pop() if self.objective.architecture.num_classes else None
        order_BT = None
        if others:
            permuted_BT, uniforms_B = others
            share = self.objective.share_permuted(self.steps_done / self.optimization.steps)
            raster_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
            order_BT = torch.where((uniforms_B < share)[:, None], permuted_BT, raster_T)
            weights_BT = weights_BT.gather(1, order_BT)
        losses_BT = self._losses(self.networks[NETWORK], ids_BT, order_BT, classes_B)
        loss = (losses_BT * weights_BT).mean()
        self.log("train/loss", loss)
        return loss

    def _losses(
        self,
        network: nn.Module,
        ids_BT: Tensor,
        order_BT: Tensor | None,
        classes_B: Tensor | None,
    ) -> Tensor:
        """Return (B, T) losses in nats, in the order of the steps."""
        features_BTW = network(ids_BT, order_BT, classes_B)
        logits_BTV = network.to_logits(features_BTW)  # type: ignore[operator]
        wanted_BT = ids_BT if order_BT is None else ids_BT.gather(1, order_BT)
        # Rows of ids side by side: a sixth faster than with the ids in the middle.
        losses = F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), wanted_BT.flatten(), reduction="none"
        )
        return losses.view(wanted_BT.shape)

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/bits_per_token``, in raster order, under the documents' own labels."""
        num_rows = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_rows) * len(items) // num_rows
        sizes, bits, counted = self.objective.architecture, 0.0, 0.0
        for first in range(0, num_rows, _CHUNK):
            found = items.gather(rows[first : first + _CHUNK])
            tokens_BT, classes = split_classes(found, sizes.num_classes)
            ids = as_ids(tokens_BT, sizes)
            counts = self.objective.counted(ids)
            ids_BT, counts_BT = (torch.from_numpy(a).to(self.device) for a in (ids, counts))
            classes_B = None if classes is None else torch.from_numpy(classes).to(self.device)
            losses_BT = self._losses(networks[NETWORK], ids_BT, None, classes_B)
            bits += float((losses_BT * counts_BT).sum()) / math.log(2)
            counted += float(counts.sum())
        return {"val/bits_per_token": bits / counted}
