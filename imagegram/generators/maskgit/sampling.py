"""Sampling from a masked network: draw all masked tokens, keep the surest, again and again.

Row i depends on (seed, i) alone: its random numbers are ``seeding.uniform_rows``, the step of the
pass their fourth word.

Array names: ``B`` samples, ``T`` positions, ``R`` those of them that are masked, ``V`` ids; the id
``V`` is the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.executors.tiles import row_tiles
from imagegram.generators.drawing import draw_ids, guided, probabilities
from imagegram.generators.maskgit.rows import rows_to_fill, rows_to_score
from imagegram.generators.stepping import Prompts
from imagegram.models.cores import map_on_cores
from imagegram.samplers.masked import MaskedSampler
from imagegram.seeding import uniform_rows

#: Float64 logits that are looked at together, so that memory does not grow with the codebook.
_MAX_LOGITS: Final = 1 << 24

#: Logits of a step for partly masked ids: the network's own, and those that tokens are drawn from.
LogitsOf = Callable[[Tensor, int], tuple[Tensor, Tensor]]


class MaskedNetwork(Protocol):
    """A network that fills in tokens under classes; with captions these are numbers of texts."""

    vocab_size: int
    num_tokens: int
    num_classes: int
    #: Whether documents differ in length.
    ragged: bool

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    def __call__(self, ids_BT: Tensor, classes_B: Tensor, there_BT: Tensor | None = None) -> Tensor:
        """Map (B, T) ids, V where masked, and (B,) classes to (B, T, V) logits."""


def sample_chunks(
    network: MaskedNetwork,
    samples: Sequence[NDArray[np.uint64]],
    classes: Sequence[NDArray[np.int64]],
    *,
    sampler: MaskedSampler,
    seed: int,
    prompts: Sequence[Prompts] | None = None,
    dtype: str = "float32",
) -> Iterator[dict[str, NDArray[Any]]]:
    """Sample whole chunks, one a core at a time.

    Args:
        network: in evaluation mode, on its device.
        samples: (C,) sample ids of each chunk.
        classes: (C,) their classes.
        sampler: steps, temperature, confidence, guidance.
        seed: 0 ... 2**64 - 1.
        prompts: of each chunk, (C, T) ids that its rows begin with, and (C,) how many of them;
            None: nothing is given.
        dtype: numbers that the network computes with, see :data:`imagegram.models.dtypes.DTYPES`.

    Yields:
        By name, (C, T) arrays: ``tokens``, V behind the end of a document, and their trace, see
        :func:`fill_in`.
    """
    device = network.device

    def sample(
        chunk: tuple[NDArray[np.uint64], NDArray[np.int64], Prompts | None],
    ) -> dict[str, NDArray[Any]]:
        samples_C, classes_C, prompts_C = chunk
        with torch.inference_mode():
            rows = rows_to_fill(network, samples_C, seed=seed, prompts=prompts_C)
            ids_CT, trace = fill_in(
                StepLogits(network, torch.from_numpy(classes_C).to(device), sampler, rows.there),
                sampler=sampler,
                seed=seed,
                samples_B=samples_C,
                num_tokens=network.num_tokens,
                vocab_size=network.vocab_size,
                device=device,
                begin_BT=rows.ids,
            )
            ids_CT, trace = rows.told(ids_CT, trace, vocab_size=network.vocab_size)
        return {name: a.cpu().numpy() for name, a in {"tokens": ids_CT, **trace}.items()}

    given = [None] * len(samples) if prompts is None else prompts
    chunks = list(zip(samples, classes, given, strict=True))
    yield from map_on_cores(sample, chunks, device=device, dtype=dtype)


def score_rows(
    network: MaskedNetwork,
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
        ids_BT: (B, T) int64 ids, V behind the end of a document.
        classes_B: (B,) classes of the rows; unused where the network knows none.
        sampler: fills in a random order.
        seed: 0 ... 2**64 - 1.
        samples_B: (B,) sample ids.
    """
    with torch.inference_mode():
        rows = rows_to_score(network, ids_BT)
        _, trace = fill_in(
            StepLogits(network, classes_B, sampler, rows.there),
            sampler=sampler,
            seed=seed,
            samples_B=samples_B,
            num_tokens=network.num_tokens,
            vocab_size=network.vocab_size,
            device=ids_BT.device,
            known_BT=ids_BT,
            begin_BT=rows.ids,
        )
        _, trace = rows.told(ids_BT, trace, vocab_size=network.vocab_size)
    return {name: array.cpu().numpy() for name, array in trace.items()}


