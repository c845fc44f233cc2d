"""Sampling of latents in random order, each along a flow, and pictures of them.

Row i depends on (seed, i) and its caption alone: order and noise are ``seeding.uniform_rows``.
Array names are those of ``network.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.latent_flow.sampling import normal_rows
from imagegram.generators.maskgen_kl.autoencoder import ImageKl
from imagegram.generators.maskgen_kl.network import MaskedLatents
from imagegram.models.cores import map_on_cores
from imagegram.models.pictures import to_bytes
from imagegram.records import Images
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.seeding import uniform_rows
from imagegram.stages.captions import TextStates

#: Pass whose uniforms decide the order; noise is of pass 0.
_ORDER: Final = 1


def paint_chunks(
    networks: tuple[ImageKl, MaskedLatents],
    samples: Sequence[NDArray[np.uint64]],
    texts: Sequence[tuple[TextStates, TextStates]],
    *,
    sampler: MaskedFlowSampler,
    seed: int,
    dtype: str,
) -> Iterator[Images]:
    """Paint whole chunks, one a core at a time.

    Args:
        networks: autoencoder and network of latents, in evaluation mode, on one device.
        samples: (C,) sample ids of each chunk.
        texts: their captions, as the network of latents reads them, and as the autoencoder does.
        sampler: steps, guidance.
        seed: 0 ... 2**64 - 1.
        dtype: numbers that the networks compute with.

    Yields:
        (C, S, S, 3) uint8 images.
    """
    autoencoder, network = networks
    device = network.device

    def given(text: TextStates) -> tuple[Tensor, Tensor]:
        states, there = (torch.from_numpy(each).to(device) for each in (text.states, text.there))
        return states, there

    def paint(chunk: tuple[NDArray[np.uint64], tuple[TextStates, TextStates]]) -> Images:
        samples_C, (asked, shown) = chunk
        with torch.inference_mode():
            latents = fill_in(network, samples_C, given(asked), sampler=sampler, seed=seed)
            painted = autoencoder.decode(network.restored(latents), *given(shown))
            images: Images = to_bytes(painted).cpu().numpy()
        return images

    chunks: list[Any] = list(zip(samples, texts, strict=True))
    yield from map_on_cores(paint, chunks, device=device, dtype=dtype)


def fill_in(
    network: MaskedLatents,
    samples_B: NDArray[np.uint64],
    text: tuple[Tensor, Tensor],
    *,
    sampler: MaskedFlowSampler,
    seed: int,
) -> Tensor:
    """Return (B, K, D) standardized latents.

    Args:
        network: in evaluation mode.
        samples_B: sample ids.
        text: (B, L, d) states and (B, L) mask of captions.
        sampler: steps, guidance.
        seed: 0 ... 2**64 - 1.
    """
    shape, device = (network.num_latents, network.latent_size), network.device
    noise = normal_rows(seed=seed, samples_B=samples_B, shape=shape)
    start_BKD = torch.from_numpy(noise).to(device) * sampler.noise_scale
    uniforms, _ = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=shape[0], step=_ORDER)
    order_BK = torch.from_numpy(uniforms.argsort(axis=1, kind="stable")).to(device)
    latents_BKD = torch.zeros_like(start_BKD)
    masked_BK = torch.ones(start_BKD.shape[:2], dtype=torch.bool, device=device)
    first, num_steps = 0, sampler.num_steps(shape[0])
    none = (text[0], torch.zeros_like(text[1]))
    for step in range(num_steps):
        end = shape[0] - sampler.num_masked(step, shape[0])
        places_BR = order_BK[:, first:end]
        scale = sampler.guidance.at(step, num_steps)
        known = [network(latents_BKD, masked_BK, *text)]
        if scale != 1.0:
            known.append(network(latents_BKD, masked_BK, *none))
        chosen = [_at(each, places_BR).flatten(0, 1) for each in known]
        found_RD = follow(
            partial(guided_velocity, network, chosen, scale),
            _at(start_BKD, places_BR).flatten(0, 1),
            num_steps=sampler.flow_steps,
        )
        where = places_BR[..., None].expand(-1, -1, shape[1])
        found_BRD = found_RD.view(len(latents_BKD), end - first, shape[1])
        latents_BKD = latents_BKD.scatter(1, where, found_BRD)
        masked_BK = masked_BK.scatter(1, places_BR, value=False)
        first = end
    return latents_BKD


def guided_velocity(
    network: MaskedLatents, known: list[Tensor], scale: float, now_RD: Tensor, times_R: Tensor
) -> Tensor:
    """Return (R, D) velocities: unconditional + scale (conditional - unconditional).

    Args:
        network: with the head.
        known: (R, W) of each latent under its caption, and, where it is guided, under none.
        scale: s; unused where there is one of them.
        now_RD: latents on their way.
        times_R: their times.
    """
    own = network.velocity(now_RD, times_R, known[0]).float()
    if len(known) == 1:
        return own
    none = network.velocity(now_RD, times_R, known[1]).float()
    return none + scale * (own - none)


def follow(
    velocity: Callable[[Tensor, Tensor], Tensor], start_RD: Tensor, *, num_steps: int
) -> Tensor:
    """Follow a flow from time 0 to 1 in Euler steps of equal length.

    Args:
        velocity: (R, D) of latents at (R,) times.
        start_RD: noise.
        num_steps: steps.
    """
    now_RD = start_RD
    for step in range(num_steps):
        times_R = now_RD.new_full((len(now_RD),), step / num_steps)
        now_RD = now_RD + velocity(now_RD, times_R) / num_steps
    return now_RD


def _at(values_BKX: Tensor, places_BR: Tensor) -> Tensor:
    """Return (B, R, X) values of some places of every row."""
    return values_BKX.gather(1, places_BR[..., None].expand(-1, -1, values_BKX.shape[-1]))
