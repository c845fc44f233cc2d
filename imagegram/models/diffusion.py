"""Steps of a Gaussian diffusion from noise to what it was learned from, with learned variances.

After Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (arXiv 2102.09672):
1,000 steps by a cosine, of which some are taken; a network says the noise in a number, and where
between its least and its largest value the variance of a step lies.

>>> steps = Steps.spaced(4)
>>> steps.times.tolist(), [round(float(share), 2) for share in steps.signal]
([0, 333, 666, 999], [1.0, 0.74, 0.25, 0.0])
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Steps of the whole diffusion, the offset of its cosine, and the most of a step that is noise.
BASE_STEPS: Final = 1000
_OFFSET: Final = 0.008
_MOST: Final = 0.999


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Some of the steps, the least noisy first.

    Attributes:
        times: (S,) their numbers in the whole diffusion, 0 ... 999, which the network is told.
        signal: (S,) share of the variance that is no noise, before each of them.
    """

    times: NDArray[np.int64]
    signal: NDArray[np.float64]

    @classmethod
    def spaced(cls, num_steps: int) -> Steps:
        """Return so many steps, evenly spread from the first to the last; of one, the first.

        Args:
            num_steps: 1 ... 1,000.
        """
        stride = (BASE_STEPS - 1) / (num_steps - 1) if num_steps > 1 else 1.0
        times = np.array([round(number * stride) for number in range(num_steps)], np.int64)
        ends = np.arange(BASE_STEPS + 1) / BASE_STEPS
        wave = np.cos((ends + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2
        noisier = np.minimum(1 - wave[1:] / wave[:-1], _MOST)
        return cls(times=times, signal=np.cumprod(1 - noisier)[times])

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.times)

    def before(
        self, step: int, now: Tensor, noise: Tensor, variance: Tensor, normal: Tensor
    ) -> Tensor:
        """Return what was there before a step; before the first, no noise is left.

        Args:
            step: 0 ... S - 1.
            now: numbers behind the step.
            noise: what of them is noise, as the network says; the true one has deviation 1.
            variance: where between its ends the logarithm of the variance lies, -1 ... 1.
            normal: standard normal numbers that are drawn for it.
        """
        signal = float(self.signal[step])
        earlier = float(self.signal[step - 1]) if step else 1.0
        added = 1 - signal / earlier
        clean = (now - math.sqrt(1 - signal) * noise) / math.sqrt(signal)
        of_clean = added * math.sqrt(earlier) / (1 - signal)
        of_now = (1 - earlier) * math.sqrt(1 - added) / (1 - signal)
        mean = of_clean * clean + of_now * now
        if step == 0:
            return mean
        least, most = math.log(added * (1 - earlier) / (1 - signal)), math.log(added)
        share = (variance + 1) / 2
        return mean + torch.exp((share * most + (1 - share) * least) / 2) * normal
