"""Stepping: one token after the other, by a distribution over all ids.

Whatever can tell that distribution can be sampled here, alone or in a mixture. Documents that end
early have one id more than the tokenizer, the last one: the end.

Array names: ``B`` samples, ``T`` positions, ``V`` ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.conditions.prompt import prompt_trace, prompts_of, without_prompt
from imagegram.generators.chunks import chunk_samples, rows_from_chunks
from imagegram.generators.drawing import draw_ids, probabilities
from imagegram.records import EOS_TOKEN_ID, Tokens
from imagegram.samplers.sequential import SequentialSampler
from imagegram.seeding import uniform_rows

if TYPE_CHECKING:
    from imagegram.layout import TokenLayout
    from imagegram.protocols import Condition
    from imagegram.store.stage import Progress

#: From the (B,) ids of the step before (None: there is none) and the number of a step to (B, V)
#: logits of its token, called with 0, 1, 2 ... in turn.
NextLogits: TypeAlias = Callable[[Tensor | None, int], Tensor]
#: (B, T) uint16 ids and (B,) how many first ones of every row are given.
Prompts: TypeAlias = tuple[NDArray[np.uint16], NDArray[np.int64]]


@runtime_checkable
class Steps(Protocol):
    """A model that tells the distribution of the next token."""

    def steps(
        self,
        samples: NDArray[np.uint64],
        *,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> NextLogits:
        """Return what tells (B, V) float64 log-probabilities on the CPU, step after step.

        Args:
            samples: (B,) sample ids of the rows.
            layout: layout of the tokenizer.
            condition: of the samples.
        """


def draw_rows(
    logits_of: NextLogits,
    samples_B: NDArray[np.uint64],
    *,
    num_tokens: int,
    sampler: SequentialSampler,
    seed: int,
    end: int | None,
    device: torch.device | str = "cpu",
    prompts_B: Prompts | None = None,
) -> Tensor:
    """Return (B, T) int64 ids, drawn one position after the other.

    Args:
        logits_of: tells the logits of every step.
        samples_B: (B,) sample ids.
        num_tokens: T.
        sampler: temperature, and what it cuts away.
        seed: 0 ... 2**64 - 1.
        end: id that ends a sample, which is then padded with it; None: samples have full length.
        device: device of the logits.
        prompts_B: what rows begin with, which goes through the same steps; None: nothing is given.
    """
    if prompts_B is None:
        rows = len(samples_B)
        prompts_B = np.zeros((rows, num_tokens), np.uint16), np.zeros(rows, np.int64)
    longest = int(prompts_B[1].max(initial=0))
    given_BT = torch.from_numpy(prompts_B[0].astype(np.int64)).to(device)
    until_B = torch.from_numpy(prompts_B[1]).to(device)
    first, _ = uniform_rows(seed=seed, samples_B=samples_B, num_tokens=num_tokens)
    uniforms_BT = torch.from_numpy(first).to(device)
    ids_BT = torch.full((len(samples_B), num_tokens), -1, dtype=torch.int64, device=device)
    ended_B = torch.zeros(len(samples_B), dtype=torch.bool, device=device)
    last_B = None
    for step in range(num_tokens):
        p_BV = probabilities(logits_of(last_B, step), sampler.temperature, sampler)
        last_B = draw_ids(p_BV, uniforms_BT[:, step])
        if step < longest:
            last_B = torch.where(until_B > step, given_BT[:, step], last_B)
        if end is not None:
            last_B = last_B.masked_fill(ended_B, end)
            ended_B = last_B == end
            if bool(ended_B.all()):
                ids_BT[:, step:] = end
                break
        ids_BT[:, step] = last_B
    return ids_BT


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What samples of a model that steps are drawn with.

    Attributes:
        sampler, layout, seed, condition: see :meth:`imagegram.protocols.Model.generate`.
        vocab_size: number of ids of the tokenizer.
        ends: whether samples may end early, with the id behind those of the tokenizer.
    """

    sampler: SequentialSampler
    layout: TokenLayout
    seed: int
    condition: Condition | None
    vocab_size: int
    ends: bool

    def rows(
        self, model: Steps, samples: NDArray[np.uint64], progress: Progress | None
    ) -> tuple[Tokens, dict[str, Any]]:
        """Return (B, T) uint16 tokens, and of prompts which were given.

        Row b depends only on (seed, samples[b]).
        """
        given, num_tokens = self.condition, self.layout.num_tokens
        prompts = prompts_of(given)
        prompts.check(most=num_tokens, vocab_size=self.vocab_size)
        end, asked = self.vocab_size if self.ends else None, without_prompt(given)

        def make(chunks: NDArray[np.uint64]) -> Iterator[dict[str, NDArray[Any]]]:
            for ids in chunk_samples(chunks):
                with torch.inference_mode():
                    drawn = draw_rows(
                        model.steps(ids, layout=self.layout, condition=asked),
                        ids,
                        num_tokens=num_tokens,
                        sampler=self.sampler,
                        seed=self.seed,
                        end=end,
                        prompts_B=prompts.of_samples(ids, num_tokens=num_tokens),
                    ).numpy()
                yield {"tokens": np.where(drawn == end, EOS_TOKEN_ID, drawn)}

        rows = rows_from_chunks(
            samples,
            num_tokens=num_tokens,
            dtypes={"tokens": np.uint16},
            make=make,
            progress=progress,
        )
        return rows["tokens"], prompt_trace(given, samples, num_tokens=num_tokens)
