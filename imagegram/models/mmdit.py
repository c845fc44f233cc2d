"""Transformer blocks of two streams that see each other: tokens, and what is said about them.

After MM-DiT of Esser et al., "Scaling Rectified Flow Transformers for High-Resolution Image
Synthesis" (arXiv 2403.03206): each stream has weights of its own, attention is over both, and one
vector an item modulates all norms and gates. Names of weights are those of the published files of
MaskGen (arXiv 2501.07730), in which the second stream is the ``context``.

Array names: ``B`` items, ``T`` positions of the first stream, ``L`` of the second, ``W`` features.

>>> block = JointBlock(width=8, num_heads=2, is_last=False)
>>> x, text = block(torch.zeros(3, 5, 8), torch.zeros(3, 4, 8), torch.zeros(3, 8))
>>> tuple(x.shape), tuple(text.shape)
((3, 5, 8), (3, 4, 8))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.models.transformer import initialize_alike

#: Features of an MLP's hidden layer for each feature of a position.
_EXPANSION: Final = 4
_EPS: Final = 1e-6
#: Projections of either stream, in the order query, key, value.
_READS: Final = ("to_q", "to_k", "to_v")
_READS_TEXT: Final = ("add_q_proj", "add_k_proj", "add_v_proj")


class JointBlock(nn.Module):
    """Attention over both streams, then an MLP of each, between modulated norms and gates.

    Args:
        width: features of a position, W.
        num_heads: divides ``width``.
        is_last: whether nothing reads the second stream behind this block: it is seen, and ends.
    """

    def __init__(self, *, width: int, num_heads: int, is_last: bool) -> None:
        super().__init__()
        self.num_heads, self.is_last = num_heads, is_last
        self.norm1 = Modulation(width, 6)
        self.norm1_context = Modulation(width, 2 if is_last else 6)
        parts: dict[str, nn.Module] = {
            name: nn.Linear(width, width) for name in (*_READS, *_READS_TEXT)
        }
        parts["to_out"] = nn.ModuleDict({"0": nn.Linear(width, width)})
        if not is_last:
            parts["to_add_out"] = nn.Linear(width, width)
        self.attn = nn.ModuleDict(parts)
        self.ff = _Mlp(width)
        self.ff_context = None if is_last else _Mlp(width)

    def forward(self, x_BTW: Tensor, text_BLW: Tensor, given_BW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, T, W) and (B, L, W) features of both streams.

        Args:
            x_BTW: features of the first.
            text_BLW: features of the second.
            given_BW: what modulates them.
        """
        shift, scale, *after = self.norm1(given_BW)
        if self.ff_context is None:
            text_scale, text_shift = self.norm1_context(given_BW)
        else:
            text_shift, text_scale, *text_after = self.norm1_context(given_BW)
        seen_BTW, seen_BLW = self._attend(
            modulated(x_BTW, shift, scale), modulated(text_BLW, text_shift, text_scale)
        )
        x_BTW = _added(x_BTW, self.attn["to_out"]["0"](seen_BTW), self.ff, after)  # type: ignore[index]
        if self.ff_context is not None:
            seen_BLW = self.attn["to_add_out"](seen_BLW)
            text_BLW = _added(text_BLW, seen_BLW, self.ff_context, text_after)
        return x_BTW, text_BLW

    def _attend(self, x_BTW: Tensor, text_BLW: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each position of both streams sees of all of them."""
        both = [
            torch.cat((self.attn[own](x_BTW), self.attn[other](text_BLW)), dim=1)
            for own, other in zip(_READS, _READS_TEXT, strict=True)
        ]
        split = (*both[0].shape[:2], self.num_heads, -1)
        query, key, value = (each.view(split).transpose(1, 2) for each in both)
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return seen[:, : x_BTW.shape[1]], seen[:, x_BTW.shape[1] :]


class Modulation(nn.Module):
    """Numbers that a vector asks of a norm: shifts, scales, gates.

    Args:
        width: features of the vector and of what it modulates, W.
        count: of these, each W numbers.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(width, count * width)

    def forward(self, given_BW: Tensor) -> tuple[Tensor, ...]:
        """Return (B, 1, W) tensors."""
        parts: tuple[Tensor, ...] = self.linear(F.silu(given_BW))[:, None].chunk(self.count, -1)
        return parts


class LastNorm(Modulation):
    """The norm behind the last block."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)

    def normalized(self, x_BTW: Tensor, given_BW: Tensor) -> Tensor:
        """Return (B, T, W) features, normalized and modulated."""
        scale, shift = self(given_BW)
        return modulated(x_BTW, shift, scale)


class _Mlp(nn.Module):
    """Two layers with a GELU, approximated by a hyperbolic tangent."""

    def __init__(self, width: int) -> None:
        super().__init__()
        expand = nn.ModuleDict({"proj": nn.Linear(width, _EXPANSION * width)})
        self.net = nn.ModuleDict({"0": expand, "2": nn.Linear(_EXPANSION * width, width)})

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return (B, T, W) features for (B, T, W) features."""
        inner = F.gelu(self.net["0"]["proj"](x_BTW), approximate="tanh")  # type: ignore[index]
        out: Tensor = self.net["2"](inner)
        return out


def modulated(x_BTW: Tensor, shift_B1W: Tensor, scale_B1W: Tensor) -> Tensor:
    """Return features that are normalized, then scaled by 1 + scale, and shifted."""
    return F.layer_norm(x_BTW, x_BTW.shape[-1:], eps=_EPS) * (1 + scale_B1W) + shift_B1W


def _added(x_BTW: Tensor, seen_BTW: Tensor, mlp: nn.Module, after: Sequence[Tensor]) -> Tensor:
    """Return features with what they have seen and what the MLP makes of that, both gated."""
    gate, shift, scale, mlp_gate = after
    x_BTW = x_BTW + gate * seen_BTW
    out: Tensor = x_BTW + mlp_gate * mlp(modulated(x_BTW, shift, scale))
    return out


def initialize_mmdit(network: nn.Module, *, seed: int) -> None:
    """Set fresh weights as published for MaskGen.

    Matrices and embeddings have deviation 0.02, biases are zero; norms that end a stream are not
    modulated at first.
    """
    initialize_alike(network, seed=seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, Modulation) and module.count == 2:
                module.linear.weight.zero_()
