"""The published network of MaskGen-VQ: two streams, of tokens and of a caption, to logits.

After Kim et al., "Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware
One-Dimensional Tokens" (arXiv 2501.07730); the blocks are those of ``models/mmdit.py``. Names and
shapes of weights are those of the published files. What modulates the blocks is the vector of the
whole caption, and how much people are said to like the image, the *aesthetic score*.

Array names: ``B`` samples, ``T`` tokens, ``V`` ids, ``L`` states of a caption, ``D`` numbers of
a state, ``W`` features. The id ``V`` is the mask.

>>> network = Mmdit(
...     vocab_size=5,
...     num_tokens=3,
...     width=8,
...     depth=1,
...     num_heads=2,
...     text_dim=4,
...     aesthetic_score=6.5,
... )
>>> tuple(network(torch.tensor([[0, 5, 5]]), torch.zeros(1, 3, 4)).shape)
(1, 3, 5)
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.hub import HubNetwork
from imagegram.models.mmdit import JointBlock, LastNorm

#: Rows of the table behind those of the mask: of classes, and of no class, which nothing reads.
UNUSED: Final = 1001
#: Numbers that tell an aesthetic score, its factor, and the longest of their wavelengths / 2 pi.
MICRO_DIM: Final = 256
_MICRO_SCALE: Final = 100.0
_MICRO_PERIOD: Final = 1000.0


class Mmdit(HubNetwork):
    """Two streams, of tokens with some of them masked and of a caption.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: blocks.
        num_heads: divides ``width``.
        text_dim: numbers of a state of the text encoder, D.
        aesthetic_score: of all images; None: the network reads none.
    """

    FAMILY = "mmdit"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        text_dim: int,
        aesthetic_score: float | None,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens = vocab_size, num_tokens
        self.aesthetic_score = aesthetic_score
        more = 0 if aesthetic_score is None else MICRO_DIM
        self.embeddings = nn.Embedding(vocab_size + 1 + UNUSED, width)
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, width))
        self.text_embed_proj = nn.Linear(text_dim, width)
        self.cond_pooled_proj = nn.Linear(text_dim + more, width)
        self.blocks = nn.ModuleList(
            JointBlock(width=width, num_heads=num_heads, is_last=number == depth - 1)
            for number in range(depth)
        )
        self.norm = LastNorm(width)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.pos_embed.device

    def forward(self, ids_BT: Tensor, states_BLD: Tensor, there_BL: Tensor | None = None) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and captions to (B, T, V) logits.

        Args:
            ids_BT: int64 ids.
            states_BLD: (B, L, D): the vector of a caption, then the states of its tokens, of any
                float type; no caption is the empty one.
            there_BL: of no use: all states are read.
        """
        states_BLD = states_BLD.to(self.pos_embed.dtype)
        given_BW = self.cond_pooled_proj(self._with_score(states_BLD[:, 0]))
        text_BLW = self.text_embed_proj(states_BLD[:, 1:])
        x_BTW = self.embeddings(ids_BT) + self.pos_embed
        for block in self.blocks:
            x_BTW, text_BLW = block(x_BTW, text_BLW, given_BW)
        table_VW = self.embeddings.weight[: self.vocab_size]
        return F.linear(self.norm.normalized(x_BTW, given_BW), table_VW)

    def _with_score(self, vector_BD: Tensor) -> Tensor:
        """Return (B, D + M) vectors of captions, with the M numbers of the score, where it reads.

        These are sines, then cosines.
        """
        if self.aesthetic_score is None:
            return vector_BD
        half = MICRO_DIM // 2
        exponents = torch.arange(half, device=vector_BD.device) * (-math.log(_MICRO_PERIOD) / half)
        angles = self.aesthetic_score * _MICRO_SCALE * torch.exp(exponents)
        told = torch.cat((torch.sin(angles), torch.cos(angles))).to(vector_BD.dtype)
        return torch.cat((vector_BD, told.expand(len(vector_BD), -1)), dim=1)
