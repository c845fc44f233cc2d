"""A small transformer kit: pre-norm blocks with normalized queries and keys, and gated MLPs.

Attention is Vaswani et al., "Attention Is All You Need" (arXiv 1706.03762); queries and keys are
normalized as in Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters" (arXiv
2302.05442), so that no attention runs away; the MLP is SwiGLU (Shazeer, arXiv 2002.05202).

Array names: ``B`` items of a batch, ``T`` positions, ``W`` features of a position.

>>> network = Transformer(width=8, depth=1, num_heads=2)
>>> tuple(network(torch.zeros(3, 5, 8)).shape)
(3, 5, 8)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Standard deviation of fresh embeddings, beside features of deviation one.
_EMBEDDING_STD: Final = 1.0
#: Scale of a head's initial weights against other matrices: training need not unlearn noise first.
_HEAD_SCALE: Final = 0.1
#: Standard deviation of fresh matrices and embeddings in published transformers.
_ALIKE_STD: Final = 0.02


@dataclass
class KeyValues:
    """Keys and values that one attention layer has computed for earlier positions.

    Attributes:
        key, value: (B, heads, T, D), of which the first ``length`` positions are filled.
        length: number of filled positions.
    """

    key: Tensor
    value: Tensor
    length: int = 0

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of the next positions; return those of all positions so far."""
        first, self.length = self.length, self.length + key.shape[2]
        self.key[:, :, first : self.length] = key
        self.value[:, :, first : self.length] = value
        return self.key[:, :, : self.length], self.value[:, :, : self.length]


