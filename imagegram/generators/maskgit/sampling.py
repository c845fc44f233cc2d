"""Sampling from a masked network: draw all masked tokens, keep the surest, again and again.

Row i depends on (seed, i) alone: its random numbers are ``seeding.uniform_rows``, the step of the
pass their fourth word.

Array names: ``B`` samples, ``T`` positions, ``V`` ids; the id ``V`` is the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.drawing import draw_ids
from imagegram.generators.maskgit.network import MaskGit
from imagegram.models.cores import map_on_cores
from imagegram.samplers.masked import MaskedSampler
from imagegram.seeding import uniform_rows


def sample_chunks(
    network: MaskGit,
    chunks: NDArray[np.uint64],
    *,
    size: int,
    sampler: MaskedSampler,
    seed: int,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Sample whole chunks; chunk c holds the samples c * size ... (c + 1) * size - 1.

    Args:
        network: in evaluation mode, on its device.
        chunks: numbers of chunks.
        size: samples of a chunk, C.
        sampler: steps, temperature, confidence.
        seed: 0 ... 2**64 - 1.

    Yields:
        By name, (C, T) arrays: ``tokens`` and their trace, see :func:`fill_in`.
    """
    device = network.positions.device

    def sample(chunk: np.uint64) -> dict[str, NDArray[Any]]:
        first = int(chunk) * size
        with torch.inference_mode():
            ids_CT, trace = fill_in(
                network,
                sampler=sampler,
                seed=seed,
                samples_B=np.arange(first, first + size, dtype=np.uint64),
                num_tokens=network.num_tokens,
                vocab_size=network.vocab_size,
                device=device,
            )
        return {name: a.cpu().numpy() for name, a in {"tokens": ids_CT, **trace}.items()}

    yield from map_on_cores(sample, list(chunks), device=device)


def fill_in(
    logits_of: Callable[[Tensor], Tensor],
    *,
    sampler: MaskedSampler,
    seed: int,
    samples_B: NDArray[np.uint64],
    num_tokens: int,
    vocab_size: int,
    device: torch.device,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sample rows of tokens.

    Args:
        logits_of: (B, T) int64 ids, V where masked, to (B, T, V) logits.
        sampler: steps, temperature, confidence.
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) sample ids.
        num_tokens: T.
        vocab_size: V.
        device: device of the logits.

    Returns:
        (B, T) int64 ids, and by name what decided each: ``probability``
        (with which the token was drawn), ``entropy`` (bits of that distribution) and ``step``
        (the pass that fixed it, from 0).
    """
    shape = (len(samples_B), num_tokens)
    ids_BT = torch.full(shape, vocab_size, dtype=torch.int64, device=device)
    trace = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in TRACED}
    remaining = num_tokens
    for step in range(sampler.steps):
        uniforms = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=num_tokens, step=step)
        choose_BT, noise_BT = (torch.from_numpy(u).to(device) for u in uniforms)
        temperature = sampler.temperature * (1 - (step + 1) / sampler.steps)
        logits_BTV = logits_of(ids_BT).double()
        drawn_BT, log_prob_BT, entropy_BT = draw(logits_BTV, temperature, choose_BT)
        masked_BT = ids_BT == vocab_size
        remaining = min(sampler.num_masked(step, num_tokens), remaining - 1)
        sure_BT = confidence(sampler, logits_BTV, drawn_BT, log_prob_BT, temperature, noise_BT)
        fixed_BT = masked_BT & ~lowest(sure_BT.masked_fill(~masked_BT, math.inf), remaining)
        ids_BT = torch.where(fixed_BT, drawn_BT, ids_BT)
        values = {"probability": log_prob_BT.exp(), "entropy": entropy_BT}
        values["step"] = torch.full_like(log_prob_BT, step)
        for name, value in values.items():
            trace[name] = torch.where(fixed_BT, value, trace[name])
        if not remaining:
            break
    return ids_BT, trace


#: Arrays that tell how each token was drawn.
TRACED = ("probability", "entropy", "step")


def draw(
    logits_BTV: Tensor, temperature: float, uniforms_BT: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw an id for every position, by the inverse of the cumulative sum.

    Args:
        logits_BTV: float64.
        temperature: divisor of the logits; 0: always the most probable id.
        uniforms_BT: in [0, 1).

    Returns:
        (B, T) ids, natural logarithms of their probabilities, and entropies in bits.
    """
    if temperature == 0.0:
        zeros_BT = torch.zeros_like(uniforms_BT)
        return logits_BTV.argmax(dim=-1), zeros_BT, zeros_BT
    log_p_BTV = (logits_BTV / temperature).log_softmax(dim=-1)
    p_BTV = log_p_BTV.exp()
    ids_BT = draw_ids(p_BTV, uniforms_BT)
    entropy_BT = -(p_BTV * log_p_BTV).sum(dim=-1) / math.log(2)
    return ids_BT, log_p_BTV.gather(-1, ids_BT[..., None])[..., 0], entropy_BT


def confidence(
    sampler: MaskedSampler,
    logits_BTV: Tensor,
    drawn_BT: Tensor,
    log_prob_BT: Tensor,
    temperature: float,
    noise_BT: Tensor,
) -> Tensor:
    """Return (B, T) confidences of the drawn tokens; ``noise_BT`` are uniforms in [0, 1)."""
    if sampler.confidence == "random":
        return noise_BT
    sure_BT = log_prob_BT
    if sampler.confidence == "logit":
        sure_BT = logits_BTV.gather(-1, drawn_BT[..., None])[..., 0]
    gumbel_BT = -torch.log(-torch.log(noise_BT))  # -inf for 0: never the surest
    return sure_BT + temperature * gumbel_BT if temperature else sure_BT


def lowest(values_BT: Tensor, count: int) -> Tensor:
    """Mark the ``count`` smallest values of every row, (B, T) bool, the first among equals."""
    ranks_BT = values_BT.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    return ranks_BT < count
