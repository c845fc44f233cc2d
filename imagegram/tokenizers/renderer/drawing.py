"""Drawing the tokens of sentences, one after the other, with cached keys and values.

Sentences are drawn in chunks of one shape, so that none depends on those beside it.

Array names: ``C`` sentences of a chunk, ``S`` tokens of a sentence, ``V`` ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.generators.drawing import draw_ids, guided, probabilities
from imagegram.models.cores import map_on_cores
from imagegram.samplers.truncation import Truncation
from imagegram.tokenizers.renderer.items import Ids, Reader
from imagegram.tokenizers.renderer.network import RendererNetwork

#: Sentences that the network writes at a time.
CHUNK: Final = 32


class Asked(NamedTuple):
    """A sentence that is to be written.

    Attributes:
        codes: K codes 0 ... V - 1; -1: it is not known.
        context: BPE ids of the text before it.
        uniforms: (S,) float64 in [0, 1), one a token.
    """

    codes: Sequence[int]
    context: Ids
    uniforms: NDArray[np.float64]


class Drawn(NamedTuple):
    """A sentence that was written.

    Attributes:
        ids: BPE ids, at least one.
        log_prob: natural logarithm of the probability of ids and end, with temperature 1 and
            nothing cut away.
    """

    ids: Ids
    log_prob: float


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How sentences are drawn.

    Attributes:
        cut: temperature, and what is cut away.
        guidance: s; logits are those without codes, and s times what codes change. 1: as learned.
        vocab_size: ids that have a text; the network may know more.
    """

    cut: Truncation
    guidance: float
    vocab_size: int


def draw(
    network: RendererNetwork, reader: Reader, asked: Sequence[Asked], how: Drawing
) -> list[Drawn]:
    """Write sentences, in chunks on all cores."""
    chunks = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]

    def work(chunk: Sequence[Asked]) -> list[Drawn]:
        with torch.inference_mode():
            return _draw_chunk(network, reader, chunk, how)

    found = map_on_cores(work, chunks, device=network.device)
    return [drawn for some in found for drawn in some]


def _draw_chunk(
    network: RendererNetwork, reader: Reader, asked: Sequence[Asked], how: Drawing
) -> list[Drawn]:
    """Write up to CHUNK sentences; rows that none fills are written and thrown away."""
    length, device = network.sizes.sentence_tokens, network.device
    boundary = network.sizes.boundary
    uniforms = np.zeros((CHUNK, length))
    uniforms[: len(asked)] = [each.uniforms for each in asked]
    uniforms_CS = torch.from_numpy(uniforms).to(device)
    steps = Steps(network, *beginnings(reader, asked), guidance=how.guidance)
    ids_CS = torch.full((CHUNK, length), boundary, dtype=torch.int64, device=device)
    log_prob_C = torch.zeros(CHUNK, dtype=torch.float64, device=device)
    ended_C = torch.arange(CHUNK, device=device) >= len(asked)
    for step in range(length):
        logits_CV = steps.logits(None if step == 0 else ids_CS[:, step - 1])
        allowed_CV = _allowed(logits_CV, how.vocab_size, boundary, first=step == 0)
        last_C = draw_ids(
            probabilities(allowed_CV, how.cut.temperature, how.cut), uniforms_CS[:, step]
        ).masked_fill(ended_C, boundary)
        log_p_CV = steps.own.double().log_softmax(dim=-1)
        said_C = log_p_CV.gather(-1, last_C[:, None])[:, 0]
        log_prob_C += said_C.masked_fill(ended_C, 0.0)
        ids_CS[:, step] = last_C
        ended_C = ended_C | (last_C == boundary)
        if bool(ended_C.all()):
            break
    return _as_drawn(ids_CS, log_prob_C, boundary)[: len(asked)]


def _allowed(logits_CV: Tensor, vocab_size: int, boundary: int, *, first: bool) -> Tensor:
    """Return logits without ids that have no text, and without an end before the first token."""
    forbidden_V = torch.zeros(logits_CV.shape[1], dtype=torch.bool, device=logits_CV.device)
    forbidden_V[vocab_size:boundary] = True
    forbidden_V[boundary] = first
    return logits_CV.masked_fill(forbidden_V, float("-inf"))


