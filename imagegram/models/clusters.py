"""Clusters: how the codes of a codebook follow the vectors that chose them, and come back to life.

What a step needs is collected during the step, and the codes move after it: by the vectors of the
whole batch, in whatever pieces it came and on whatever devices.

* ``ema``: a code is the moving average of its vectors (van den Oord et al., arXiv 1711.00937,
  appendix A.1).
* ``gradient``: the optimizer moves the codes; here only their usage is counted.
* ``clustering``: besides, a code that is hardly used moves towards the nearest vector of the batch
  (Zheng and Vedaldi, "Online Clustered Codebook", arXiv 2307.15139).

A code whose usage is below ``revive_below`` is dead: it becomes a vector of the batch, drawn by the
step's own generator. Usage is relative: one where all codes are used alike. It begins with zero, so
fresh codes are dead, and the first batches become the first codes.

Array names: ``B`` items, ``P`` vectors of an item, ``V`` codes, ``D`` numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from imagegram.models.codebooks import Codebook, squared_distances

LEARNED: Final = ("ema", "gradient", "clustering")
#: How fast the pull of the clustering grows as usage falls, as published.
_STEEPNESS: Final = 10.0
_SOFTNESS: Final = 1e-3


def _same(tensor: Tensor) -> Tensor:
    return tensor[None]


@dataclass(frozen=True)
class Devices:
    """The devices that share a batch; row i of it is row i // count of device i % count.

    Attributes:
        rank: which of them this is.
        count: how many there are.
        gather: stacks a tensor of every device, (count, ...), by rank.
    """

    rank: int = 0
    count: int = 1
    gather: Callable[[Tensor], Tensor] = _same


class Clusters(nn.Module):
    """The running usage of a codebook; its buffers belong to the state of a training.

    Args:
        vocab_size: number of codes, V.
        dim: numbers of a code, D.
        learned: one of :data:`LEARNED`.
        decay: of the moving averages.
        revive_below: usage below which a code is dead; 0: codes stay dead.
    """

    usage: Tensor
    sums: Tensor

    def __init__(
        self, *, vocab_size: int, dim: int, learned: str, decay: float, revive_below: float
    ) -> None:
        super().__init__()
        self.learned, self.decay, self.revive_below = learned, decay, revive_below
        self.register_buffer("usage", torch.zeros(vocab_size))
        self.register_buffer("sums", torch.zeros(vocab_size, dim if learned == "ema" else 0))
        self._pieces: list[tuple[Tensor, Tensor]] = []

    def collect(self, inputs_BPD: Tensor, ids_BP: Tensor) -> None:
        """Remember a piece of the batch, and which codes its vectors chose."""
        self._pieces.append((inputs_BPD.detach(), ids_BP.detach()))

    @torch.no_grad()
    def move(
        self, codebook: Codebook, rng: np.random.Generator, devices: Devices | None = None
    ) -> None:
        """Move the codes after a step, by what was collected in it.

        Args:
            codebook: changed in place.
            rng: generator of this step; the same on all devices.
            devices: those that share the batch; None: there is one.
        """
        devices = devices or Devices()
        pieces = [inputs_BPD for inputs_BPD, _ in self._pieces]
        counts_V, sums_VD = self._totals(devices)
        self._pieces.clear()
        relative = len(counts_V) / counts_V.sum()
        self.usage.lerp_(counts_V * relative, 1 - self.decay)
        if self.learned == "ema":
            self.sums.lerp_(sums_VD * relative, 1 - self.decay)
            used = self.usage > torch.finfo(self.usage.dtype).tiny
            codebook.vectors[used] = self.sums[used] / self.usage[used, None]
        if self.learned == "clustering":
            self._attract(codebook, pieces, devices)
        dead = (self.usage < self.revive_below).nonzero().flatten()
        if len(dead):
            self._revive(codebook, dead, pieces, rng, devices)

    def _totals(self, devices: Devices) -> tuple[Tensor, Tensor]:
        """Return (V,) counts and (V, D) sums of the vectors of every code, over all devices."""
        totals = torch.cat((torch.zeros_like(self.usage)[:, None], torch.zeros_like(self.sums)), 1)
        for inputs_BPD, ids_BP in self._pieces:
            vectors_ND = inputs_BPD.flatten(0, 1)
            rows = torch.cat(
                (torch.ones_like(vectors_ND[:, :1]), vectors_ND[:, : self.sums.shape[1]]), 1
            )
            totals.index_add_(0, ids_BP.flatten(), rows)
        totals = devices.gather(totals).sum(dim=0)
        return totals[:, 0], totals[:, 1:]

    def _revive(
        self,
        codebook: Codebook,
        dead: Tensor,
        pieces: list[Tensor],
        rng: np.random.Generator,
        devices: Devices,
    ) -> None:
        """Replace dead codes by different vectors of the batch, as many as it has."""
        count, (rows, per_row) = devices.count * len(pieces), pieces[0].shape[:2]
        chosen = rng.permutation(rows * count * per_row)[: len(dead)]
        dead = dead[: len(chosen)]
        row, place = np.divmod(chosen, per_row)
        row, share = np.divmod(row, count)
        piece, rank = np.divmod(share, devices.count)
        mine = rank == devices.rank
        here = torch.zeros(len(dead), codebook.vectors.shape[1], device=dead.device)
        here[mine] = torch.stack(pieces)[piece[mine], row[mine], place[mine]]
        vectors = devices.gather(here)[rank, np.arange(len(rank))]
        codebook.vectors[dead] = vectors
        self.usage[dead] = 1.0
        if self.learned == "ema":
            self.sums[dead] = vectors

    def _attract(self, codebook: Codebook, pieces: list[Tensor], devices: Devices) -> None:
        """Move every code towards the nearest vector of the batch, the less it is used the more."""
        vectors_ND = torch.cat([piece.flatten(0, 1) for piece in pieces])
        codes_VD = codebook.codes(torch.arange(len(self.usage), device=self.usage.device))
        apart_NV = squared_distances(vectors_ND, codes_VD) + vectors_ND.square().sum(1)[:, None]
        least_V, row_V = apart_NV.min(dim=0)
        found = devices.gather(torch.cat((least_V[:, None], vectors_ND[row_V]), dim=1))
        nearest_V = found[..., 0].argmin(dim=0)
        anchors_VD = found[nearest_V, torch.arange(len(nearest_V)), 1:]
        pull_V = torch.exp(-self.usage * _STEEPNESS / (1 - self.decay) - _SOFTNESS)
        codebook.vectors.lerp_(anchors_VD, pull_V[:, None])
