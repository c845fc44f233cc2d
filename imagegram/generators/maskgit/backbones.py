"""Backbones of masked generation: ours, and two published ones, BERT and a U-ViT with long skips.

After ImageBert and UViT of Yu et al., "An Image is Worth 32 Tokens" (arXiv 2406.07550): the layers
of Devlin et al., "BERT" (arXiv 1810.04805), and of Bao et al., "All are Worth Words" (arXiv
2209.12152). Both read a class token, then the tokens, from one table of ids: codes, the mask,
classes, no class. Their weights have the names and shapes of the published files.

Array names: ``B`` samples, ``T`` positions, ``V`` ids, ``W`` features of a position.

>>> network = UVit(vocab_size=5, num_tokens=3, width=8, depth=3, num_heads=2)
>>> tuple(network(torch.tensor([[0, 5, 5]])).shape)
(1, 3, 5)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.maskgit.network import LocalMaskGit, MaskGit
from imagegram.generators.maskgit.ragged import keep_lengths, seen
from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import Initializer, build, initialize, initialize_alike

#: Features of an MLP's hidden layer for each feature of a position.
_EXPANSION: Final = 4
_BERT_DROPOUT: Final = 0.1
_BERT_EPSILON: Final = 1e-12


class _OneTable(HubNetwork):
    """A network with one table of ids: V codes, the mask, K classes, the null class.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        num_classes: number of labels, K; class K is no label.
        ragged: whether documents differ in length, see ``ragged.py``.
    """

    def __init__(self, *, vocab_size: int, num_tokens: int, num_classes: int, ragged: bool) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.ragged = ragged
        if ragged:
            keep_lengths(self, num_tokens)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def _rows(self) -> int:
        """Number of rows of the table."""
        return self.vocab_size + 1 + self.num_classes + 1

    def _with_class(self, ids_BT: Tensor, classes_B: Tensor | None) -> Tensor:
        """Return (B, 1 + T) rows of the table: the class, then the ids; None: of no class."""
        if classes_B is None:
            classes_B = ids_BT.new_full((len(ids_BT),), self.num_classes)
        return torch.cat([(classes_B + self.vocab_size + 1)[:, None], ids_BT], dim=1)


class Bert(_OneTable):
    """A BERT encoder: normalization after every residual, biases everywhere.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: layers.
        num_heads: divides ``width``.
        num_classes: number of labels, K; class K is no label.
        ragged: whether documents differ in length, see ``ragged.py``.
    """

    FAMILY = "bert"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
        ragged: bool = False,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size, num_tokens=num_tokens, num_classes=num_classes, ragged=ragged
        )
        layers = [_BertLayer(width=width, num_heads=num_heads) for _ in range(depth)]
        self.model = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(
                    {
                        "word_embeddings": nn.Embedding(self._rows, width),
                        "position_embeddings": nn.Embedding(1 + num_tokens, width),
                        "token_type_embeddings": nn.Embedding(2, width),
                        "LayerNorm": nn.LayerNorm(width, eps=_BERT_EPSILON),
                    }
                ),
                "encoder": nn.ModuleDict({"layer": nn.ModuleList(layers)}),
                "lm_head": nn.Linear(width, vocab_size),
            }
        )
        self.dropout = nn.Dropout(_BERT_DROPOUT)

    def forward(
        self, ids_BT: Tensor, classes_B: Tensor | None = None, there_BT: Tensor | None = None
    ) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and (B,) classes to (B, T, V) logits.

        What is not ``there_BT``, bool, is not seen; None: all is.
        """
        parts: Any = self.model["embeddings"]
        encoder: Any = self.model["encoder"]
        x_BTW = parts["word_embeddings"](self._with_class(ids_BT, classes_B))
        # All tokens are of the first kind.
        x_BTW = x_BTW + parts["token_type_embeddings"].weight[0]
        x_BTW = parts["LayerNorm"](x_BTW + parts["position_embeddings"].weight)
        x_BTW, mask = self.dropout(x_BTW), seen(there_BT, first=True)
        for layer in encoder["layer"]:
            x_BTW = layer(x_BTW, mask)
        logits: Tensor = self.model["lm_head"](x_BTW[:, 1:])
        return logits


