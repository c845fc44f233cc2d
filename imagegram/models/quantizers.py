"""Finite scalar quantization: a code is a few numbers, each rounded to a few levels.

After Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). Every
number is bounded by a tanh and rounded, and gradients pass as if it was not. There is no codebook
to learn: an id is its digits, one a number, the least significant first.

Array names: ``...`` any leading axes, ``D`` digits of an id.

>>> quantizer = FiniteScalarQuantizer((8, 5, 5))
>>> quantizer.codes(torch.tensor([0, 7, 8, 199])).tolist()[1:3]
[[0.75, -1.0, -1.0], [-1.0, -0.5, -1.0]]
>>> quantizer.ids(quantizer.codes(torch.arange(200))).equal(torch.arange(200))
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from imagegram.models.codebooks import Quantized

#: The bound reaches a little over the outermost levels, so that rounding reaches them too.
_MARGIN: Final = 1e-3


class FiniteScalarQuantizer(nn.Module):
    """Quantizer of D numbers to a code in [-1, 1] and to one id, and back.

    A digit of L levels is -(L // 2) ... (L - 1) // 2; divided by L // 2 it is the code.

    Args:
        levels: of every digit, at least 2; the first is the least significant.
    """

    reach: Tensor
    offset: Tensor
    shift: Tensor
    centre: Tensor
    basis: Tensor
    levels: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        reach = [(count - 1) * (1 + _MARGIN) / 2 for count in levels]
        # An even number of levels has no middle level: the bound is moved half a step down, and
        # shifted so that zero stays zero.
        offset = [0.5 if count % 2 == 0 else 0.0 for count in levels]
        shift = [math.atanh(o / h) for o, h in zip(offset, reach, strict=True)]
        basis = [math.prod(levels[:digit]) for digit in range(len(levels))]

        def keep(name: str, values: Sequence[float], dtype: torch.dtype) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

        keep("reach", reach, torch.float32)
        keep("offset", offset, torch.float32)
        keep("shift", shift, torch.float32)
        keep("centre", [count // 2 for count in levels], torch.int64)
        keep("basis", basis, torch.int64)
        keep("levels", list(levels), torch.int64)

    def forward(self, z: Tensor) -> Tensor:
        """Round (..., D) numbers to float32 codes in [-1, 1]; gradients pass straight through.

        Computed in float32 even under autocast, so that codes are exact.
        """
        bounded = torch.tanh(z.float() + self.shift) * self.reach - self.offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / self.centre

    def quantize(self, z: Tensor) -> Quantized:
        """Round (..., D) numbers; they are compared with nothing, so nothing pulls on them."""
        codes = self(z)
        return Quantized(codes, self.ids(codes), codes, codes)

    def ids(self, codes: Tensor) -> Tensor:
        """Return the (...) int64 ids of (..., D) codes."""
        digits = (codes * self.centre).round().long() + self.centre
        return (digits * self.basis).sum(dim=-1)

    def codes(self, ids: Tensor) -> Tensor:
        """Return the (..., D) float32 codes of (...) ids, 0 ... product of the levels - 1.

        Callers must refuse other ids: here they would wrap.
        """
        digits = ids.long()[..., None] // self.basis % self.levels
        return (digits - self.centre).float() / self.centre
