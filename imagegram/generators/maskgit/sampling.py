"""Sampling from a masked network: draw all masked tokens, keep the surest, again and again.

Row i depends on (seed, i) alone: its random numbers are ``seeding.uniform_rows``, the step of the
pass their fourth word.

Array names: ``B`` samples, ``T`` positions, ``V`` ids; the id ``V`` is the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.drawing import draw_ids, guided, probabilities
from imagegram.generators.maskgit.backbones import Backbone
from imagegram.models.cores import map_on_cores
from imagegram.samplers.masked import MaskedSampler
from imagegram.seeding import uniform_rows

#: Logits of a step for partly masked ids: the network's own, and those that tokens are drawn from.
LogitsOf = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def sample_chunks(
    network: Backbone,
    samples: Sequence[NDArray[np.uint64]],
    classes: Sequence[NDArray[np.int64]],
    *,
    sampler: MaskedSampler,
    seed: int,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Sample whole chunks, one a core at a time.

    Args:
        network: in evaluation mode, on its device.
        samples: (C,) sample ids of each chunk.
        classes: (C,) their classes.
        sampler: steps, temperature, confidence, guidance.
        seed: 0 ... 2**64 - 1.

    Yields:
        By name, (C, T) arrays: ``tokens`` and their trace, see :func:`fill_in`.
    """
    device = network.device

    def sample(chunk: tuple[NDArray[np.uint64], NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
        samples_C, classes_C = chunk
        logits_of = StepLogits(network, torch.from_numpy(classes_C).to(device), sampler)
        with torch.inference_mode():
            ids_CT, trace = fill_in(
                logits_of,
                sampler=sampler,
                seed=seed,
                samples_B=samples_C,
                num_tokens=network.num_tokens,
                vocab_size=network.vocab_size,
                device=device,
            )
        return {name: a.cpu().numpy() for name, a in {"tokens": ids_CT, **trace}.items()}

    yield from map_on_cores(sample, list(zip(samples, classes, strict=True)), device=device)


def score_rows(
    network: Backbone,
    ids_BT: Tensor,
    classes_B: Tensor,
    *,
    sampler: MaskedSampler,
    seed: int,
    samples_B: NDArray[np.uint64],
) -> dict[str, NDArray[Any]]:
    """Return the trace of given tokens, (B, T) by name, as if they had been drawn.

    Args:
        network: in evaluation mode, on its device.
        ids_BT: (B, T) int64 ids.
        classes_B: (B,) classes of the rows; unused where the network knows none.
        sampler: fills in a random order.
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) sample ids.
    """
    with torch.inference_mode():
        _, trace = fill_in(
            StepLogits(network, classes_B, sampler),
            sampler=sampler,
            seed=seed,
            samples_B=samples_B,
            num_tokens=network.num_tokens,
            vocab_size=network.vocab_size,
            device=ids_BT.device,
            known_BT=ids_BT,
        )
    return {name: array.cpu().numpy() for name, array in trace.items()}


class StepLogits:
    """Logits of a network under classes, guided or not; a :data:`LogitsOf`.

    A guided step computes its rows twice, in two halves of one batch: under their classes, and
    without. A step whose scale is 1 is one pass.

    Args:
        network: in evaluation mode, on its device.
        classes_B: (B,) classes of the rows; unused where the network knows none.
        sampler: steps and guidance, which needs a network that knows classes.
    """

    def __init__(self, network: Backbone, classes_B: Tensor, sampler: MaskedSampler) -> None:
        self.network, self.classes_B, self.guidance = network, classes_B, sampler.guidance
        self.num_steps = sampler.num_steps(network.num_tokens)

    def __call__(self, ids_BT: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return (B, T, V) logits of the rows under their classes, and the guided ones."""
        scale = self.guidance.at(step, self.num_steps)
        if scale == 1.0:
            own_BTV = self.network(ids_BT, self.classes_B)
            return own_BTV, own_BTV
        none_B = torch.full_like(self.classes_B, self.network.num_classes)
        twice_BT, classes_B = torch.cat([ids_BT, ids_BT]), torch.cat([self.classes_B, none_B])
        logits_BTV = self.network(twice_BT, classes_B)
        return logits_BTV[: len(ids_BT)], guided(logits_BTV, scale)


def fill_in(
    logits_of: LogitsOf,
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
        logits_of: (B, T) int64 ids, V where masked, and the step from 0, to (B, T, V) logits: the
            network's own, and those that tokens are drawn from.
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
        of the probability that the network gives the token, unguided, temperature 1 and nothing
        cut away.
    """
    shape = (len(samples_B), num_tokens)
    ids_BT = torch.full(shape, vocab_size, dtype=torch.int64, device=device)
    trace: dict[str, Tensor] = {}
    remaining = num_tokens
    for step in range(sampler.num_steps(num_tokens)):
        uniforms = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=num_tokens, step=step)
        choose_BT, noise_BT = (torch.from_numpy(u).to(device) for u in uniforms)
        temperature = sampler.noise(step, num_tokens)
        own_BTV, logits_BTV = logits_of(ids_BT, step)
        logits_BTV = logits_BTV.double() / sampler.divisor(step, num_tokens)
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
            value_BT = at(own_BTV.double().log_softmax(dim=-1), drawn_BT)
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