class StepLogits:
    """Logits of a network under classes, guided or not; a :data:`LogitsOf`.

    A guided step computes its rows twice, in two halves of one batch: under their classes, and
    without. A step whose scale is 1 is one pass.

    Args:
        network: in evaluation mode, on its device.
        classes_B: (B,) classes of the rows; unused where the network knows none.
        sampler: steps and guidance, which needs a network that knows classes.
        there_BT: bool, what is seen of the rows; None: all.
    """

    def __init__(
        self,
        network: MaskedNetwork,
        classes_B: Tensor,
        sampler: MaskedSampler,
        there_BT: Tensor | None = None,
    ) -> None:
        self.network, self.classes_B, self.guidance = network, classes_B, sampler.guidance
        self.there_BT = there_BT
        self.num_steps = sampler.num_steps(network.num_tokens)

    def __call__(self, ids_BT: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return (B, T, V) logits of the rows under their classes, and the guided ones."""
        scale = self.guidance.at(step, self.num_steps)
        if scale == 1.0:
            own_BTV = self.network(ids_BT, self.classes_B, self.there_BT)
            return own_BTV, own_BTV
        none_B = torch.full_like(self.classes_B, self.network.num_classes)
        twice_BT, classes_B = torch.cat([ids_BT, ids_BT]), torch.cat([self.classes_B, none_B])
        there_BT = None if self.there_BT is None else torch.cat([self.there_BT] * 2)
        logits_BTV = self.network(twice_BT, classes_B, there_BT)
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
    begin_BT: Tensor | None = None,
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
        begin_BT: (B, T) int64 ids that rows begin with, V where they are filled in; None: all are.

    Returns:
        (B, T) int64 ids, and by name what decided each, 0 where nothing was filled in:
        ``probability`` (with which the token was drawn), ``entropy`` (bits of that distribution)
        and ``step`` (the pass that fixed it, from 0); in random order also ``log_prob``, the
        natural logarithm of the probability that the network gives the token, unguided,
        temperature 1 and nothing cut away.
    """
    shape = (len(samples_B), num_tokens)
    all_BT = torch.full(shape, vocab_size, dtype=torch.int64, device=device)
    ids_BT = all_BT if begin_BT is None else begin_BT
    names = ("probability", "entropy", "step", *(["log_prob"] if sampler.in_random_order else []))
    trace = {name: torch.zeros(shape, dtype=torch.float64, device=device) for name in names}
    sizes_B = left_B = (ids_BT == vocab_size).sum(dim=1).cpu().numpy()
    for step in range(sampler.num_steps(num_tokens)):
        if not left_B.any():
            break
        uniforms = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=num_tokens, step=step)
        choose_BT, noise_BT = (torch.from_numpy(each).to(device) for each in uniforms)
        after_B = sampler.left_of(step, sizes_B, num_tokens=num_tokens)
        left_B = np.minimum(after_B, np.maximum(left_B - 1, 0))
        left_B1 = torch.from_numpy(left_B).to(device)[:, None]
        open_BT = ids_BT == vocab_size
        if sampler.in_random_order:  # which stay is known before they are drawn
            open_BT &= ~lowest(noise_BT.masked_fill(~open_BT, math.inf), left_B1)
        places_BR, is_open_BR = places_of(open_BT)
        masked = Masked(places=places_BR, choose=choose_BT, noise=noise_BT, known=known_BT)
        own_BTV, logits_BTV = logits_of(ids_BT, step)
        at_once = max(_MAX_LOGITS // (places_BR.shape[1] * vocab_size), 1)
        parts = [
            decide(own_BTV[rows], logits_BTV[rows], masked.at(rows), sampler=sampler, step=step)
            for rows in row_tiles(len(ids_BT), at_once)
        ]
        decided = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        drawn_BR, sure_BR = decided.pop("drawn"), decided.pop("sure")
        for name, value_BR in decided.items():  # the last pass over a place is the one that fixes
            set_at(trace[name], places_BR, value_BR, is_open_BR)
        if not sampler.in_random_order:
            unsure_BR = lowest(sure_BR.masked_fill(~is_open_BR, math.inf), left_B1)
            drawn_BR = drawn_BR.masked_fill(unsure_BR, vocab_size)
        ids_BT = ids_BT.clone()
        set_at(ids_BT, places_BR, drawn_BR, is_open_BR)
    return ids_BT, trace


def places_of(chosen_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return the chosen places of rows side by side.

    Args:
        chosen_BT: bool.

    Returns:
        (B, R) int64 places, those of a row first and ascending, R of the row with the most; (B, R)
        bool, which of them are chosen.

    >>> [each.tolist() for each in places_of(torch.tensor([[False, True], [True, True]]))]
    [[[1, 0], [0, 1]], [[True, False], [True, True]]]
    """
    counts_B = chosen_BT.sum(dim=1)
    most = int(counts_B.max())
    places_BT = (~chosen_BT).to(torch.uint8).argsort(dim=1, stable=True)
    is_chosen_BR = torch.arange(most, device=chosen_BT.device) < counts_B[:, None]
    return places_BT[:, :most], is_chosen_BR


def set_at(array_BT: Tensor, places_BR: Tensor, values_BR: Tensor, where_BR: Tensor) -> None:
    """Set some places of rows, in place; the others keep what they have."""
    before_BR = array_BT.gather(1, places_BR)
    array_BT.scatter_(1, places_BR, torch.where(where_BR, values_BR, before_BR))


@dataclass(frozen=True, kw_only=True)
class Masked:
    """Masked places of rows, with what decides there.

    Attributes:
        places: (B, R) int64 positions.
        choose: (B, T) uniforms that choose tokens.
        noise: (B, T) uniforms that blur confidences.
        known: (B, T) ids that take the place of drawn ones; None: they are drawn.
    """

    places: Tensor
    choose: Tensor
    noise: Tensor
    known: Tensor | None

    def at(self, rows: slice) -> Masked:
        """Return some of the rows."""
        return Masked(
            places=self.places[rows],
            choose=self.choose[rows],
            noise=self.noise[rows],
            known=None if self.known is None else self.known[rows],
        )


def decide(
    own_BTV: Tensor, logits_BTV: Tensor, masked: Masked, *, sampler: MaskedSampler, step: int
) -> dict[str, Tensor]:
    """Draw a token at every masked place.

    Args:
        own_BTV: logits of the network.
        logits_BTV: logits that tokens are drawn from.
        masked: where, and by which random numbers.
        sampler: temperature, truncation, confidence.
        step: the pass, from 0.

    Returns:
        By name, (B, R): ``drawn`` ids, how ``sure`` each is, and what is recorded of it.
    """
    num_tokens, places_BR = logits_BTV.shape[1], masked.places
    temperature = sampler.noise(step, num_tokens)
    logits_BRV = rows_at(logits_BTV, places_BR) / sampler.divisor(step, num_tokens)
    p_BRV = probabilities(logits_BRV, temperature, sampler)
    if masked.known is None:
        drawn_BR = draw_ids(p_BRV, masked.choose.gather(1, places_BR))
    else:
        drawn_BR = masked.known.gather(1, places_BR).clamp(max=logits_BTV.shape[-1] - 1)
    noise_BR = masked.noise.gather(1, places_BR)
    decided = told(p_BRV, drawn_BR, step)
    if sampler.in_random_order:
        decided["log_prob"] = at(rows_at(own_BTV, places_BR).log_softmax(dim=-1), drawn_BR)
    decided["drawn"] = drawn_BR
    decided["sure"] = confidence(sampler, logits_BRV, drawn_BR, temperature, noise_BR)
    return decided


def rows_at(logits_BTV: Tensor, places_BR: Tensor) -> Tensor:
    """Return the (B, R, V) float64 logits of some places of every row."""
    wanted_BRV = places_BR[..., None].expand(-1, -1, logits_BTV.shape[-1])
    return logits_BTV.gather(1, wanted_BRV).double()


def told(p_BRV: Tensor, drawn_BR: Tensor, step: int) -> dict[str, Tensor]:
    """Return what is recorded of tokens that are drawn from some distributions, by name."""
    probability_BR = at(p_BRV, drawn_BR)
    return {
        "probability": probability_BR,
        "entropy": torch.special.entr(p_BRV).sum(dim=-1) / math.log(2),
        "step": torch.full_like(probability_BR, step),
    }


def confidence(
    sampler: MaskedSampler,
    logits_BRV: Tensor,
    drawn_BR: Tensor,
    temperature: float,
    noise_BR: Tensor,
) -> Tensor:
    """Return (B, R) confidences of the drawn tokens; ``noise_BR`` are uniforms in [0, 1)."""
    if sampler.in_random_order:
        return noise_BR
    if sampler.confidence == "log_prob":
        logits_BRV = logits_BRV.log_softmax(dim=-1)
    sure_BR = at(logits_BRV, drawn_BR)
    gumbel_BR = -torch.log(-torch.log(noise_BR))  # -inf for 0: never the surest
    return sure_BR + temperature * gumbel_BR if temperature else sure_BR


def at(values_BRV: Tensor, ids_BR: Tensor) -> Tensor:
    """Return the (B, R) values of some ids."""
    return values_BRV.gather(-1, ids_BR[..., None])[..., 0]


def lowest(values_BR: Tensor, count: int | Tensor) -> Tensor:
    """Mark the ``count`` smallest values of every row, (B, R) bool, the first among equals.

    The count is one of all rows, or (B, 1).
    """
    ranks_BR = values_BR.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    return ranks_BR < count