class _BertLayer(nn.Module):
    """Attention, then an MLP, each added to what was there and then normalized."""

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        names = ("query", "key", "value")
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in names}),
                "output": _Residual(width, width),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, _EXPANSION * width)})
        self.output = _Residual(_EXPANSION * width, width)

    def forward(self, x_BTW: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, T, W) features; ``mask`` is (B, 1, 1, T), True where a position is seen."""
        split = (x_BTW.shape[0], x_BTW.shape[1], self.num_heads, -1)
        reads: Any = self.attention["self"]
        query, key, value = (read(x_BTW).view(split).transpose(1, 2) for read in reads.values())
        share = _BERT_DROPOUT if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=share)
        seen_BTW = found.transpose(1, 2).reshape(x_BTW.shape)
        x_BTW = self.attention["output"](seen_BTW, x_BTW)
        out: Tensor = self.output(F.gelu(self.intermediate["dense"](x_BTW)), x_BTW)
        return out


class _Residual(nn.Module):
    """The end of a branch: a matrix, dropout, the sum, and normalization."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width_in, width)
        self.LayerNorm = nn.LayerNorm(width, eps=_BERT_EPSILON)
        self.dropout = nn.Dropout(_BERT_DROPOUT)

    def forward(self, branch: Tensor, x_BTW: Tensor) -> Tensor:
        """Return (B, T, W) features for what a branch made of (B, T, W) features."""
        out: Tensor = self.LayerNorm(x_BTW + self.dropout(self.dense(branch)))
        return out


class UVit(_OneTable):
    """A vision transformer whose last blocks also see what the first ones made, in mirror order.

    Args:
        vocab_size: ids of a token, V.
        num_tokens: positions, T.
        width: features of a position, W.
        depth: blocks, an odd number: the middle one has no partner.
        num_heads: divides ``width``.
        num_classes: number of labels, K; class K is no label.
        ragged: whether documents differ in length, see ``ragged.py``.
    """

    FAMILY = "uvit"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        num_classes: int = 0,
        ragged: bool = False,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size, num_tokens=num_tokens, num_classes=num_classes, ragged=ragged
        )

        def blocks(count: int, *, skip: bool) -> nn.ModuleList:
            sizes = {"width": width, "num_heads": num_heads}
            return nn.ModuleList(_UVitBlock(**sizes, skip=skip) for _ in range(count))

        self.embeddings = nn.Embedding(self._rows, width)
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + num_tokens, width))
        self.in_blocks = blocks(depth // 2, skip=False)
        self.mid_block = _UVitBlock(width=width, num_heads=num_heads, skip=False)
        self.out_blocks = blocks(depth // 2, skip=True)
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocab_size)

    def forward(
        self, ids_BT: Tensor, classes_B: Tensor | None = None, there_BT: Tensor | None = None
    ) -> Tensor:
        """Map (B, T) ids, V where a token is masked, and (B,) classes to (B, T, V) logits.

        What is not ``there_BT``, bool, is not seen; None: all is.
        """
        x_BTW = self.embeddings(self._with_class(ids_BT, classes_B)) + self.pos_embed
        made, mask = [], seen(there_BT, first=True)
        for block in self.in_blocks:
            x_BTW = block(x_BTW, mask)
            made.append(x_BTW)
        x_BTW = self.mid_block(x_BTW, mask)
        for block in self.out_blocks:
            x_BTW = block(x_BTW, mask, made.pop())
        logits: Tensor = self.lm_head(self.norm(x_BTW)[:, 1:])
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
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, 3 * width, bias=False), "proj": nn.Linear(width, width)}
        )
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {
                "fc1": nn.Linear(width, _EXPANSION * width),
                "fc2": nn.Linear(_EXPANSION * width, width),
            }
        )
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(
        self, x_BTW: Tensor, mask: Tensor | None = None, earlier_BTW: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, W) features; ``mask`` is (B, 1, 1, T), True where a position is seen."""
        if self.skip_linear is not None:
            assert earlier_BTW is not None
            x_BTW = self.skip_linear(torch.cat([x_BTW, earlier_BTW], dim=-1))
        batch, length, width = x_BTW.shape
        split = self.attn["qkv"](self.norm1(x_BTW)).view(batch, length, 3, self.num_heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(query, key, value, mask)
        x_BTW = x_BTW + self.attn["proj"](found.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x_BTW + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x_BTW))))
        return out


Backbone = MaskGit | Bert | UVit
#: Network and fresh weights of every backbone.
_NETWORKS: Final[Mapping[str, tuple[type[Backbone], Initializer]]] = {
    "transformer": (MaskGit, initialize),
    "local": (LocalMaskGit, initialize),
    "bert": (Bert, initialize_alike),
    "uvit": (UVit, initialize_alike),
}


def make(backbone: str, **sizes: Any) -> Backbone:
    """Build the network of a backbone, with any weights."""
    return _NETWORKS[backbone][0](**sizes)


def make_fresh(backbone: str, *, seed: int, **sizes: Any) -> nn.Module:
    """Build the network of a backbone with fresh weights that depend on the seed alone."""
    network, initializer = _NETWORKS[backbone]
    return build(network, seed=seed, initializer=initializer, **sizes)
