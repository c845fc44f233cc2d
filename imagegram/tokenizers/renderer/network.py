"""The network of a renderer: a causal transformer over codes, the text before, and a sentence.

Array names: ``B`` rows, ``T`` positions of a row, ``W`` features, ``N`` codes, ``D`` features of
the vector of a code.

>>> sizes = RendererSizes(
...     vocab_size=5,
...     num_codebooks=2,
...     codebook_size=3,
...     dim=4,
...     conditioning="soft",
...     broadcast=True,
...     context_tokens=2,
...     sentence_tokens=3,
...     width=8,
...     depth=1,
...     num_heads=2,
... )
>>> network = fresh_renderer(sizes, np.ones((2, 3, 4), dtype=np.float32), seed=0)
>>> ids, places = torch.tensor([[6, 9, 5, 1]]), torch.tensor([[0, 1, 4, 5]])
>>> segments = torch.zeros_like(ids)
>>> tuple(network(network.read(ids, places, segments), seen_mask(segments)).shape)
(1, 4, 8)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagegram.models.transformer import Head, KeyValues, Transformer, build
from imagegram.tokenizers.renderer.sizes import RendererSizes


class RendererNetwork(nn.Module):
    """A transformer whose positions read BPE tokens, boundaries and codes.

    Args:
        sizes: of the network.

    Attributes:
        vectors: of ``soft``: (K, V, D), each stage with features of deviation 1.
        scales: (K,) deviation that the features of each stage had.
    """

    vectors: Tensor
    scales: Tensor

    def __init__(self, sizes: RendererSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        num_words = sizes.first_code
        if sizes.conditioning == "special":
            num_words += sizes.num_codes
        self.words = nn.Parameter(torch.empty(num_words, width))
        self.places = nn.Parameter(torch.empty(sizes.num_places, width))
        if sizes.conditioning == "soft":
            shape = (sizes.num_codebooks, sizes.codebook_size, sizes.dim)
            self.register_buffer("vectors", torch.zeros(shape))
            self.register_buffer("scales", torch.zeros(sizes.num_codebooks))
            self.projections = nn.ModuleList(
                nn.Linear(sizes.dim, width, bias=False) for _ in range(sizes.num_codebooks)
            )
        if sizes.is_broadcast:
            self.hear = Head(sizes.dim, width, bias=False)  # softly at first: words are louder
        self.transformer = Transformer(width=width, depth=sizes.depth, num_heads=sizes.num_heads)
        self.to_logits = Head(width, sizes.vocab_size + 1)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.words.device

    def set_codebooks(self, codebooks_KVD: NDArray[np.float32]) -> None:
        """Set the vectors of the codes, each stage scaled so that its features have deviation 1.

        The later stages are small corrections; unscaled, nothing would be heard of them.
        """
        vectors_KVD = torch.from_numpy(np.array(codebooks_KVD, dtype=np.float32))
        scale_K = vectors_KVD.square().mean(dim=(1, 2)).sqrt().clamp_min(1e-12)
        self.vectors.copy_(vectors_KVD / scale_K[:, None, None])
        self.scales.copy_(scale_K)

    def embed(self, ids_BT: Tensor) -> Tensor:
        """Return the (B, T, W) features of ids, without their places."""
        if self.sizes.conditioning != "soft":
            embedded: Tensor = self.words[ids_BT]
            return embedded
        codes_BT = ids_BT - self.sizes.first_code
        features_BTW = self.words[ids_BT.clamp_max(self.sizes.boundary)]
        for stage, project in enumerate(self.projections):
            where = torch.nonzero(codes_BT // self.sizes.codebook_size == stage, as_tuple=True)
            codes_N = codes_BT[where] - stage * self.sizes.codebook_size
            projected_NW = project(self.vectors[stage][codes_N])
            features_BTW = features_BTW.index_put(where, projected_NW.to(features_BTW.dtype))
        return features_BTW

    def table(self) -> Tensor:
        """Return the features of all ids, codes too, each computed beside the same others."""
        if self.sizes.conditioning != "soft":
            return self.words
        projected = [
            project(vectors_VD)
            for project, vectors_VD in zip(self.projections, self.vectors, strict=True)
        ]
        return torch.cat([self.words, *projected])

    def read(self, ids_BT: Tensor, places_BT: Tensor, segments_BT: Tensor) -> Tensor:
        """Return the (B, T, W) features of what stands at places, with what sentences hear.

        Args:
            ids_BT: (B, T) int64 ids: of BPE, the boundary, codes.
            places_BT: (B, T) int64 places, see ``sizes.py``.
            segments_BT: (B, T) int64 sentence of each position; -1: it is not there.
        """
        read_BTW = self.embed(ids_BT)
        x_BTW = read_BTW + self.places[places_BT]
        if not self.sizes.is_broadcast:
            return x_BTW
        within_BT = segments_BT.clamp_min(0)
        num = int(within_BT.max()) + 1
        groups_BT = torch.arange(len(ids_BT), device=ids_BT.device)[:, None] * num + within_BT
        codes = (ids_BT >= self.sizes.first_code) & (segments_BT >= 0)
        said_CD = self.said()[ids_BT[codes] - self.sizes.first_code]
        sums_ND = said_CD.new_zeros(len(ids_BT) * num, self.sizes.dim)
        sums_ND = sums_ND.index_add(0, groups_BT[codes], said_CD)
        hears = (places_BT >= self.sizes.beginning) & (segments_BT >= 0)
        heard: Tensor = self.hear(sums_ND)[groups_BT] * hears[..., None]
        return x_BTW + heard

    def said(self) -> Tensor:
        """Return the (K V, D) vectors of all codes in the sizes that they have beside each other.

        Features of a unit vector have deviation 1.
        """
        own = self.vectors * self.scales[:, None, None]
        said: Tensor = own.flatten(0, 1) * math.sqrt(self.sizes.dim)
        return said

    def forward(
        self, x_BTW: Tensor, mask_B1TT: Tensor, *, caches: Sequence[KeyValues] | None = None
    ) -> Tensor:
        """Return (B, T, W) features; ``to_logits`` makes logits of the next token of them.

        Args:
            x_BTW: features of :meth:`read`.
            mask_B1TT: (B, 1, T, T) bool, True where a position (row) sees another (column); with
                caches the columns are all positions so far.
            caches: keys and values of earlier positions, one a block.
        """
        features: Tensor = self.transformer(x_BTW, mask_B1TT, caches=caches)
        return features


def fresh_renderer(
    sizes: RendererSizes, codebooks_KVD: NDArray[np.float32], *, seed: int
) -> RendererNetwork:
    """Build a renderer of some codebooks with the fresh weights of a seed."""
    network = build(RendererNetwork, seed=seed, sizes=sizes)
    assert isinstance(network, RendererNetwork)
    if sizes.conditioning == "soft":
        network.set_codebooks(codebooks_KVD)
    return network


def seen_mask(segments_BT: Tensor) -> Tensor:
    """Return the (B, 1, T, T) mask of positions that see those before them in their own segment.

    >>> seen_mask(torch.tensor([[0, 0, 1]]))[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    return same_BTT.tril()[:, None]
