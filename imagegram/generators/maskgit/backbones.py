"""Backbones of masked generation: ours, and two published ones, BERT and a U-ViT with long skips.

After ImageBert and UViT of Yu et al., "An Image is Worth 32 Tokens" (arXiv 2406.07550): the layers
of Devlin et al., "BERT" (arXiv 1810.04805), and of Bao et al., "All are Worth Words" (arXiv
2209.12152). Both read a class token, then the tokens, from one table of ids: codes, the mask,
classes, no class.

Array names: ``B`` samples, ``T`` positions, ``V`` ids, ``W`` features of a position.

>>> network = UVit(vocab_size=5, num_tokens=3, width=8, depth=3, num_heads=2)
>>> tuple(network(torch.tensor([[0, 5, 5]])).shape)
(1, 3, 5)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.maskgit.network import MaskGit
from imagegram.models.transformer import Initializer, build, initialize, initialize_alike

#: Features of an MLP's hidden layer for each feature of a position.
_EXPANSION: Final = 4
_BERT_DROPOUT: Final = 0.1
_BERT_EPSILON: Final = 1e-12


class _OneTable(nn.Module):
    """A network with one table of ids: V codes, the mask, K classes, the null class.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        num_classes: number of labels, K; class K is no label.
    """

    def __init__(self, *, vocab_size: int, num_tokens: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.ids = nn.Parameter(torch.empty(vocab_size + 1 + num_classes + 1, width))
        self.positions = nn.Parameter(torch.empty(1 + num_tokens, width))

    def embed(self, ids_BT: Tensor, classes_B: Tensor | None) -> Tensor:
        """Return (B, 1 + T, W) features of the class and the tokens; None: of no class."""
        if classes_B is None:
            classes_B = ids_BT.new_full((len(ids_BT),), self.num_classes)
        first_B1 = (classes_B + self.vocab_size + 1)[:, None]
        return self.ids[torch.cat([first_B1, ids_BT], dim=1)] + self.positions


class Bert(_OneTable):
    """A BERT encoder: normalization after every residual, biases everywhere.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: layers.
        num_heads: divides ``width``.
        num_classes: number of labels, K; class K is no label.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size, num_tokens=num_tokens, width=width, num_classes=num_classes
        )
        self.norm = nn.LayerNorm(width, eps=_BERT_EPSILON)
        self.dropout = nn.Dropout(_BERT_DROPOUT)
        layer = nn.TransformerEncoderLayer(
            width,
            num_heads,
            _EXPANSION * width,
            dropout=_BERT_DROPOUT,
            activation="gelu",
            layer_norm_eps=_BERT_EPSILON,
            batch_first=True,
        )
        layer.dropout.p = 0.0  # BERT has none inside its MLP
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.to_logits = nn.Linear(width, vocab_size)

    def forward(self, ids_BT: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and (B,) classes to (B, T, V) logits."""
        x_BTW = self.dropout(self.norm(self.embed(ids_BT, classes_B)))
        logits: Tensor = self.to_logits(self.encoder(x_BTW)[:, 1:])
        return logits


class UVit(_OneTable):
    """A vision transformer whose last blocks also see what the first ones made, in mirror order.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: blocks, an odd number: the middle one has no partner.
        num_heads: divides ``width``.
        num_classes: number of labels, K; class K is no label.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size, num_tokens=num_tokens, width=width, num_classes=num_classes
        )

        def blocks(count: int, *, skip: bool) -> nn.ModuleList:
            sizes = {"width": width, "num_heads": num_heads}
            return nn.ModuleList(_UVitBlock(**sizes, skip=skip) for _ in range(count))

        self.first = blocks(depth // 2, skip=False)
        self.middle = _UVitBlock(width=width, num_heads=num_heads, skip=False)
        self.last = blocks(depth // 2, skip=True)
        self.norm = nn.LayerNorm(width)
        self.to_logits = nn.Linear(width, vocab_size)

    def forward(self, ids_BT: Tensor, classes_B: Tensor | None = None) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and (B,) classes to (B, T, V) logits."""
        x_BTW, made = self.embed(ids_BT, classes_B), []
        for block in self.first:
            x_BTW = block(x_BTW)
            made.append(x_BTW)
        x_BTW = self.middle(x_BTW)
        for block in self.last:
            x_BTW = block(x_BTW, made.pop())
        logits: Tensor = self.to_logits(self.norm(x_BTW)[:, 1:])
        return logits


class _UVitBlock(nn.Module):
    """Attention, then an MLP, each on normalized features and added to what was there.

    Args:
        width: features of a position, W.
        num_heads: divides ``width``.
        skip: whether features of an earlier block are mixed in first.
    """

    def __init__(self, *, width: int, num_heads: int, skip: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.mix = nn.Linear(2 * width, width) if skip else None
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, _EXPANSION * width)
        self.mlp_out = nn.Linear(_EXPANSION * width, width)

    def forward(self, x_BTW: Tensor, earlier_BTW: Tensor | None = None) -> Tensor:
        """Return (B, T, W) features for (B, T, W) features."""
        if self.mix is not None:
            assert earlier_BTW is not None
            x_BTW = self.mix(torch.cat([x_BTW, earlier_BTW], dim=-1))
        batch, length, width = x_BTW.shape
        split = self.qkv(self.attention_norm(x_BTW)).view(batch, length, 3, self.num_heads, -1)
        seen = F.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4))
        x_BTW = x_BTW + self.attention_out(seen.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x_BTW + self.mlp_out(F.gelu(self.mlp(self.mlp_norm(x_BTW))))
        return out


Backbone = MaskGit | Bert | UVit
#: Network and fresh weights of every backbone.
_NETWORKS: Final[Mapping[str, tuple[type[Backbone], Initializer]]] = {
    "transformer": (MaskGit, initialize),
    "bert": (Bert, initialize_alike),
    "uvit": (UVit, initialize_alike),
}


def make(backbone: str, **sizes: int) -> Backbone:
    """Build the network of a backbone, with any weights."""
    return _NETWORKS[backbone][0](**sizes)


def make_fresh(backbone: str, *, seed: int, **sizes: int) -> nn.Module:
    """Build the network of a backbone with fresh weights that depend on the seed alone."""
    network, initializer = _NETWORKS[backbone]
    return build(network, seed=seed, initializer=initializer, **sizes)
