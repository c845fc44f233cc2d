"""How masked networks are trained and validated; Lightning's side of ``objective.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
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


@dataclass(frozen=True, kw_only=True, eq=False)
class LookedAt:
    """Items to validate on.

    Attributes:
        ids: (B, T) int64 ids.
        masked: (B, T) bool, which are masked.
        there: (B, T) bool, which are tokens of documents; None: all are.
        sizes: (B,) number of these.
        found: the items as they were gathered.
    """

    ids: Tensor
    masked: Tensor
    there: Tensor | None
    sizes: NDArray[np.int64]
    found: NDArray[Any]

    @property
    def num_tokens(self) -> float:
        """Number of tokens of all documents."""
        return float(self.sizes.sum())

    def seen(self, mask_id: int) -> Tensor:
        """Return the (B, T) ids with the mask in the place of some."""
        return self.ids.masked_fill(self.masked, mask_id)

    def bits(self, logits_BTV: Tensor) -> float:
        """Return the bits of all tokens, at the mean of the masked ones of each document."""
        losses_BT = F.cross_entropy(logits_BTV.float().transpose(1, 2), self.ids, reduction="none")
        means_B = (losses_BT * self.masked).sum(dim=1) / self.masked.sum(dim=1)
        lengths_B = torch.from_numpy(self.sizes).to(means_B)
        return float((means_B * lengths_B).sum()) / math.log(2)


class MaskedPredictionModule(TrainingModule):
    """One bidirectional transformer and the cross entropy of its masked tokens."""

    validation_loss = "val/bits_per_token"
    counted = ("lengths",)

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
        ids_BT, masked_BT, weights_BT, *beside = batch
        seen_BT = ids_BT.masked_fill(masked_BT, self._mask_id)
        logits_BTV = self.predicted(self.networks[NETWORK], seen_BT, *beside)
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
        for looked in self.looked_at(items):
            _, classes = split_classes(looked.found, self.objective.architecture.num_classes)
            beside = [] if looked.there is None else [looked.there]
            beside += [] if classes is None else [torch.from_numpy(classes).to(self.device)]
            bits += looked.bits(self.predicted(network, looked.seen(self._mask_id), *beside))
            num_tokens += looked.num_tokens
        return {"val/bits_per_token": bits / num_tokens}

    def predicted(self, network: nn.Module, seen_BT: Tensor, *beside: Tensor) -> Tensor:
        """Return (B, T, V) logits for partly masked ids.

        Args:
            network: the transformer.
            seen_BT: (B, T) ids, V where masked.
            beside: which ids are tokens, where documents differ in length; classes, where it
                learns some.
        """
        others = list(beside)
        classes_B = others.pop() if self.objective.architecture.num_classes else None
        there_BT = others.pop() if others else None
        logits: Tensor = network(seen_BT, classes_B, there_BT)
        return logits

    def rows(self, found: NDArray[Any]) -> NDArray[Any]:
        """Return the (B, T) ids of gathered items."""
        return split_classes(found, self.objective.architecture.num_classes)[0]

    def looked_at(self, items: Items) -> Iterator[LookedAt]:
        """Yield items to validate on, some at a time, with some of their tokens masked."""
        num_rows = min(NUM_VALIDATION, len(items))
        rows = np.arange(num_rows) * len(items) // num_rows
        for first in range(0, num_rows, _CHUNK):
            found = items.gather(rows[first : first + _CHUNK])
            ids, there = self.objective.tokens(self.rows(found))
            rng = generator(seed=0, purpose=BATCH, number=first)  # the same masks every time
            sizes_B = np.full(len(ids), ids.shape[1]) if there is None else there.sum(axis=1)
            counts_B = rng.integers(1, sizes_B + 1)
            masks = random_masks(counts_B, ids.shape[1], rng, there)
            ids_BT, masked_BT = (torch.from_numpy(a).to(self.device) for a in (ids, masks))
            there_BT = None if there is None else torch.from_numpy(there).to(self.device)
            yield LookedAt(ids=ids_BT, masked=masked_BT, there=there_BT, sizes=sizes_B, found=found)

    @property
    def _mask_id(self) -> int:
        return int(self.objective.architecture.vocab_size)
