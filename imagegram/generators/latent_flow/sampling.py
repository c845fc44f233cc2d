"""Sampling of latents: from noise along the flow, then tokens where it arrives.

Row i depends on (seed, i) alone: its noise is made of ``seeding.uniform_rows``. Array names are
those of ``sizes.py``; ``T`` tokens of a document.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.latent_flow.autoencoder import ChunkAutoencoder
from imagegram.generators.latent_flow.denoiser import Denoiser
from imagegram.generators.stepping import Prompts
from imagegram.models.cores import map_on_cores
from imagegram.samplers.flow import FlowSampler
from imagegram.seeding import uniform_rows

#: Where latents at their times arrive: (B, N, D) latents, (B, N) times, the last estimate.
Arrivals = Callable[[Tensor, Tensor, Tensor], Tensor]


def sample_chunks(
    networks: tuple[ChunkAutoencoder, Denoiser],
    samples: Sequence[NDArray[np.uint64]],
    *,
    sampler: FlowSampler,
    sigma: float,
    seed: int,
    prompts: Sequence[Prompts],
    ends: bool,
    dtype: str,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Sample whole chunks of rows, one a core at a time.

    Args:
        networks: autoencoder and denoiser, in evaluation mode, on one device.
        samples: (B,) sample ids of each chunk of rows.
        sampler: steps, method, scale of the start noise.
        sigma: deviation of the start noise in training.
        seed: 0 ... 2**64 - 1.
        prompts: of each chunk of rows, (B, T) ids that they begin with, and (B,) how many of them.
        ends: whether a sample may end early; it is then padded with the end.
        dtype: numbers that the networks compute with, see :data:`imagegram.models.dtypes.DTYPES`.

    Yields:
        By name, (B, T): int64 ``tokens``; float32 ``probability`` of each under the decoder, and
        ``entropy`` of its distribution in bits.
    """
    autoencoder, denoiser = networks
    shape, device = (denoiser.num_chunks, denoiser.latent_size), denoiser.device

    def sample(chunk: tuple[NDArray[np.uint64], Prompts]) -> dict[str, NDArray[Any]]:
        samples_B, (ids_BT, until_B) = chunk
        given = given_chunks(networks, ids_BT, until_B)
        noise = normal_rows(seed=seed, samples_B=samples_B, shape=shape)
        start_BND = torch.from_numpy(noise).to(device) * (sigma * sampler.noise_scale)
        # The noise is of pass 0, the length of pass 1.
        (first, _) = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=1, step=1)
        with torch.inference_mode():
            there_BN = denoiser.there(torch.from_numpy(first[:, 0]).to(device)) | given.is_begun
            arrivals = partial(denoiser, there_BN=there_BN)
            latents_BND = follow(arrivals, start_BND, sampler=sampler, given=given)
            logits_BTV = tokens_at(autoencoder, denoiser.restored(latents_BND), there_BN)
            logits_BTV = logits_BTV[:, : ids_BT.shape[1]]
            only_given_BTV = torch.full_like(logits_BTV, -math.inf)
            ids = torch.from_numpy(ids_BT.astype(np.int64)).to(device)
            only_given_BTV.scatter_(-1, ids[..., None], 0.0)
            is_given_BT = np.arange(ids_BT.shape[1]) < until_B[:, None]
            is_given = torch.from_numpy(is_given_BT).to(device)[..., None]
            return read_tokens(torch.where(is_given, only_given_BTV, logits_BTV), ends=ends)

    chunks = list(zip(samples, prompts, strict=True))
    yield from map_on_cores(sample, chunks, device=device, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class Given:
    """Chunks of prompts.

    Attributes:
        latents: (B, N, D) standardized latents, where they are given.
        is_whole: (B, N) bool, chunks that lie in a prompt as a whole: their latents are given.
        is_begun: (B, N) bool, chunks up to the first token behind a prompt: documents have them.
    """

    latents: Tensor
    is_whole: Tensor
    is_begun: Tensor


def given_chunks(
    networks: tuple[ChunkAutoencoder, Denoiser],
    ids_BT: NDArray[np.uint16],
    until_B: NDArray[np.int64],
) -> Given:
    """Encode prompts.

    Args:
        networks: autoencoder and denoiser.
        ids_BT: (B, T) ids that rows begin with.
        until_B: (B,) how many of them.
    """
    autoencoder, denoiser = networks
    size = autoencoder.chunk_size
    num_chunks, device = -(-ids_BT.shape[1] // size), denoiser.device
    padded = np.zeros((len(ids_BT), num_chunks * size), dtype=np.int64)
    padded[:, : ids_BT.shape[1]] = ids_BT
    firsts_N, until_B1 = np.arange(num_chunks) * size, until_B[:, None]
    with torch.inference_mode():
        ids_BNC = torch.from_numpy(padded.reshape(len(ids_BT), num_chunks, size)).to(device)
        latents_BND = denoiser.standardized(autoencoder.encode(ids_BNC).mean)
    return Given(
        latents=latents_BND,
        is_whole=torch.from_numpy(firsts_N + size <= until_B1).to(device),
        is_begun=torch.from_numpy((firsts_N <= until_B1) & (until_B1 > 0)).to(device),
    )


def normal_rows(
    *, seed: int, samples_B: NDArray[np.uint64], shape: tuple[int, int], step: int = 0
) -> NDArray[np.float32]:
    """Return (B, *shape) standard normal numbers, each row of its own sample (Box, Muller 1958)."""
    first, second = uniform_rows(
        seed=seed, samples_B=samples_B, num_tokens=math.prod(shape), step=step
    )
    normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
    rows: NDArray[np.float32] = normal.astype(np.float32).reshape(len(samples_B), *shape)
    return rows


def follow(
    arrivals: Arrivals,
    start_BND: Tensor,
    *,
    sampler: FlowSampler,
    given: Given | None = None,
    begin: float = 0.0,
) -> Tensor:
    """Follow the flow to time 1; return (B, N, D) latents.

    The velocity at time t is the way that is left, over 1 - t. The last step ends where the network
    says that it arrives.

    Args:
        arrivals: the denoiser.
        start_BND: latents at the time ``begin``.
        sampler: steps and method.
        given: latents that stand at time 1 from the beginning; None: none do.
        begin: time at the start, 0 ... 1; the steps divide what is left.
    """
    times = [begin + (1 - begin) * time for time in sampler.times]
    now_BND, estimate_BND = start_BND, torch.zeros_like(start_BND)
    given_BND = torch.zeros_like(start_BND)
    given_BN = torch.zeros(start_BND.shape[:2], dtype=torch.bool, device=start_BND.device)
    if given is not None:
        given_BND, given_BN = given.latents, given.is_whole

    def arrive(latents_BND: Tensor, time: float, estimate_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Return where latents arrive, and the velocity that follows."""
        latents_BND = torch.where(given_BN[..., None], given_BND, latents_BND)
        times_BN = torch.where(given_BN, 1.0, time)
        arrival_BND = arrivals(latents_BND, times_BN, estimate_BND).float()
        return arrival_BND, (arrival_BND - latents_BND) / (1 - time)

    for time, later in itertools.pairwise(times):
        estimate_BND, velocity_BND = arrive(now_BND, time, estimate_BND)
        if later == times[-1]:
            now_BND = estimate_BND
            break
        if sampler.method == "heun":
            ahead_BND = now_BND + (later - time) * velocity_BND
            estimate_BND, second_BND = arrive(ahead_BND, later, estimate_BND)
            velocity_BND = (velocity_BND + second_BND) / 2
        now_BND = now_BND + (later - time) * velocity_BND
    return torch.where(given_BN[..., None], given_BND, now_BND)


def encode_tokens(
    networks: tuple[ChunkAutoencoder, Denoiser], ids_BNC: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the (B, N, D) standardized latents of (B, N, C) ids: means, without noise."""
    autoencoder, denoiser = networks
    with torch.inference_mode():
        mean_BND = autoencoder.encode(torch.from_numpy(ids_BNC).to(denoiser.device)).mean
        latents: NDArray[np.float32] = denoiser.standardized(mean_BND).cpu().numpy()
        return latents


def decode_latents(
    networks: tuple[ChunkAutoencoder, Denoiser], latents_BND: NDArray[np.float32], *, ends: bool
) -> NDArray[np.int64]:
    """Return the (B, N C) most probable ids of standardized latents; behind an end, all end."""
    autoencoder, denoiser = networks
    with torch.inference_mode():
        latents = denoiser.restored(torch.from_numpy(latents_BND).to(denoiser.device))
        there_BN = torch.ones(latents.shape[:2], dtype=torch.bool, device=denoiser.device)
        found = read_tokens(tokens_at(autoencoder, latents, there_BN), ends=ends)
    tokens: NDArray[np.int64] = found["tokens"]
    return tokens


def renoise(
    denoiser: Denoiser,
    latents_BND: NDArray[np.float32],
    *,
    noise: float,
    sampler: FlowSampler,
    sigma: float,
    seed: int,
) -> NDArray[np.float32]:
    """Return standardized latents after a share of noise was mixed in and the flow followed.

    Args:
        denoiser: in evaluation mode.
        latents_BND: latents, which begin at time 1 - ``noise``.
        noise: share of noise, 0 (none) ... 1 (nothing is left of the latents).
        sampler: steps, method, scale of the noise.
        sigma: deviation of the start noise in training.
        seed: 0 ... 2**64 - 1; row b is of sample b.
    """
    if not noise:
        return latents_BND
    samples_B = np.arange(len(latents_BND), dtype=np.uint64)
    shape = (latents_BND.shape[1], latents_BND.shape[2])
    start_BND = normal_rows(seed=seed, samples_B=samples_B, shape=shape)
    mixed_BND = (1 - noise) * latents_BND + noise * sigma * sampler.noise_scale * start_BND
    with torch.inference_mode():
        now_BND = torch.from_numpy(mixed_BND.astype(np.float32)).to(denoiser.device)
        there_BN = torch.ones(now_BND.shape[:2], dtype=torch.bool, device=denoiser.device)
        arrivals = partial(denoiser, there_BN=there_BN)
        found_BND = follow(arrivals, now_BND, sampler=sampler, begin=1 - noise)
    latents: NDArray[np.float32] = found_BND.cpu().numpy()
    return latents


def tokens_at(autoencoder: ChunkAutoencoder, latents_BND: Tensor, there_BN: Tensor) -> Tensor:
    """Return (B, T, V) float64 logits of tokens; a chunk that a document lacks is all end."""
    logits_BNCV = autoencoder.decode(latents_BND).double()
    only_end_V = torch.full_like(logits_BNCV[0, 0, 0], -math.inf)
    only_end_V[-1] = 0.0
    return torch.where(there_BN[:, :, None, None], logits_BNCV, only_end_V).flatten(1, 2)


def read_tokens(logits_BTV: Tensor, *, ends: bool) -> dict[str, NDArray[Any]]:
    """Read the most probable tokens; see :func:`sample_chunks`.

    Args:
        logits_BTV: (B, T, V) logits; the last id is the end.
        ends: whether a sample may end early.
    """
    end = logits_BTV.shape[-1] - 1
    if not ends:
        logits_BTV[..., end] = -math.inf
    p_BTV = logits_BTV.softmax(dim=-1)
    probability_BT, tokens_BT = p_BTV.max(dim=-1)
    entropy_BT = torch.special.entr(p_BTV).sum(dim=-1) / math.log(2)
    is_end_BT = tokens_BT == end
    behind_BT = is_end_BT.cumsum(dim=1) - is_end_BT.long() > 0
    found = {
        "tokens": tokens_BT.masked_fill(behind_BT, end),
        "probability": probability_BT.masked_fill(behind_BT, 0.0).float(),
        "entropy": entropy_BT.masked_fill(behind_BT, 0.0).float(),
    }
    return {name: array.cpu().numpy() for name, array in found.items()}
