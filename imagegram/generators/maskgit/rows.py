"""What a masked network is given of rows before the first pass: lengths, prompts, the rest masked.

Array names: ``B`` samples, ``T`` positions; the id ``V`` is the mask, and in finished rows what
stands behind the end of a document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.maskgit.ragged import at_least, draw_lengths
from imagegram.generators.stepping import Prompts
from imagegram.seeding import uniform_rows

#: Pass whose uniforms draw lengths; no sampler has so many.
_LENGTHS: Final = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows before the first pass.

    Attributes:
        ids: (B, T) int64 ids, the mask where a token is filled in.
        is_given: (B, T) bool, tokens of prompts.
        there: (B, T) bool, tokens of the documents; None: all are.
        log_length: (B,) float64 natural logarithm of the probability of each length; None: there is
            but one.
    """

    ids: Tensor
    is_given: Tensor
    there: Tensor | None = None
    log_length: Tensor | None = None

    def told(
        self, ids_BT: Tensor, trace: dict[str, Tensor], *, vocab_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return filled rows, V behind their end, and their trace.

        Prompts have the probability 1. An end has that of the length; of a row without one it is a
        factor of the last token's, so that the sum of ``log_prob`` bounds the whole.
        """
        trace["probability"].masked_fill_(self.is_given, 1.0)
        if self.there is None or self.log_length is None:
            return ids_BT, trace
        last = ids_BT.shape[1] - 1
        sizes_B = self.there.sum(dim=1)
        numbers_B = torch.arange(len(ids_BT), device=ids_BT.device)
        ends_B = sizes_B <= last
        probability_B = self.log_length.exp()
        trace["probability"][numbers_B[ends_B], sizes_B[ends_B]] = probability_B[ends_B]
        if "log_prob" in trace:
            trace["log_prob"][numbers_B, sizes_B.clamp(max=last)] += self.log_length
        return ids_BT.masked_fill(~self.there, vocab_size), trace


def rows_to_fill(
    network: Any, samples_B: NDArray[np.uint64], *, seed: int, prompts: Prompts | None
) -> Rows:
    """Return what samples begin with.

    Args:
        network: a masked network.
        samples_B: (B,) sample ids.
        seed: 0 ... 2**64 - 1.
        prompts: (B, T) ids that rows begin with, and (B,) how many of them; None: none do.
    """
    device, mask, num_tokens = network.device, network.vocab_size, network.num_tokens
    shape, positions_T = (len(samples_B), num_tokens), torch.arange(num_tokens, device=device)
    ids_BT = torch.full(shape, mask, dtype=torch.int64, device=device)
    is_given_BT = torch.zeros(shape, dtype=torch.bool, device=device)
    until_B = torch.zeros(len(samples_B), dtype=torch.int64, device=device)
    if prompts is not None:
        until_B = torch.from_numpy(prompts[1]).to(device)
        given_BT = torch.from_numpy(prompts[0].astype(np.int64)).to(device)
        is_given_BT = positions_T < until_B[:, None]
        ids_BT = torch.where(is_given_BT, given_BT, ids_BT)
    if not network.ragged:
        return Rows(ids=ids_BT, is_given=is_given_BT)
    # A document goes on behind a prompt, where there is room.
    least_B = torch.where(until_B > 0, until_B + 1, until_B).clamp(max=num_tokens)
    (first, _) = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=1, step=_LENGTHS)
    uniforms_B = torch.from_numpy(first[:, 0]).to(device)
    sizes_B = draw_lengths(network.lengths, uniforms_B, least_B)
    there_BT = positions_T < sizes_B[:, None]
    return Rows(
        ids=ids_BT.masked_fill(~there_BT, 0),
        is_given=is_given_BT,
        there=there_BT,
        log_length=_log_length(network.lengths, sizes_B, least_B),
    )


def rows_to_score(network: Any, ids_BT: Tensor) -> Rows:
    """Return (B, T) given tokens, V behind the end of a document, before the first pass."""
    is_given_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
    all_BT = torch.full_like(ids_BT, network.vocab_size)
    if not network.ragged:
        return Rows(ids=all_BT, is_given=is_given_BT)
    there_BT = ids_BT != network.vocab_size
    sizes_B = there_BT.sum(dim=1)
    return Rows(
        ids=all_BT.masked_fill(~there_BT, 0),
        is_given=is_given_BT,
        there=there_BT,
        log_length=_log_length(network.lengths, sizes_B, torch.zeros_like(sizes_B)),
    )


def _log_length(lengths: Tensor, sizes_B: Tensor, least_B: Tensor) -> Tensor:
    return at_least(lengths, least_B).gather(1, sizes_B[:, None])[:, 0].log()
