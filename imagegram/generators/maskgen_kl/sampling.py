"""Sampling of latents in random order, each along a flow or a diffusion, and pictures of them.

Row i depends on (seed, i) and its caption alone: order and noise are ``seeding.uniform_rows``.
Array names are those of ``network.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.latent_flow.sampling import normal_rows
from imagegram.generators.maskgen_kl.autoencoder import ImageKl
from imagegram.generators.maskgen_kl.mmdit import LatentMmdit
from imagegram.generators.maskgen_kl.network import MaskedLatents
from imagegram.models.cores import map_on_cores
from imagegram.models.diffusion import Steps
from imagegram.models.pictures import to_bytes
from imagegram.records import Images
from imagegram.samplers.masked_flow import MaskedFlowSampler
from imagegram.seeding import uniform_rows
from imagegram.stages.captions import TextStates

#: Pass whose uniforms decide the order; start noise is of pass 0, that of step s of a diffusion of
#: pass 2 + s.
_ORDER: Final = 1
_STEPS: Final = 2

#: What the two networks of latents are.
Latents = MaskedLatents | LatentMmdit
#: From what is known of latents, under their captions and under none, a scale of guidance, and
#: (B, R) places: (B R, D) latents there.
Way = Callable[[list[Tensor], float, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is told of the captions of a chunk.

    Attributes:
        asked: as the network of latents reads them.
        none: what it reads where there is no caption, of as many rows; None: no state at all.
        shown: as the autoencoder reads them.
    """

    asked: TextStates
    none: TextStates | None = None
    shown: TextStates


def paint_chunks(
    networks: tuple[ImageKl, Latents],
    samples: Sequence[NDArray[np.uint64]],
    texts: Sequence[Told],
    *,
    sampler: MaskedFlowSampler,
    seed: int,
    dtype: str,
) -> Iterator[Images]:
    """Paint whole chunks, one a core at a time.

    Args:
        networks: autoencoder and network of latents, in evaluation mode, on one device.
        samples: (C,) sample ids of each chunk.
        texts: their captions.
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

    def paint(chunk: tuple[NDArray[np.uint64], Told]) -> Images:
        samples_C, told = chunk
        none = None if told.none is None else given(told.none)
        with torch.inference_mode():
            asked = given(told.asked)
            latents = fill_in(network, samples_C, asked, none=none, sampler=sampler, seed=seed)
            painted = autoencoder.decode(network.restored(latents), *given(told.shown))
            images: Images = to_bytes(painted).cpu().numpy()
        return images

    chunks: list[Any] = list(zip(samples, texts, strict=True))
    yield from map_on_cores(paint, chunks, device=device, dtype=dtype)


def fill_in(
    network: Latents,
    samples_B: NDArray[np.uint64],
    text: tuple[Tensor, Tensor],
    *,
    none: tuple[Tensor, Tensor] | None = None,
    sampler: MaskedFlowSampler,
    seed: int,
) -> Tensor:
    """Return (B, K, D) latents, as the network reads them.

    Args:
        network: in evaluation mode.
        samples_B: sample ids.
        text: (B, L, d) states and (B, L) mask of captions.
        none: those of no caption; None: none of the states is there.
        sampler: steps, guidance.
        seed: 0 ... 2**64 - 1.
    """
    shape, device = (network.num_latents, network.latent_size), network.device
    noise = normal_rows(seed=seed, samples_B=samples_B, shape=shape)
    start_BKD = torch.from_numpy(noise).to(device)
    if isinstance(network, LatentMmdit):
        way = _diffusion(network, start_BKD, samples_B, sampler=sampler, seed=seed)
    else:
        way = _flow(network, start_BKD, sampler=sampler)
    uniforms, _ = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=shape[0], step=_ORDER)
    order_BK = torch.from_numpy(uniforms.argsort(axis=1, kind="stable")).to(device)
    latents_BKD = torch.zeros_like(start_BKD)
    masked_BK = torch.ones(start_BKD.shape[:2], dtype=torch.bool, device=device)
    first, num_steps = 0, sampler.num_steps(shape[0])
    none = (text[0], torch.zeros_like(text[1])) if none is None else none
    for step in range(num_steps):
        end = shape[0] - sampler.num_masked(step, shape[0])
        places_BR = order_BK[:, first:end]
        scale = sampler.guidance.at(step, num_steps)
        known = [network(latents_BKD, masked_BK, *text)]
        if scale != 1.0:
            known.append(network(latents_BKD, masked_BK, *none))
        found_RD = way([_rows(each, places_BR) for each in known], scale, places_BR)
        where = places_BR[..., None].expand(-1, -1, shape[1])
        found_BRD = found_RD.view(len(latents_BKD), end - first, shape[1])
        latents_BKD = latents_BKD.scatter(1, where, found_BRD)
        masked_BK = masked_BK.scatter(1, places_BR, value=False)
        first = end
    return latents_BKD


def _flow(network: MaskedLatents, start_BKD: Tensor, *, sampler: MaskedFlowSampler) -> Way:
    """Return the way of latents along a straight flow."""

    def way(known: list[Tensor], scale: float, places_BR: Tensor) -> Tensor:
        start_RD = _rows(start_BKD * sampler.noise_scale, places_BR)
        velocity = partial(guided_velocity, network, known, scale)
        return follow(velocity, start_RD, num_steps=sampler.flow_steps)

    return way


def _diffusion(
    network: LatentMmdit,
    start_BKD: Tensor,
    samples_B: NDArray[np.uint64],
    *,
    sampler: MaskedFlowSampler,
    seed: int,
) -> Way:
    """Return the way of latents back through the steps of a diffusion."""
    steps = Steps.spaced(sampler.flow_steps)
    shape = (network.num_latents, network.latent_size)
    drawn = [
        normal_rows(seed=seed, samples_B=samples_B, shape=shape, step=_STEPS + step)
        for step in range(len(steps))
    ]
    normal = [torch.from_numpy(each).to(start_BKD) * sampler.noise_scale for each in drawn]

    def way(known: list[Tensor], scale: float, places_BR: Tensor) -> Tensor:
        now_RD = _rows(start_BKD, places_BR)
        for step in reversed(range(len(steps))):
            times_R = now_RD.new_full((len(now_RD),), float(steps.times[step]))
            said = [network.noise(now_RD, times_R, each).float() for each in known]
            noise_RD, variance_RD = said[0].chunk(2, dim=-1)
            if len(said) > 1:
                none_RD = said[1].chunk(2, dim=-1)[0]
                noise_RD = none_RD + scale * (noise_RD - none_RD)
            drawn_RD = _rows(normal[step], places_BR)
            now_RD = steps.before(step, now_RD, noise_RD, variance_RD, drawn_RD)
        return now_RD

    return way


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


def _rows(values_BKX: Tensor, places_BR: Tensor) -> Tensor:
    """Return (B R, X) values of some places of every row."""
    wanted = places_BR[..., None].expand(-1, -1, values_BKX.shape[-1])
    return values_BKX.gather(1, wanted).flatten(0, 1)
