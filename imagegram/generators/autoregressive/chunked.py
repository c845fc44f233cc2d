"""A causal transformer whose steps are chunks of tokens, and a small one inside each chunk.

After Yu et al., "MEGABYTE" (arXiv 2305.07185): one transformer goes from chunk to chunk; what it
makes of the chunks so far is handed to each place of the next one, whose tokens a smaller
transformer writes one after the other. The probability of a document is exact, as every token has
its own after all before it. The last chunk may have fewer tokens.

Array names: ``B`` rows, ``T`` tokens, ``N`` chunks, ``C`` tokens of a chunk, ``V`` ids, ``W``
features.

>>> network = ChunkTransformer(
...     vocab_size=5, num_tokens=7, width=8, depth=1, num_heads=2, chunk_size=3, local_depth=1
... )
>>> tuple(network(torch.zeros(2, 7, dtype=torch.int64)).shape)
(2, 7, 8)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from imagegram.generators.autoregressive.causal import CausalNetwork
from imagegram.models.transformer import Head, KeyValues, Transformer


@dataclass
class ChunkSteps:
    """What the steps of some rows share.

    Attributes:
        caches: keys and values of earlier chunks, one a block.
        classes: (B,) class of every row.
        written: (B, W) embeddings of the tokens of the chunk that is being written.
        given: (B, C, W) what its places are handed.
        local: keys and values of its earlier tokens, one a block.
    """

    caches: list[KeyValues]
    classes: Tensor
    written: list[Tensor] = field(default_factory=list)
    given: Tensor | None = None
    local: list[KeyValues] = field(default_factory=list)


class ChunkTransformer(CausalNetwork):
    """A transformer over chunks, and one over the tokens of each.

    Args:
        vocab_size: number of ids of a token, V.
        num_tokens: number of positions, T.
        width: features of a chunk and of a token, W.
        depth: blocks of the transformer over chunks.
        num_heads: divides ``width``.
        chunk_size: tokens of a chunk, C.
        local_depth: blocks of the transformer inside a chunk.
        num_classes: number of labels, K; class K is no label. 0: the network knows no labels.
    """

    FAMILY = "chunk"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        chunk_size: int,
        local_depth: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.chunk_size = chunk_size
        self.start = nn.Parameter(torch.empty(1, width))  # stands before the first chunk
        self.local_start = nn.Parameter(torch.empty(1, width))  # before the first token of one
        self.ids = nn.Parameter(torch.empty(vocab_size, width))
        self.chunks = nn.Parameter(torch.empty(-(-num_tokens // chunk_size), width))
        self.positions = nn.Parameter(torch.empty(num_tokens, width))
        self.classes = self.class_embeddings()
        self.read = nn.Linear(chunk_size * width, width, bias=False)
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)
        self.hand = nn.Linear(width, chunk_size * width, bias=False)
        self.local = Transformer(width=width, depth=local_depth, num_heads=num_heads)
        self.to_logits = Head(width, vocab_size)

    def begin(self, classes_B: Tensor) -> ChunkSteps:
        """Return what the steps of some rows share, before the first.

        Args:
            classes_B: (B,) class of every row; unused where the network knows none.
        """
        caches = self.transformer.caches(len(classes_B), len(self.chunks))
        return ChunkSteps(caches=caches, classes=classes_B)

    def forward(
        self, ids_BT: Tensor, order_BT: Tensor | None = None, classes_B: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, W) features of all steps at once; ``to_logits`` makes logits of them.

        Args:
            ids_BT: (B, T) int64 ids.
            order_BT: None: chunks are written in raster order alone.
            classes_B: (B,) int64 class of every row; unused where the network knows none.
        """
        assert order_BT is None
        (batch, length), size = ids_BT.shape, self.chunk_size
        num_chunks = -(-length // size)
        padding = (0, num_chunks * size - length)
        ids_BNC = nn.functional.pad(ids_BT, padding).view(batch, num_chunks, size)
        tokens_BNCW = self.ids[ids_BNC]
        read_BNW = self.read(tokens_BNCW.flatten(2))
        first_B1W = self.first(batch, classes_B)[:, None]
        chunks_BNW = torch.cat([first_B1W, read_BNW[:, :-1]], dim=1) + self.chunks[:num_chunks]
        given_BNCW = self.hand(self.transformer(chunks_BNW, causal=True)).view(tokens_BNCW.shape)
        start_BN1W = self.local_start.expand(batch, num_chunks, 1, -1)
        seen_BNCW = torch.cat([start_BN1W, tokens_BNCW[:, :, :-1]], dim=2)
        positions_TW = nn.functional.pad(self.positions[:length], (0, 0, *padding))
        inputs_BNCW = given_BNCW + seen_BNCW + positions_TW.view(num_chunks, size, -1)
        features: Tensor = self.local(inputs_BNCW.flatten(0, 1), causal=True)
        return features.reshape(batch, num_chunks * size, -1)[:, :length]

    def step(self, last_B: Tensor | None, step: int, steps: ChunkSteps) -> Tensor:
        """Return (B, V) logits of the token of one step.

        Args:
            last_B: (B,) ids of the step before; None: this is the first.
            step: 0 ... T - 1.
            steps: of :meth:`begin`, after the steps before.
        """
        place = step % self.chunk_size
        if last_B is not None:
            steps.written.append(self.ids[last_B])
        if place == 0:
            self._begin_chunk(step // self.chunk_size, steps)
        assert steps.given is not None
        seen_BW = steps.written[-1] if place else self.local_start
        inputs_BW = steps.given[:, place] + seen_BW + self.positions[step]
        features_B1W = self.local(inputs_BW[:, None], caches=steps.local)
        logits: Tensor = self.to_logits(features_B1W[:, 0])
        return logits

    def _begin_chunk(self, chunk: int, steps: ChunkSteps) -> None:
        """Take the step of the transformer over chunks, after the chunk that was written."""
        rows = len(steps.classes)
        if chunk:
            chunk_BW = self.read(torch.cat(steps.written, dim=-1))
        else:
            chunk_BW = self.first(rows, steps.classes)
        made_B1W = self.transformer((chunk_BW + self.chunks[chunk])[:, None], caches=steps.caches)
        steps.given = self.hand(made_B1W[:, 0]).view(rows, self.chunk_size, -1)
        steps.local = self.local.caches(rows, self.chunk_size)
        steps.written = []
