"""Training and validation of a planner; the torch side of ``objective.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.learned import as_ids, counted
from imagegram.generators.planner.network import Planner
from imagegram.models.transformer import build
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items
from imagegram.training.tokens import split_classes

#: Name of the network in states and files.
NETWORK: Final = "planner"
#: Rows that validation looks at, and how many at a time.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 32


class PlannerModule(TrainingModule):
    """One planner and the cross entropy of its next codes."""

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the network with fresh weights, and the vectors of its codes."""
        sizes, vectors = self.objective.architecture, self.objective.vectors
        network: Any = build(Planner, seed=self.optimization.seed, **sizes.arguments())
        if vectors is not None:
            network.vectors.copy_(torch.from_numpy(vectors))
        return {NETWORK: network}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the cross entropy in nats, the mean over tokens."""
        ids_BT, weights_BT, *others = batch
        losses_BT = self._losses(self.networks[NETWORK], ids_BT, others[0] if others else None)
        loss = (losses_BT * weights_BT).mean()
        self.log("train/loss", loss)
        return loss

    def _losses(self, network: nn.Module, ids_BT: Tensor, classes_B: Tensor | None) -> Tensor:
        """Return (B, T) losses in nats."""
        logits_BSKV = network(ids_BT, classes_B)
        codes_BSK = network.codes_of(ids_BT)  # type: ignore[operator]
        losses_N = F.cross_entropy(
            logits_BSKV.float().flatten(0, 2), codes_BSK.flatten(), reduction="none"
        )
        # Padding behind an end is no code of a stage: its loss is huge, and has no weight.
        return losses_N.view_as(ids_BT)

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/bits_per_token``, under the documents' own labels."""
        num_rows = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_rows) * len(items) // num_rows
        sizes, bits, tokens = self.objective.architecture, 0.0, 0.0
        for first in range(0, num_rows, _CHUNK):
            found = items.gather(rows[first : first + _CHUNK])
            tokens_BT, classes = split_classes(found, sizes.num_classes)
            counts_BT = torch.from_numpy(counted(tokens_BT)).to(self.device)
            ids_BT = torch.from_numpy(as_ids(tokens_BT, sizes)).to(self.device)
            classes_B = None if classes is None else torch.from_numpy(classes).to(self.device)
            losses_BT = self._losses(networks[NETWORK], ids_BT, classes_B)
            bits += float((losses_BT * counts_BT).sum()) / math.log(2)
            tokens += float(counts_BT.sum())
        return {"val/bits_per_token": bits / tokens}
