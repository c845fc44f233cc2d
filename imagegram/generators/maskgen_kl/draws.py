"""What is drawn of latents to train on them, and to measure them: masks, noise and times.

Array names are those of ``network.py``; ``M`` times for each latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.generators.maskgen_kl.settings import MaskedSizes
from imagegram.generators.maskgit.masks import random_masks

#: Times at which each masked latent is judged in a step: the transformer is the dearer part.
TIMES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What is drawn of B rows of latents.

    Attributes:
        noise: (B, K, D) float32 noise of the latents.
        masked: (B, K) bool masks, at least one latent of every row.
        start: (B, K, M, D) float32 noise at the start, M for each latent.
        times: (B, K, M) float32 times, 0 ... 1.
    """

    noise: NDArray[np.float32]
    masked: NDArray[np.bool_]
    start: NDArray[np.float32]
    times: NDArray[np.float32]


def draw(count: int, sizes: MaskedSizes, rng: np.random.Generator) -> Draws:
    """Draw masks, noise and times as the objective has them, of so many rows."""
    shape = (count, sizes.num_latents)
    noise = rng.standard_normal((*shape, sizes.latent_size), dtype=np.float32)
    shares_B = np.arccos(rng.random(count)) / (math.pi / 2)
    counts_B = np.maximum(np.rint(shares_B * sizes.num_latents), 1)
    masked = random_masks(counts_B, sizes.num_latents, rng)
    start = rng.standard_normal((*shape, TIMES, sizes.latent_size), dtype=np.float32)
    times = 1 / (1 + np.exp(-rng.standard_normal((*shape, TIMES))))
    return Draws(noise=noise, masked=masked, start=start, times=times.astype(np.float32))
