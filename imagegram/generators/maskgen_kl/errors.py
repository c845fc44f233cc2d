"""How far off a network is where it denoises masked latents: the error of its training objective.

Of pictures it is measured under several captions with the same draws, so that what a caption saves
is a difference within a picture. Array names are those of ``network.py``; ``M`` draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.maskgen_kl.autoencoder import ImageKl
from imagegram.generators.maskgen_kl.draws import draw
from imagegram.generators.maskgen_kl.network import MaskedLatents
from imagegram.generators.maskgen_kl.settings import MaskedSizes
from imagegram.models.cores import map_on_cores
from imagegram.models.pictures import to_float
from imagegram.records import Images
from imagegram.stages.captions import TextStates
from imagegram.training.draws import ERRORS, generator

#: (1, S, S, 3) uint8 picture, its number, and by name the one text that it is measured under.
Item = tuple[Images, int, Mapping[str, TextStates]]


def velocity_errors(
    network: MaskedLatents,
    goal_BKD: Tensor,
    masked_BK: Tensor,
    start: Tensor,
    times: Tensor,
    states_BLD: Tensor,
    there_BL: Tensor,
) -> Tensor:
    """Return the (B, K) squared errors of velocities: the mean over numbers and times of a latent.

    Args:
        network: says velocities.
        goal_BKD: standardized latents.
        masked_BK: bool; what is not masked is read.
        start: (B, K, M, D) noise that the way to a latent begins with.
        times: (B, K, M) places on the way, 0 ... 1.
        states_BLD: states of captions.
        there_BL: bool, their tokens.
    """
    known_BKW = network(goal_BKD, masked_BK, states_BLD, there_BL)
    goal = goal_BKD[:, :, None]
    now = (1 - times[..., None]) * start + times[..., None] * goal
    given = known_BKW[:, :, None].expand(*times.shape, -1)
    velocity = network.velocity(now.flatten(0, 2), times.flatten(), given.flatten(0, 2))
    wanted = (goal - start).flatten(0, 2)
    errors: Tensor = (velocity.float() - wanted).square().mean(dim=-1)
    return errors.view(times.shape).mean(dim=-1)


def picture_errors(
    networks: tuple[ImageKl, MaskedLatents],
    items: Sequence[Item],
    *,
    sizes: MaskedSizes,
    num_draws: int,
    seed: int,
    dtype: str,
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Measure pictures one by one, so that no error depends on the other pictures.

    Args:
        networks: autoencoder and network of latents, in evaluation mode, on one device.
        items: the pictures.
        sizes: of the network of latents.
        num_draws: draws of masks, noise and times a picture, M; they follow from seed and number.
        seed: 0 ... 2**64 - 1.
        dtype: numbers that the network computes with.

    Yields:
        By the name of a text, (M,) float32: the mean error of the masked latents of each draw.
    """
    autoencoder, network = networks
    device = network.device

    def measure(item: Item) -> dict[str, NDArray[np.float32]]:
        image, number, texts = item
        drawn = draw(num_draws, sizes, generator(seed=seed, purpose=ERRORS, number=number))
        noise, masked, start, times = tensors(drawn.noise, drawn.masked, drawn.start, drawn.times)
        with torch.inference_mode():
            with torch.autocast(device.type, enabled=False):  # as in training
                gaussians = autoencoder.encode(to_float(*tensors(image)))
                goal = network.standardized(gaussians.sample(noise))
            found = {}
            for name, text in texts.items():
                states, there = tensors(text.states, text.there)
                given = (states.expand(num_draws, -1, -1), there.expand(num_draws, -1))
                errors_MK = velocity_errors(network, goal, masked, start, times, *given)
                mean_M = (errors_MK * masked).sum(dim=1) / masked.sum(dim=1)
                found[name] = mean_M.float().cpu().numpy()
        return found

    def tensors(*arrays: NDArray[Any]) -> list[Tensor]:
        return [torch.from_numpy(array).to(device) for array in arrays]

    yield from map_on_cores(measure, items, device=device, dtype=dtype)
