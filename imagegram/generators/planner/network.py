"""A planner's network: a causal transformer over steps, and a head that writes the codes of one.

A step is K codes: those of a sentence by a residual quantizer, of which each refines the sum of
those before. After Lee et al., "Autoregressive image generation using residual quantization" (CVPR
2022, arXiv 2203.01941): one position of the transformer a step, whose input is the sum of the
embeddings of all K codes, so that a document of S sentences costs S positions, not S K; a *depth
head* then writes the codes of the step,

    p(c_1 ... c_K | h) = prod_k p(c_k | h, e_1(c_1) + ... + e_{k-1}(c_{k-1})),

with h the transformer's features of the steps before. Theirs is a transformer over the stages; the
sum of what was written says all of it, so here it is MLPs that all stages share. Independent heads,
for comparison, see no code of their own step.

What is shown of a step is the embeddings of its codes, or a projection of the sum of the vectors
that the codes stand for, or both. A document ends between steps: the end is one more choice beside
the first code.

Array names: ``B`` samples, ``T`` tokens, ``S`` steps, ``K`` stages, ``V`` codes of a stage, ``W``
features, ``D`` numbers of a vector.

>>> sizes = dict(vocab_size=7, num_tokens=6, width=8, depth=1, num_heads=2)
>>> network = Planner(**sizes, stages=2, codebooks=2, ends=True)
>>> tuple(network(torch.tensor([[0, 4, 1, 3, 6, 6]])).shape)
(1, 3, 2, 4)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.planner.sizes import reads_codes, reads_vectors
from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import GatedMlp, Head, KeyValues, Transformer

#: Logit of what cannot be written; finite, so that guidance may subtract it from itself.
NEVER: Final = -1e30


@dataclass
class PlannerSteps:
    """What the tokens of some rows share while they are written.

    Attributes:
        caches: keys and values of earlier steps, one a block.
        classes: (B,) class of every row.
        codes: (B, K) codes of the step that is written, of the one before at its beginning.
        context: (B, W) features of the steps before.
    """

    caches: list[KeyValues]
    classes: Tensor
    codes: Tensor
    context: Tensor


class HeadBlock(nn.Module):
    """An MLP on normalized features, added to what was there."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, bias=False)
        self.mlp = GatedMlp(width=width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., W) features for (..., W) features."""
        out: Tensor = x + self.mlp(self.norm(x))
        return out


class DepthHead(nn.Module):
    """MLPs of one code each, whatever its stage.

    Args:
        width: features, W.
        depth: number of MLPs.
    """

    def __init__(self, *, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(HeadBlock(width=width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., W) features for (..., W) features."""
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class Planner(HubNetwork):
    """A causal transformer over steps of K codes.

    Args:
        vocab_size: number of ids: those of ``codebooks`` ranges, and the end.
        num_tokens: number of positions, T = S K.
        width: features of a step, W.
        depth: number of blocks.
        num_heads: divides ``width``.
        stages: codes of a step, K.
        codebooks: K, stage k has the ids k V ... k V + V - 1; 1: all stages have 0 ... V - 1.
        ends: whether documents end early; the last id is then their end.
        heads: ``depth``, or ``independent``: no code sees those of its step.
        head_depth: number of MLPs of the head.
        context: what is seen of the steps before: ``codes``, ``vectors``, ``both``, ``none``.
        vector_width: numbers of a code's vector, D; used where vectors are seen.
        dropout: share of features that is dropped in training.
        num_classes: number of labels; the class of that number is no label. 0: it knows no labels.
    """

    FAMILY = "planner"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        stages: int,
        codebooks: int,
        ends: bool,
        heads: str = "depth",
        head_depth: int = 2,
        context: str = "codes",
        vector_width: int = 0,
        dropout: float = 0.0,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.stages, self.codebooks, self.dropout = stages, codebooks, dropout
        self.codebook_size = size = (vocab_size - ends) // codebooks
        self.register_buffer("id_ranges", torch.arange(codebooks) * size)  # first ids
        self.start = nn.Parameter(torch.empty(1, width))  # stands before the first step
        self.positions = nn.Parameter(torch.empty(num_tokens // stages, width))
        self.stage = nn.Parameter(torch.empty(stages, width))
        self.classes: nn.Parameter | None = None
        if num_classes:
            self.classes = nn.Parameter(torch.empty(num_classes + 1, width))
        self.codes: nn.Parameter | None = None
        if reads_codes(context):
            self.codes = nn.Parameter(torch.empty(stages, size, width))
        self.project: nn.Linear | None = None
        if reads_vectors(context):
            self.register_buffer("vectors", torch.zeros(stages, size, vector_width))
            self.project = nn.Linear(vector_width, width, bias=False)
        self.partials: nn.Parameter | None = None
        if heads == "depth":
            self.partials = nn.Parameter(torch.empty(stages, size, width))
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)
        self.head = DepthHead(width=width, depth=head_depth)
        self.to_codes = nn.ModuleList(Head(width, size) for _ in range(stages))
        self.to_end = Head(width, 1) if ends else None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.start.device

    def first_id(self, stage: int) -> int:
        """Return the first id of a stage, 0 ... K - 1."""
        return stage * self.codebook_size if self.codebooks > 1 else 0

    # ----------------------------------------------------------------------------- whole rows

    def codes_of(self, ids_BT: Tensor) -> Tensor:
        """Return (B, S, K) codes 0 ... V of ids, V: what is no code of its stage."""
        firsts_K: Tensor = self.id_ranges  # type: ignore[assignment]
        codes_BSK = ids_BT.view(len(ids_BT), -1, self.stages) - firsts_K
        outside = (codes_BSK < 0) | (codes_BSK >= self.codebook_size)
        return codes_BSK.masked_fill(outside, self.codebook_size)

    def contexts(self, codes_BSK: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Return (B, S, W) features of the steps before each step.

        Args:
            codes_BSK: (B, S, K) codes of all steps.
            classes_B: (B,) class of every row; unused where the network knows none.
        """
        first_B1W = self._first(len(codes_BSK), classes_B)[:, None]
        seen_BSW = torch.cat([first_B1W, self._shown(codes_BSK[:, :-1])], dim=1)
        inputs_BSW = self._drop(seen_BSW + self.positions[: seen_BSW.shape[1]])
        features: Tensor = self.transformer(inputs_BSW, causal=True)
        return features

    def logits(self, contexts_BSW: Tensor, codes_BSK: Tensor) -> Tensor:
        """Return (B, S, K, V + 1) logits of the codes of steps, and of an end before each.

        Those of an end are :data:`NEVER` beside a code that is not the first.

        Args:
            contexts_BSW: (B, S, W) of :meth:`contexts`.
            codes_BSK: (B, S, K) codes of the same steps; of the last one nothing is read.
        """
        features_BSKW = self._drop(self.head(self._asked(contexts_BSW, codes_BSK)))
        pairs = zip(self.to_codes, features_BSKW.unbind(dim=2), strict=True)
        of_codes = torch.stack([head(features) for head, features in pairs], dim=2)
        of_end = torch.full_like(of_codes[..., :1], NEVER)
        if self.to_end is not None:
            of_end[:, :, 0] = self.to_end(features_BSKW[:, :, 0])
        return torch.cat([of_codes, of_end], dim=-1)

    def _asked(self, contexts_BSW: Tensor, codes_BSK: Tensor) -> Tensor:
        """Return (B, S, K, W) what the head reads: context, stage, and codes written so far."""
        features_BSKW = contexts_BSW[:, :, None] + self.stage
        if self.partials is not None:
            written = [
                table_VW[codes_BSK[..., k].clamp(max=self.codebook_size - 1)]
                for k, table_VW in enumerate(self.partials[:-1])
            ]
            nothing_BSW = torch.zeros_like(contexts_BSW)
            sums_BSKW = torch.stack([nothing_BSW, *written], dim=2).cumsum(dim=2)
            features_BSKW = features_BSKW + sums_BSKW * self.stages**-0.5
        return self._drop(features_BSKW)

    def forward(self, ids_BT: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Return (B, S, K, V + 1) logits of all codes at once; see :meth:`logits`.

        Args:
            ids_BT: (B, T) int64 ids.
            classes_B: (B,) int64 class of every row; unused where the network knows none.
        """
        codes_BSK = self.codes_of(ids_BT)
        return self.logits(self.contexts(codes_BSK, classes_B), codes_BSK)

    # ------------------------------------------------------------------------ token after token

    def begin(self, classes_B: Tensor) -> PlannerSteps:
        """Return what the tokens of some rows share, before the first.

        Args:
            classes_B: (B,) class of every row; unused where the network knows none.
        """
        rows = len(classes_B)
        return PlannerSteps(
            caches=self.transformer.caches(rows, len(self.positions)),
            classes=classes_B,
            codes=torch.zeros(rows, self.stages, dtype=torch.int64, device=self.device),
            context=self.start.expand(rows, -1),
        )

    def step(self, last_B: Tensor | None, position: int, steps: PlannerSteps) -> Tensor:
        """Return (B, ids) logits of the token at one position.

        Args:
            last_B: (B,) ids of the position before; None: this is the first.
            position: 0 ... T - 1.
            steps: of :meth:`begin`, after the positions before.
        """
        step, stage = divmod(position, self.stages)
        if last_B is not None:
            before = (position - 1) % self.stages
            code_B = last_B - self.first_id(before)
            steps.codes[:, before] = code_B.clamp(0, self.codebook_size - 1)
        if stage == 0:
            seen_BW = self._first(len(steps.classes), steps.classes)
            if step > 0:
                seen_BW = self._shown(steps.codes[:, None])[:, 0]
            inputs_B1W = (seen_BW + self.positions[step])[:, None]
            steps.context = self.transformer(inputs_B1W, caches=steps.caches)[:, 0]
        asked_BKW = self._asked(steps.context[:, None], steps.codes[:, None])[:, 0]
        features_BW = self.head(asked_BKW[:, stage])
        logits_BV: Tensor = self.to_codes[stage](features_BW)
        whole_BI = logits_BV.new_full((len(logits_BV), self.vocab_size), NEVER)
        first = self.first_id(stage)
        whole_BI[:, first : first + self.codebook_size] = logits_BV
        if self.to_end is not None and stage == 0:
            whole_BI[:, -1:] = self.to_end(features_BW)
        return whole_BI

    # ------------------------------------------------------------------------------------ parts

    def _first(self, rows: int, classes_B: Tensor | None) -> Tensor:
        """Return (B, W) features of what stands before the first step: start and class."""
        first_BW = self.start.expand(rows, -1)
        if self.classes is None:
            return first_BW
        assert classes_B is not None
        return first_BW + self.classes[classes_B]

    def _shown(self, codes_BSK: Tensor) -> Tensor:
        """Return (B, S, W) features of whole steps; 0 where nothing is shown of them."""
        codes = codes_BSK.clamp(max=self.codebook_size - 1)
        stages_K = torch.arange(self.stages, device=codes.device)
        shown_BSW = self.start.new_zeros(*codes.shape[:2], self.start.shape[1])
        if self.codes is not None:
            shown_BSW = shown_BSW + self.codes[stages_K, codes].sum(dim=2) * self.stages**-0.5
        if self.project is not None:
            vectors_KVD: Tensor = self.vectors  # type: ignore[assignment]
            vectors_BSD = vectors_KVD[stages_K, codes].sum(dim=2)
            # Vectors of any length and centre: each feature is of deviation one.
            shown_BSW = shown_BSW + self.project(F.layer_norm(vectors_BSD, vectors_BSD.shape[-1:]))
        return shown_BSW

    def _drop(self, features: Tensor) -> Tensor:
        return F.dropout(features, self.dropout, self.training)
