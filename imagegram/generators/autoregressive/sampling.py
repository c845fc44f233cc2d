"""Sampling from an autoregressive transformer, and the log-probability of given tokens.

Tokens are drawn one after the other with cached keys and values. What is recorded of them is
computed afterwards from whole rows, in one pass, by the same function that scores given tokens: so
a replay of own samples gives their own numbers, bit by bit.

Array names: ``B`` samples, ``T`` positions, ``V`` ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators import stepping
from imagegram.generators.drawing import guided
from imagegram.generators.stepping import Prompts
from imagegram.models.cores import map_on_cores
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.sequential import SequentialSampler

if TYPE_CHECKING:
    from imagegram.generators.autoregressive.sizes import Network

#: Logits that are made at a time when whole rows are scored.
_MAX_LOGITS: Final = 1 << 24


def draw_chunks(
    network: Network,
    samples: Sequence[NDArray[np.uint64]],
    classes: Sequence[NDArray[np.int64]],
    *,
    sampler: SequentialSampler,
    seed: int,
    end: int | None,
    prompts: Sequence[Prompts],
    dtype: str = "float32",
) -> Iterator[NDArray[np.int64]]:
    """Sample whole chunks, one a core at a time.

    Args:
        network: in evaluation mode, on its device.
        samples: (C,) sample ids of each chunk.
        classes: (C,) their classes.
        sampler: temperature, what it cuts away, guidance.
        seed: 0 ... 2**64 - 1.
        end: id that ends a sample, which is then padded with it; None: samples have full length.
        prompts: of each chunk, (C, T) ids that its rows begin with, and (C,) how many of them.
        dtype: numbers that the network computes with, see :data:`imagegram.models.dtypes.DTYPES`.

    Yields:
        (C, T) ids.
    """
    device = network.device

    def sample(
        chunk: tuple[NDArray[np.uint64], NDArray[np.int64], Prompts],
    ) -> NDArray[np.int64]:
        samples_C, classes_C, prompts_C = chunk
        with torch.inference_mode():
            ids_CT = draw_rows(
                network,
                samples_C,
                classes_C,
                sampler=sampler,
                seed=seed,
                end=end,
                prompts_B=prompts_C,
            )
        ids: NDArray[np.int64] = ids_CT.cpu().numpy()
        return ids

    chunks = list(zip(samples, classes, prompts, strict=True))
    yield from map_on_cores(sample, chunks, device=device, dtype=dtype)


def draw_rows(
    network: Network,
    samples_B: NDArray[np.uint64],
    classes_B: NDArray[np.int64],
    *,
    sampler: SequentialSampler,
    seed: int,
    end: int | None,
    prompts_B: Prompts | None = None,
) -> Tensor:
    """Return (B, T) int64 ids, drawn one position after the other; see :func:`draw_chunks`.

    Prompts go through the same steps: the keys and values of a row depend on its own tokens alone.
    """
    device = network.device
    classes = torch.from_numpy(classes_B).to(device)
    return stepping.draw_rows(
        NextLogits(network, classes, sampler.guidance),
        samples_B,
        num_tokens=network.num_tokens if prompts_B is None else prompts_B[0].shape[1],
        sampler=sampler,
        seed=seed,
        end=end,
        device=device,
        prompts_B=prompts_B,
    )


class NextLogits:
    """Logits of one step after the other, with cached keys and values, guided or not.

    Guided rows are written twice, in two halves of one batch: under their classes, and without.

    Args:
        network: in evaluation mode, on its device.
        classes_B: (B,) classes of the rows.
        guidance: by :class:`Guidance`; needs a network that knows classes.
    """

    def __init__(self, network: Network, classes_B: Tensor, guidance: Guidance) -> None:
        self.network, self.guidance = network, guidance
        if guidance.is_on:
            classes_B = torch.cat([classes_B, torch.full_like(classes_B, network.num_classes)])
        self.steps: Any = network.begin(classes_B)

    def __call__(self, last_B: Tensor | None, step: int) -> Tensor:
        """Return (B, V) logits of a step, after the ids of the step before it."""
        if not self.guidance.is_on:
            return self.network.step(last_B, step, self.steps)
        twice_B = None if last_B is None else torch.cat([last_B, last_B])
        logits_BV = self.network.step(twice_B, step, self.steps)
        return guided(logits_BV, self.guidance.at(step, self.network.num_tokens))


def score_rows(
    network: Network, ids_BT: Tensor, classes_B: Tensor | None = None
) -> dict[str, NDArray[Any]]:
    """Return what the network says of given tokens, all positions at once.

    Args:
        network: in evaluation mode, on its device.
        ids_BT: (B, T) int64 ids.
        classes_B: (B,) classes of the rows; unused where the network knows none.

    Returns:
        By name, (B, T) float32: ``log_prob``, natural logarithm of the probability of a token after
        those before it, with temperature 1 and nothing cut away; ``entropy`` of that distribution
        in bits.
    """
    with torch.inference_mode():
        features_BTW = network(ids_BT, None, classes_B)
        slices = max(_MAX_LOGITS // (len(ids_BT) * network.vocab_size), 1)
        log_probs, entropies = [], []
        for first in range(0, ids_BT.shape[1], slices):
            some = slice(first, first + slices)
            log_p_BTV = network.to_logits(features_BTW[:, some]).double().log_softmax(dim=-1)
            log_probs.append(log_p_BTV.gather(-1, ids_BT[:, some, None])[..., 0])
            entropies.append(-(log_p_BTV.exp() * log_p_BTV).sum(dim=-1) / math.log(2))
    found = {"log_prob": torch.cat(log_probs, dim=1), "entropy": torch.cat(entropies, dim=1)}
    return {name: array.float().cpu().numpy() for name, array in found.items()}
