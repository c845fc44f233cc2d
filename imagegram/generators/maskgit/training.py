"""How masked networks are trained and validated; Lightning's side of ``objective.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.maskgit.backbones import make_fresh
from imagegram.generators.maskgit.masks import random_masks
from imagegram.generators.maskgit.ragged import count_lengths
from imagegram.generators.maskgit.sizes import is_ragged
from imagegram.training.draws import BATCH, generator
from imagegram.training.module import TrainingModule
from imagegram.training.objective import Items
from imagegram.training.tokens import split_classes

#: Name of the network in states and files.
NETWORK: Final = "maskgit"
#: Documents that validation looks at, and how many at a time.
NUM_VALIDATION: Final = 512
_CHUNK: Final = 64


class MaskedPredictionModule(TrainingModule):
    """One bidirectional transformer and the cross entropy of its masked tokens."""

    validation_loss = "val/bits_per_token"

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the transformer with fresh weights, and the lengths of documents that differ."""
        architecture = self.objective.architecture
        backbone, seed = self.objective.backbone, self.optimization.seed
        network = make_fresh(backbone, seed=seed, **architecture.arguments())
        if is_ragged(architecture):
            found = count_lengths(self.course.items, architecture.num_tokens)
            network.get_buffer("lengths").copy_(found)
        return {NETWORK: network}

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the cross entropy in nats, the weighted mean over tokens."""
        ids_BT, masked_BT, weights_BT, *others = batch
        classes_B = others.pop() if self.objective.architecture.num_classes else None
        there_BT = others.pop() if others else None
        seen_BT = ids_BT.masked_fill(masked_BT, self._mask_id)
        logits_BTV = self.networks[NETWORK](seen_BT, classes_B, there_BT)
        losses_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2),
            ids_BT,
            reduction="none",
            label_smoothing=self.objective.label_smoothing,
        )
        loss = (losses_BT * weights_BT).mean()
        self.log("train/loss", loss)
        return loss

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return ``val/bits_per_token``: an upper bound, the mean over orders of the tokens.

        With k of T tokens masked, k uniform in 1 ... T, the mean over the masked ones is the cost
        of a token in random order (Hoogeboom et al. 2021, arXiv 2110.02037), under the documents'
        own labels; of documents that differ in length, given how long they are.
        """
        network, bits, num_tokens = networks[NETWORK], 0.0, 0.0
        num_rows = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_rows) * len(items) // num_rows
        for first in range(0, num_rows, _CHUNK):
            found = items.gather(rows[first : first + _CHUNK])
            tokens, classes = split_classes(found, self.objective.architecture.num_classes)
            ids, there = self.objective.tokens(tokens)
            classes_B = None if classes is None else torch.from_numpy(classes).to(self.device)
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same masks every time
            sizes_B = np.full(len(ids), ids.shape[1]) if there is None else there.sum(axis=1)
            counts_B = rng.integers(1, sizes_B + 1)
            masks = random_masks(counts_B, ids.shape[1], rng, there)
            ids_BT, masked_BT = (torch.from_numpy(a).to(self.device) for a in (ids, masks))
            there_BT = None if there is None else torch.from_numpy(there).to(self.device)
            seen_BT = ids_BT.masked_fill(masked_BT, self._mask_id)
            logits_BTV = network(seen_BT, classes_B, there_BT)
            losses_BT = F.cross_entropy(
                logits_BTV.float().transpose(1, 2), ids_BT, reduction="none"
            )
            means_B = (losses_BT * masked_BT).sum(dim=1) / masked_BT.sum(dim=1)
            lengths_B = torch.from_numpy(sizes_B).to(means_B)
            bits += float((means_B * lengths_B).sum()) / math.log(2)
            num_tokens += float(sizes_B.sum())
        return {"val/bits_per_token": bits / num_tokens}

    @property
    def _mask_id(self) -> int:
        return int(self.objective.architecture.vocab_size)
