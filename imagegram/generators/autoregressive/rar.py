"""RAR's own network: every layer of every step is modulated by the class and the step.

Yu et al., "Randomized Autoregressive Visual Generation" (arXiv 2411.00776). Before the tokens stand
a learned token and the class. A step adds up the token that it has seen, its position, and the
position that it is asked for (the *target*); norms are shifted, scaled and gated by class + step
(adaLN-zero: Peebles, Xie, arXiv 2212.09748). Names of parameters are those of the published files.

Array names: ``B`` samples, ``T`` tokens, ``S`` places of the sequence (T + 1: the learned token,
the class, all tokens but the last), ``C`` classes, ``V`` ids, ``W`` features.

>>> sizes = dict(vocab_size=5, num_tokens=3, width=8, depth=1, num_heads=2, hidden=32, dropout=0.0)
>>> network = Rar(**sizes, num_classes=2)
>>> tuple(network(torch.tensor([[0, 4, 1]]), None, torch.tensor([1])).shape)
(1, 3, 8)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagegram.generators.autoregressive.rar_tables import MORE_POSITIONS, MORE_STEPS
from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import KeyValues

#: Places before the first token: a learned token, and the class.
PREFIX: Final = 2
_EPS: Final = 1e-6
_STD: Final = 0.02
#: Numbers that modulate the layers at the next places, at most: 64 MB.
_MAX_MODULATIONS: Final = 1 << 24


@dataclass
class RarSteps:
    """What the steps of some rows share.

    Attributes:
        caches: keys and values of earlier places, one a block.
        classes: (B,) class of every row.
        different: (C,) the classes that differ.
        which: (B,) which of them a row has.
        modulations: for each block, and at last for the head, (C, S, 6 W or 2 W) what modulates
            the places ``first`` ... ``end - 1``.
    """

    caches: list[KeyValues]
    classes: Tensor
    different: Tensor
    which: Tensor
    modulations: list[Tensor] = field(default_factory=list)
    first: int = 0
    end: int = 0


class Rar(HubNetwork):
    """A causal transformer, modulated by class and step.

    Args:
        vocab_size: number of ids of a token, V.
        num_tokens: number of positions, T.
        width: features of a step, W.
        depth: number of blocks.
        num_heads: divides ``width``.
        hidden: width of the MLPs.
        dropout: share that is dropped in training, of features and of attention.
        num_classes: number of labels, K; class K is no label.
    """

    FAMILY = "rar"

    def __init__(
        self,
        *,
        vocab_size: int,
        num_tokens: int,
        width: int,
        depth: int,
        num_heads: int,
        hidden: int,
        dropout: float,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.vocab_size, self.num_tokens, self.num_classes = vocab_size, num_tokens, num_classes
        self.num_heads = num_heads
        rows = num_tokens + MORE_POSITIONS
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        # Ids, one that is never used (a mask), classes, and no class.
        self.embeddings = nn.Embedding(vocab_size + 1 + num_classes + 1, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, width))
        self.target_aware_pos_embed = nn.Parameter(torch.zeros(1, rows, width))
        self.timesteps_embeddings = nn.Parameter(torch.zeros(1, num_tokens + MORE_STEPS, width))
        self.blocks = nn.ModuleList(
            Block(width=width, num_heads=num_heads, hidden=hidden, dropout=dropout)
            for _ in range(depth)
        )
        self.adaln_before_head = LastNorm(width)
        self.lm_head = nn.Linear(width, vocab_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.cls_token.device

    def forward(
        self, ids_BT: Tensor, order_BT: Tensor | None = None, classes_B: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, W) features of all steps at once; ``to_logits`` makes logits of them.

        Args:
            ids_BT: (B, T) int64 ids, in the order of the positions.
            order_BT: (B, T) int64 position of the token of every step; None: raster order.
            classes_B: (B,) int64 class of every row; None: all have none.
        """
        batch, length = ids_BT.shape
        if classes_B is None:
            classes_B = torch.full((batch,), self.num_classes, device=ids_BT.device)
        if order_BT is None:
            order_BT = torch.arange(length, device=ids_BT.device).expand(batch, -1)
        places_BT = order_BT + PREFIX
        seen_BTW = self.embeddings(ids_BT.gather(1, order_BT)) + self.pos_embed[0, places_BT]
        prefix_B2W = self._prefix(classes_B)
        x_BSW = torch.cat([prefix_B2W, seen_BTW[:, :-1]], dim=1)
        targets_BTW = self.target_aware_pos_embed[0, places_BT]
        x_BSW = torch.cat([x_BSW[:, :1], x_BSW[:, 1:] + targets_BTW], dim=1)
        given_BSW = self._given(classes_B, 0, length + 1)
        for block in self.blocks:
            x_BSW = block(x_BSW, given_BSW)
        features: Tensor = self.adaln_before_head(x_BSW[:, 1:], given_BSW[:, 1:])
        return features

    def to_logits(self, features: Tensor) -> Tensor:
        """Return (..., V) logits of features."""
        logits: Tensor = self.lm_head(features)
        return logits

    def begin(self, classes_B: Tensor) -> RarSteps:
        """Return what the steps of some rows share, before the first.

        Args:
            classes_B: (B,) class of every row.
        """
        weight = self.lm_head.weight
        rows, width = len(classes_B), weight.shape[1]
        shape = (rows, self.num_heads, self.num_tokens + 1, width // self.num_heads)
        different_C, which_B = torch.unique(classes_B, return_inverse=True)
        caches = [
            KeyValues(key=weight.new_zeros(shape), value=weight.new_zeros(shape))
            for _ in self.blocks
        ]
        return RarSteps(caches=caches, classes=classes_B, different=different_C, which=which_B)

    def step(self, last_B: Tensor | None, step: int, steps: RarSteps) -> Tensor:
        """Return (B, V) logits of the token of one step, in raster order.

        Args:
            last_B: (B,) ids of the step before; None: this is the first.
            step: 0 ... T - 1.
            steps: of :meth:`begin`, after the steps before.
        """
        target_W = self.target_aware_pos_embed[0, step + PREFIX]
        if last_B is None:
            prefix_B2W = self._prefix(steps.classes)
            x_BSW = torch.stack([prefix_B2W[:, 0], prefix_B2W[:, 1] + target_W], dim=1)
        else:
            seen_BW = self.embeddings(last_B) + self.pos_embed[0, step - 1 + PREFIX]
            x_BSW = (seen_BW + target_W)[:, None]
        first = step + 2 - x_BSW.shape[1]
        if steps.end < step + 2:
            self._modulate(steps, first)
        here = slice(first - steps.first, step + 2 - steps.first)
        *inner, last_CSX = [table_CSX[:, here] for table_CSX in steps.modulations]
        for block, cache, table_CSX in zip(self.blocks, steps.caches, inner, strict=True):
            x_BSW = block.modulated(x_BSW, table_CSX[steps.which], cache)  # type: ignore[operator]
        features_BSW = self.adaln_before_head.modulated(
            x_BSW[:, -1:], last_CSX[steps.which][:, -1:]
        )
        return self.to_logits(features_BSW[:, 0])

    def _modulate(self, steps: RarSteps, first: int) -> None:
        """Compute what modulates the layers at the next places, once for all rows of a class.

        Places are taken many at a time: the weights of modulations, a third of all, are read once
        for them.
        """
        width, classes = self.lm_head.weight.shape[1], len(steps.different)
        size = max(_MAX_MODULATIONS // (classes * 6 * width * len(self.blocks)), PREFIX)
        steps.first, steps.end = first, min(first + size, self.num_tokens + 1)
        given_CSW = self._given(steps.different, steps.first, steps.end)
        layers: list[Any] = [*self.blocks, self.adaln_before_head]
        steps.modulations = [layer.adaLN_modulation(given_CSW) for layer in layers]

    def _prefix(self, classes_B: Tensor) -> Tensor:
        """Return (B, 2, W) features of the places before the first token, without targets."""
        first_B1W = self.cls_token.expand(len(classes_B), -1, -1)
        prefix_B2W = torch.cat([first_B1W, self._of_classes(classes_B)[:, None]], dim=1)
        return prefix_B2W + self.pos_embed[:, :PREFIX]

    def _given(self, classes_B: Tensor, first: int, end: int) -> Tensor:
        """Return (B, S, W) features that modulate the places ``first`` ... ``end - 1``."""
        return self._of_classes(classes_B)[:, None] + self.timesteps_embeddings[:, first:end]

    def _of_classes(self, classes_B: Tensor) -> Tensor:
        embedded: Tensor = self.embeddings(classes_B + (self.vocab_size + 1))
        return embedded


class Block(nn.Module):
    """Attention, then the MLP, each between a modulated norm and a gate."""

    def __init__(self, *, width: int, num_heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = Mlp(width=width, hidden=hidden, dropout=dropout)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x_BSW: Tensor, given_BSW: Tensor) -> Tensor:
        """Return (B, S, W) features for (B, S, W) features, modulated by others."""
        return self.modulated(x_BSW, self.adaLN_modulation(given_BSW))

    def modulated(
        self, x_BSW: Tensor, modulation_BSX: Tensor, cache: KeyValues | None = None
    ) -> Tensor:
        """Return (B, S, W) features for (B, S, W) features.

        Args:
            x_BSW: features.
            modulation_BSX: (B, S, 6 W) shifts, scales and gates, of attention and MLP.
            cache: keys and values of earlier places.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation_BSX.chunk(6, dim=-1)
        seen_BSW = self.attn(self.norm1(x_BSW) * (1 + scale1) + shift1, cache)
        x_BSW = x_BSW + gate1 * seen_BSW
        out: Tensor = x_BSW + gate2 * self.mlp(self.norm2(x_BSW) * (1 + scale2) + shift2)
        return out


class Attention(nn.Module):
    """Causal self-attention with normalized queries and keys."""

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // num_heads, eps=_EPS)
        self.k_norm = nn.LayerNorm(width // num_heads, eps=_EPS)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BSW: Tensor, cache: KeyValues | None = None) -> Tensor:
        """Return (B, S, W) features; with a filled cache S is 1."""
        batch, length, width = x_BSW.shape
        split = self.qkv(x_BSW).view(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        # Under autocast the norms give float32 and the projection does not.
        query, key = (self.q_norm(query).to(value.dtype), self.k_norm(key).to(value.dtype))
        is_first = cache is None or not cache.length
        if cache is not None:
            key, value = cache.extend(key, value)
        seen = F.scaled_dot_product_attention(
            query,
            key,
            value,
            is_causal=is_first,
            dropout_p=self.dropout if self.training else 0.0,
        )
        out: Tensor = self.proj(seen.transpose(1, 2).reshape(batch, length, width))
        return F.dropout(out, self.dropout, self.training)


class Mlp(nn.Module):
    """Two layers with a GELU."""

    def __init__(self, *, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BSW: Tensor) -> Tensor:
        """Return (B, S, W) features for (B, S, W) features."""
        inner = F.dropout(F.gelu(self.fc1(x_BSW)), self.dropout, self.training)
        return F.dropout(self.fc2(inner), self.dropout, self.training)


class LastNorm(nn.Module):
    """The norm before the head, without gains of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x_BSW: Tensor, given_BSW: Tensor) -> Tensor:
        """Return (B, S, W) features for (B, S, W) features, modulated by others."""
        return self.modulated(x_BSW, self.adaLN_modulation(given_BSW))

    def modulated(self, x_BSW: Tensor, modulation_BSX: Tensor) -> Tensor:
        """Return (B, S, W) features; scales and shifts are (B, S, 2 W)."""
        scale, shift = modulation_BSX.chunk(2, dim=-1)
        return F.layer_norm(x_BSW, (self.width,), eps=_EPS) * (1 + scale) + shift


def fresh_rar(*, seed: int, **sizes: Any) -> Rar:
    """Build a network with fresh weights, which depend only on sizes and seed.

    Matrices and tables are truncated normal with deviation 0.02; biases, the learned first token
    and all modulations are zero, so that fresh blocks pass on what they read.
    """
    with torch.random.fork_rng(devices=[]):
        network = Rar(**sizes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") or "adaLN" in name or name == "cls_token":
                parameter.zero_()
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                nn.init.trunc_normal_(parameter, std=_STD, generator=generator)
    return network
