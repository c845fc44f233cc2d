"""What a planner says of given tokens, all steps at once.

Array names: ``B`` rows, ``T`` tokens, ``S`` steps, ``K`` stages, ``V`` codes of a stage.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.planner.sizes import SCORES

if TYPE_CHECKING:
    from imagegram.generators.planner.network import Planner

#: Logits that are made at a time.
_MAX_LOGITS: Final = 1 << 22


def score_rows(
    network: Planner, ids_BT: Tensor, classes_B: Tensor | None = None
) -> dict[str, NDArray[Any]]:
    """Return what the network says of given tokens.

    Args:
        network: in evaluation mode, on its device.
        ids_BT: (B, T) int64 ids.
        classes_B: (B,) classes of the rows; unused where the network knows none.

    Returns:
        By name, (B, T): ``log_prob`` float32, natural logarithm of the probability of a token after
        those before it, with temperature 1 and nothing cut away, -inf where it is no code of its
        stage; ``entropy`` float32 of that distribution in bits; ``is_likeliest`` uint8, 1 where no
        other token is likelier.
    """
    with torch.inference_mode():
        codes_BSK = network.codes_of(ids_BT)
        contexts_BSW = network.contexts(codes_BSK, classes_B)
        rows, _, stages = codes_BSK.shape
        size = max(_MAX_LOGITS // (rows * stages * (network.codebook_size + 1)), 1)
        parts: list[tuple[Tensor, ...]] = []
        for first in range(0, codes_BSK.shape[1], size):
            some = slice(first, first + size)
            logits_BSKV = network.logits(contexts_BSW[:, some], codes_BSK[:, some])
            is_end_BSK = ids_BT.view_as(codes_BSK)[:, some] == network.vocab_size - 1
            parts.append(_scored(logits_BSKV, codes_BSK[:, some], network, is_end_BSK))
        found = [torch.cat(arrays, dim=1).flatten(1) for arrays in zip(*parts, strict=True)]
    return {
        name: array_BT.cpu().numpy().astype(dtype)
        for (name, dtype), array_BT in zip(SCORES.items(), found, strict=True)
    }


def _scored(
    logits_BSKV: Tensor, codes_BSK: Tensor, network: Planner, is_end_BSK: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, S, K) log-probability, entropy in bits, and whether nothing is likelier."""
    log_p = logits_BSKV.double().log_softmax(dim=-1)
    own_BSK = log_p.gather(-1, codes_BSK[..., None])[..., 0]
    is_possible = codes_BSK < network.codebook_size
    if network.to_end is not None:
        is_possible[..., 0] |= is_end_BSK[..., 0]
    own_BSK = own_BSK.masked_fill(~is_possible, -math.inf)
    p = log_p.exp()
    bits_BSK = -(p * log_p).sum(dim=-1) / math.log(2)
    return own_BSK, bits_BSK, own_BSK >= log_p.amax(dim=-1)
