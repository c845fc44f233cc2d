"""A learned codebook: a vector becomes the id of the nearest code, and is replaced by that code.

After van den Oord et al., "Neural Discrete Representation Learning" (arXiv 1711.00937). Gradients
pass the replacement as if it was not there; what moves the codes is in ``clusters.py``. Distances
are computed in float32, even under autocast.

Array names: ``...`` any leading axes, ``V`` codes, ``D`` numbers of a code.

>>> codebook = Codebook(vocab_size=2, dim=1)
>>> _ = codebook.vectors.data.copy_(torch.tensor([[-1.0], [1.0]]))
>>> found = codebook.quantize(torch.tensor([[0.2], [-3.0]]))
>>> found.ids.tolist(), found.codes.tolist()
([1, 0], [[1.0], [-1.0]])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Quantized:
    """Vectors and the codes that replace them.

    Attributes:
        codes: (..., D) codes; their gradient goes to ``inputs``.
        ids: (...) int64.
        inputs: (..., D) float32 vectors as they were compared with the codes.
        chosen: (..., D) the same codes; their gradient goes to the codebook.
    """

    codes: Tensor
    ids: Tensor
    inputs: Tensor
    chosen: Tensor

    def commitment(self) -> Tensor:
        """Return the mean squared distance to the codes, which pulls on the vectors."""
        return F.mse_loss(self.inputs, self.chosen.detach())

    def attraction(self) -> Tensor:
        """Return the mean squared distance to the codes, which pulls on the codes."""
        return F.mse_loss(self.chosen, self.inputs.detach())


class Codebook(nn.Module):
    """V codes of D numbers.

    Args:
        vocab_size: number of codes, V.
        dim: numbers of a code, D.
        normalized: scale vectors and codes to length one: only directions count.
    """

    def __init__(self, *, vocab_size: int, dim: int, normalized: bool = False) -> None:
        super().__init__()
        self.normalized = normalized
        self.vectors = nn.Parameter(torch.randn(vocab_size, dim))

    def quantize(self, z: Tensor) -> Quantized:
        """Replace (..., D) vectors by the nearest codes."""
        with torch.autocast(z.device.type, enabled=False):
            inputs, codes_VD = self._scaled(z.float()), self._scaled(self.vectors)
            ids = nearest(inputs.detach().flatten(0, -2), codes_VD.detach()).view(z.shape[:-1])
            chosen = F.embedding(ids, codes_VD)
            return Quantized(inputs + (chosen - inputs).detach(), ids, inputs, chosen)

    def codes(self, ids: Tensor) -> Tensor:
        """Return the (..., D) float32 codes of (...) ids, 0 ... V - 1."""
        return F.embedding(ids.long(), self._scaled(self.vectors))

    def _scaled(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=-1) if self.normalized else z


def squared_distances(vectors_ND: Tensor, codes_VD: Tensor) -> Tensor:
    """Return (N, V) squared distances, without the part that is the same for all codes."""
    return codes_VD.square().sum(dim=1) - 2 * vectors_ND @ codes_VD.T


def nearest(vectors_ND: Tensor, codes_VD: Tensor) -> Tensor:
    """Return the (N,) int64 ids of the nearest codes, the smallest id among equals."""
    return squared_distances(vectors_ND, codes_VD).argmin(dim=1)
