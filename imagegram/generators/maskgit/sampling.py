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

from imagegram.generators.drawing import draw_ids, probabilities
from imagegram.generators.maskgit.backbones import Backbone
from imagegram.models.cores import map_on_cores
from imagegram.samplers.masked import MaskedSampler
from imagegram.seeding import uniform_rows


def sample_chunks(
    network: Backbone,
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
    device = network.ids.device

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


def score_rows(
    network: Backbone,
    ids_BT: Tensor,
    *,
    sampler: MaskedSampler,
    seed: int,
    samples_B: NDArray[np.uint64],
) -> dict[str, NDArray[Any]]:
    """Return the trace of given tokens, (B, T) by name, as if they had been drawn.

    Args:
        network: in evaluation mode, on its device.
        ids_BT: (B, T) int64 ids.
        sampler: fills in a random order.
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) sample ids.
    """
    with torch.inference_mode():
        _, trace = fill_in(
            network,
            sampler=sampler,
            seed=seed,
            samples_B=samples_B,
            num_tokens=network.num_tokens,
            vocab_size=network.vocab_size,
            device=ids_BT.device,
            known_BT=ids_BT,
        )
    return {name: array.cpu().numpy() for name, array in trace.items()}


def fill_in(
    logits_of: Callable[[Tensor], Tensor],
    *,
    sampler: MaskedSampler,
    seed: int,
    samples_B: NDArray[np.uint64],
    num_tokens: int,
    vocab_size: int,
    device: torch.device,
    known_BT: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Sample rows of tokens, or go through given ones in the order of the sampler.

    Args:
        logits_of: (B, T) int64 ids, V where masked, to (B, T, V) logits.
        sampler: steps, temperature, confidence.
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) sample ids.
        num_tokens: T.
        vocab_size: V.
        device: device of the logits.
        known_BT: (B, T) int64 ids that take the place of drawn ones.

    Returns:
        (B, T) int64 ids, and by name what decided each: ``probability``
        (with which the token was drawn), ``entropy`` (bits of that distribution) and ``step``
        (the pass that fixed it, from 0); in random order also ``log_prob``, the natural logarithm
        of the probability that the network gives the token, temperature 1 and nothing cut away.
    """
    shape = (len(samples_B), num_tokens)
    ids_BT = torch.full(shape, vocab_size, dtype=torch.int64, device=device)
    trace: dict[str, Tensor] = {}
    remaining = num_tokens
    for step in range(sampler.num_steps(num_tokens)):
        uniforms = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=num_tokens, step=step)
        choose_BT, noise_BT = (torch.from_numpy(u).to(device) for u in uniforms)
        temperature = sampler.noise(step, num_tokens)
        own_BTV = logits_of(ids_BT).double()
        logits_BTV = own_BTV / sampler.divisor(step, num_tokens)
        p_BTV = probabilities(logits_BTV, temperature, sampler)
        drawn_BT = draw_ids(p_BTV, choose_BT) if known_BT is None else known_BT
        masked_BT = ids_BT == vocab_size
        remaining = min(sampler.num_masked(step, num_tokens), remaining - 1)
        sure_BT = confidence(sampler, logits_BTV, drawn_BT, temperature, noise_BT)
        fixed_BT = masked_BT & ~lowest(sure_BT.masked_fill(~masked_BT, math.inf), remaining)
        ids_BT = torch.where(fixed_BT, drawn_BT, ids_BT)
        for name, value_BT in told(p_BTV, drawn_BT, step).items():
            trace[name] = torch.where(fixed_BT, value_BT, trace.get(name, value_BT))
        if sampler.in_random_order:
            value_BT = at(own_BTV.log_softmax(dim=-1), drawn_BT)
            trace["log_prob"] = torch.where(fixed_BT, value_BT, trace.get("log_prob", value_BT))
        if not remaining:
            break
    return ids_BT, trace


def told(p_BTV: Tensor, drawn_BT: Tensor, step: int) -> dict[str, Tensor]:
    """Return what is recorded of tokens that are drawn from some distributions, by name."""
    probability_BT = at(p_BTV, drawn_BT)
    return {
        "probability": probability_BT,
        "entropy": torch.special.entr(p_BTV).sum(dim=-1) / math.log(2),
        "step": torch.full_like(probability_BT, step),
    }


def confidence(
    sampler: MaskedSampler,
    logits_BTV: Tensor,
    drawn_BT: Tensor,
    temperature: float,
    noise_BT: Tensor,
) -> Tensor:
    """Return (B, T) confidences of the drawn tokens; ``noise_BT`` are uniforms in [0, 1)."""
    if sampler.in_random_order:
        return noise_BT
    if sampler.confidence == "log_prob":
        logits_BTV = logits_BTV.log_softmax(dim=-1)
    sure_BT = at(logits_BTV, drawn_BT)
    gumbel_BT = -torch.log(-torch.log(noise_BT))  # -inf for 0: never the surest
    return sure_BT + temperature * gumbel_BT if temperature else sure_BT


def at(values_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    """Return the (B, T) values of some ids."""
    return values_BTV.gather(-1, ids_BT[..., None])[..., 0]


def lowest(values_BT: Tensor, count: int) -> Tensor:
    """Mark the ``count`` smallest values of every row, (B, T) bool, the first among equals."""
    ranks_BT = values_BT.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    return ranks_BT < count