def _as_drawn(ids_CS: Tensor, log_prob_C: Tensor, boundary: int) -> list[Drawn]:
    ids = ids_CS.cpu().numpy()
    sizes = np.where((ids == boundary).any(axis=1), (ids == boundary).argmax(axis=1), ids.shape[1])
    return [
        Drawn(ids=row[:size], log_prob=log_prob)
        for row, size, log_prob in zip(ids, sizes.tolist(), log_prob_C.tolist(), strict=True)
    ]


def beginnings(reader: Reader, asked: Sequence[Asked]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the (C, P + C + 1) ids before the first token, and which places are there."""
    sizes = reader.sizes
    ids = np.zeros((CHUNK, sizes.beginning + 1), dtype=np.int64)
    there = np.zeros(ids.shape, dtype=np.bool_)
    ids[:, -1], there[:, -1] = sizes.boundary, True
    nothing = np.empty(0, dtype=np.int64)
    for row, each in enumerate(asked):
        segment = reader.segment(each.codes, each.context, nothing)
        ids[row, segment.places], there[row, segment.places] = segment.ids, True
    return ids, there


class Steps:
    """Logits of one token after the other, with cached keys and values, guided or not.

    Guided sentences are written twice, in two halves of one batch: with their codes, and without.

    Args:
        network: in evaluation mode.
        ids: (C, P + C + 1) ids before the first token.
        there: which of these places are there.
        guidance: see :class:`Drawing`.

    Attributes:
        own: (C, V) logits of the last step without guidance.
    """

    def __init__(
        self,
        network: RendererNetwork,
        ids: NDArray[np.int64],
        there: NDArray[np.bool_],
        *,
        guidance: float,
    ) -> None:
        self.network, self.guidance = network, guidance
        self.is_guided = guidance != 1.0 and network.sizes.prefix_length > 0
        if self.is_guided:
            without = there.copy()
            without[:, : network.sizes.prefix_length] = False
            ids, there = np.concatenate([ids, ids]), np.concatenate([there, without])
        self.ids = torch.from_numpy(ids).to(network.device)
        self.there = torch.from_numpy(there).to(network.device)
        self.place = network.sizes.beginning
        self.table = network.table()
        self.heard_BW = self._heard()
        self.caches = network.transformer.caches(len(ids), network.sizes.num_places)
        self.own: Tensor

    def _heard(self) -> Tensor:
        """Return the (B, W) features that every token of a sentence hears of its codes."""
        sizes = self.network.sizes
        if not sizes.is_broadcast:
            return torch.zeros_like(self.table[:1])
        codes = slice(sizes.prefix_length)
        numbers_BK = (self.ids[:, codes] - sizes.first_code).clamp_min(0)
        said_BKD = self.network.said()[numbers_BK] * self.there[:, codes, None]
        heard_BW: Tensor = self.network.hear(said_BKD.sum(dim=1))
        return heard_BW

    def logits(self, last_C: Tensor | None) -> Tensor:
        """Return (C, V) logits of the next token, after the one of the step before."""
        if last_C is None:
            features_BTW = self._begin()
        else:
            features_BTW = self._go_on(torch.cat([last_C, last_C]) if self.is_guided else last_C)
        logits_BV: Tensor = self.network.to_logits(features_BTW[:, -1]).float()
        self.own = logits_BV.chunk(2)[0] if self.is_guided else logits_BV
        return guided(logits_BV, self.guidance) if self.is_guided else logits_BV

    def _begin(self) -> Tensor:
        """Read codes, context and boundary at once."""
        length, device = self.ids.shape[1], self.ids.device
        square = torch.ones(length, length, dtype=torch.bool, device=device)
        seen_B1TT = self.there[:, None, None, :] & square.tril()
        mask_B1TT = seen_B1TT | torch.eye(length, dtype=torch.bool, device=device)
        x_BTW = self.table[self.ids] + self.network.places[:length]
        x_BTW[:, -1] += self.heard_BW
        features: Tensor = self.network(x_BTW, mask_B1TT, caches=self.caches)
        return features

    def _go_on(self, last_B: Tensor) -> Tensor:
        """Read one token; a row that has ended reads boundaries, which nothing is made of."""
        self.place += 1
        self.there = torch.cat([self.there, torch.ones_like(self.there[:, :1])], dim=1)
        x_BW = self.table[last_B] + self.network.places[self.place] + self.heard_BW
        mask_B11T = self.there[:, None, None, :]
        features: Tensor = self.network(x_BW[:, None], mask_B11T, caches=self.caches)
        return features
