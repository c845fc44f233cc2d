"""ChunkAutoencoder: a few tokens as one Gaussian of a few numbers, and back.

After Shao et al., "Continuous Autoregressive Language Models" (arXiv 2510.27688): every chunk is
encoded for itself, its decoder gives the tokens independently of each other, given the latent. A
share of the tokens is hidden from the encoder while it learns, so that latents are robust.

>>> network = ChunkAutoencoder(
...     vocab_size=9, chunk_size=4, latent_size=2, width=8, depth=1, num_heads=0
... )
>>> ids = torch.zeros(3, 5, 4, dtype=torch.int64)
>>> gaussians = network.encode(ids)
>>> tuple(gaussians.mean.shape), tuple(network.decode(gaussians.mean).shape)
((3, 5, 2), (3, 5, 4, 9))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imagegram.models.gaussians import Gaussians
from imagegram.models.hub import HubNetwork
from imagegram.models.transformer import GatedMlp, Head, Stack, Transformer


class ChunkAutoencoder(HubNetwork):
    """An encoder of chunks to Gaussians, and a decoder of latents to logits.

    Args:
        vocab_size: number of ids, V.
        chunk_size: tokens of a chunk, C.
        latent_size: numbers of a latent, D.
        width: features of a token, and of a chunk in between, W.
        depth: blocks of encoder and decoder.
        num_heads: attention heads over the tokens of a chunk; 0: MLPs, no attention.
    """

    FAMILY = "chunk_autoencoder"

    def __init__(
        self,
        *,
        vocab_size: int,
        chunk_size: int,
        latent_size: int,
        width: int,
        depth: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.vocab_size, self.chunk_size, self.latent_size = vocab_size, chunk_size, latent_size
        self.ids = nn.Parameter(torch.empty(vocab_size + 1, width))  # the last one hides a token
        sizes = {"width": width, "depth": depth, "chunk_size": chunk_size}
        if num_heads:
            self.encoder: nn.Module = _AttentionEncoder(num_heads=num_heads, **sizes)
            self.decoder: nn.Module = _AttentionDecoder(num_heads=num_heads, **sizes)
        else:
            self.encoder, self.decoder = _MlpEncoder(**sizes), _MlpDecoder(**sizes)
        self.to_moments = nn.Linear(width, 2 * latent_size)
        self.from_latent = nn.Linear(latent_size, width)
        self.to_logits = Head(width, vocab_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.ids.device

    def encode(self, ids_BNC: Tensor, hidden_BNC: Tensor | None = None) -> Gaussians:
        """Return the Gaussians, (B, N, D), of (B, N, C) ids.

        Args:
            ids_BNC: int64 ids.
            hidden_BNC: bool, which of them the encoder does not see; None: it sees all.
        """
        if hidden_BNC is not None:
            ids_BNC = ids_BNC.masked_fill(hidden_BNC, self.vocab_size)
        batch, num_chunks, _ = ids_BNC.shape
        features_RW = self.encoder(self.ids[ids_BNC.flatten(0, 1)])
        return Gaussians.of(self.to_moments(features_RW).view(batch, num_chunks, -1))

    def decode(self, latents_BND: Tensor) -> Tensor:
        """Return the (B, N, C, V) logits of (B, N, D) latents."""
        batch, num_chunks, _ = latents_BND.shape
        features_RCW = self.decoder(self.from_latent(latents_BND.flatten(0, 1)))
        logits_RCV: Tensor = self.to_logits(features_RCW)
        return logits_RCV.view(batch, num_chunks, self.chunk_size, self.vocab_size)


class _MlpBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, bias=False)
        self.mlp = GatedMlp(width=width)

    def forward(self, x_RW: Tensor) -> Tensor:
        out: Tensor = x_RW + self.mlp(self.norm(x_RW))
        return out


class _Mlps(Stack):
    """Residual MLPs and a last norm; (R, W) to (R, W)."""

    branch_ends = ("mlp.out.weight",)

    def __init__(self, *, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_MlpBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, x_RW: Tensor) -> Tensor:
        for block in self.blocks:
            x_RW = block(x_RW)
        out: Tensor = self.norm(x_RW)
        return out


class _MlpEncoder(nn.Module):
    """(R, C, W) features of tokens to (R, W) features of chunks."""

    def __init__(self, *, width: int, depth: int, chunk_size: int) -> None:
        super().__init__()
        self.join = nn.Linear(chunk_size * width, width)
        self.mlps = _Mlps(width=width, depth=depth)

    def forward(self, x_RCW: Tensor) -> Tensor:
        out: Tensor = self.mlps(self.join(x_RCW.flatten(1)))
        return out


class _MlpDecoder(nn.Module):
    """(R, W) features of chunks to (R, C, W) features of tokens."""

    def __init__(self, *, width: int, depth: int, chunk_size: int) -> None:
        super().__init__()
        self.mlps = _Mlps(width=width, depth=depth)
        self.split = nn.Linear(width, chunk_size * width)
        self.norm = nn.LayerNorm(width, bias=False)

    def forward(self, x_RW: Tensor) -> Tensor:
        features_RX = self.split(self.mlps(x_RW))
        out: Tensor = self.norm(features_RX.view(len(x_RW), -1, x_RW.shape[1]))
        return out


class _AttentionEncoder(nn.Module):
    """(R, C, W) features of tokens to (R, W), the mean of what attention makes of them."""

    def __init__(self, *, width: int, depth: int, chunk_size: int, num_heads: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(chunk_size, width))
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)

    def forward(self, x_RCW: Tensor) -> Tensor:
        out: Tensor = self.transformer(x_RCW + self.positions).mean(dim=1)
        return out


class _AttentionDecoder(nn.Module):
    """(R, W) features of chunks to (R, C, W) features of tokens, which see each other."""

    def __init__(self, *, width: int, depth: int, chunk_size: int, num_heads: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(chunk_size, width))
        self.transformer = Transformer(width=width, depth=depth, num_heads=num_heads)

    def forward(self, x_RW: Tensor) -> Tensor:
        out: Tensor = self.transformer(x_RW[:, None] + self.positions)
        return out