class Attention(nn.Module):
    """Self-attention with an optional mask.

    Args:
        width: features of a position, W.
        num_heads: divides ``width``.
    """

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.LayerNorm(width // num_heads, bias=False)
        self.key_norm = nn.LayerNorm(width // num_heads, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x_BTW: Tensor,
        mask_TT: Tensor | None = None,
        *,
        causal: bool = False,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """Return (B, T, W) features for (B, T, W) features.

        Args:
            x_BTW: features.
            mask_TT: bool, True where a position (row) sees another (column), (T, T) or any shape
                that becomes (B, heads, T, T); None: all do.
            causal: a position sees itself and those before it.
            cache: keys and values of earlier positions; ``x_BTW`` is the one position behind them.
        """
        batch, length, width = x_BTW.shape
        split = self.qkv(x_BTW).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        query, key = self.query_norm(query), self.key_norm(key)
        # Under autocast the norms give float32 and the projection does not.
        query, key = query.to(value.dtype), key.to(value.dtype)
        if cache is not None:
            key, value = cache.extend(key, value)
        seen = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask_TT, is_causal=causal and cache is None
        )
        out: Tensor = self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return out


class GatedMlp(nn.Module):
    """A SwiGLU MLP with as many weights as a plain MLP of four times the width."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        hidden = 8 * math.ceil(width / 3)
        self.expand = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return (B, T, W) features for (B, T, W) features."""
        gate, value = self.expand(x_BTW).chunk(2, dim=-1)
        out: Tensor = self.out(F.silu(gate) * value)
        return out


class Block(nn.Module):
    """Attention, then the MLP, each on normalized features and added to what was there."""

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width=width, num_heads=num_heads)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.mlp = GatedMlp(width=width)

    def forward(
        self,
        x_BTW: Tensor,
        mask_TT: Tensor | None = None,
        *,
        causal: bool = False,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """Return (B, T, W) features for (B, T, W) features; arguments as in :class:`Attention`."""
        normal_BTW = self.attention_norm(x_BTW)
        x_BTW = x_BTW + self.attention(normal_BTW, mask_TT, causal=causal, cache=cache)
        out: Tensor = x_BTW + self.mlp(self.mlp_norm(x_BTW))
        return out


class Stack(nn.Module):
    """Blocks that add to what was there; a subclass names the weights that end a branch.

    Attributes:
        branch_ends: ends of the names of these weights.
        blocks: of two branches each.
    """

    branch_ends: tuple[str, ...]
    blocks: nn.ModuleList


class Transformer(Stack):
    """Blocks and a last normalization; positions and embeddings are the caller's.

    Args:
        width: features of a position, W.
        depth: blocks.
        num_heads: divides ``width``.
    """

    branch_ends = ("attention.out.weight", "mlp.out.weight")

    def __init__(self, *, width: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.blocks = nn.ModuleList(Block(width=width, num_heads=num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(
        self,
        x_BTW: Tensor,
        mask_TT: Tensor | None = None,
        *,
        causal: bool = False,
        caches: Sequence[KeyValues] | None = None,
    ) -> Tensor:
        """Return (B, T, W) features for (B, T, W) features.

        Arguments are those of :class:`Attention`, with one cache a block; see :meth:`caches`.
        """
        for number, block in enumerate(self.blocks):
            cache = None if caches is None else caches[number]
            x_BTW = block(x_BTW, mask_TT, causal=causal, cache=cache)
        out: Tensor = self.norm(x_BTW)
        return out

    def caches(self, batch: int, length: int) -> list[KeyValues]:
        """Return empty caches for ``batch`` rows of up to ``length`` positions, one a block."""
        weight = self.norm.weight
        shape = (batch, self.num_heads, length, len(weight) // self.num_heads)

        def empty() -> Tensor:
            return torch.zeros(shape, dtype=weight.dtype, device=weight.device)

        return [KeyValues(key=empty(), value=empty()) for _ in self.blocks]


class Head(nn.Linear):
    """The last layer of a network, with small initial weights."""


class ConvHead(nn.Conv2d):
    """The last layer of a convolutional network, with small initial weights."""


def initialize(network: nn.Module, *, seed: int) -> None:
    """Set fresh weights, which depend only on the seed and the order of the parameters.

    Matrices and convolutions keep the size of what they read (deviation one over the root of its
    length); those that end a residual branch are smaller by the root of how many branches their
    :class:`Stack` adds up. A head is ten times smaller. Embeddings have deviation one, gains are
    one, biases zero. Parameters without gradient stay as they were made.
    """
    generator = torch.Generator().manual_seed(seed)
    scales = {
        id(parameter): (2 * len(module.blocks)) ** -0.5
        for module in network.modules()
        if isinstance(module, Stack)
        for name, parameter in module.named_parameters()
        if name.endswith(module.branch_ends)
    }
    heads = (module for module in network.modules() if isinstance(module, Head | ConvHead))
    scales |= {id(head.weight): _HEAD_SCALE for head in heads}
    norms = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm)
        for parameter in module.parameters()
    }
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad:
                continue
            if name.endswith("bias"):
                parameter.zero_()
            elif id(parameter) in norms:
                parameter.fill_(1.0)
            else:
                std = _EMBEDDING_STD
                if name.endswith("weight"):
                    reads = parameter[0].numel()  # a convolution reads a window
                    std = scales.get(id(parameter), 1.0) / math.sqrt(reads)
                parameter.normal_(0.0, std, generator=generator)


def initialize_alike(network: nn.Module, *, seed: int) -> None:
    """Set fresh weights as BERT and most published transformers do: one deviation for all.

    Matrices and embeddings have deviation 0.02, gains are one, biases zero.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    gains = {id(norm.weight) for norm in norms}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if id(parameter) in gains:
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, _ALIKE_STD, generator=generator)


class Initializer(Protocol):
    """A function that sets the fresh weights of a network."""

    def __call__(self, network: nn.Module, *, seed: int) -> None:
        """Set the weights, from the seed alone."""


def build(
    factory: type[nn.Module],
    *,
    seed: int,
    initializer: Initializer = initialize,
    **sizes: object,
) -> nn.Module:
    """Build a network with fresh weights, without touching torch's global random state."""
    with torch.random.fork_rng(devices=[]):
        network = factory(**sizes)
    initializer(network, seed=seed)
    return network
