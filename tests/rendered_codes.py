"""A tokenizer of sentences in memory: words hashed to vectors, codebooks drawn from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.tokenizers.bpe import BpeTokenizer, train
from imagegram.tokenizers.renderer.items import Sentences
from imagegram.tokenizers.renderer.rendering import sentence_ids
from imagegram.tokenizers.renderer.sizes import RendererSizes


@dataclass(frozen=True, kw_only=True)
class ToyCodes:
    """K codebooks of V random vectors; a sentence is the sum of the vectors of its words."""

    num_codebooks: int = 3
    codebook_size: int = 5
    dim: int = 6
    seed: int = 0

    def identity(self) -> Any:
        return {"toy": [self.num_codebooks, self.codebook_size, self.dim, self.seed]}

    @cached_property
    def codebooks(self) -> NDArray[np.float32]:
        rng = np.random.default_rng(self.seed)
        shape = (self.num_codebooks, self.codebook_size, self.dim)
        halves = 0.5 ** np.arange(self.num_codebooks)
        return (rng.normal(size=shape) * halves[:, None, None]).astype(np.float32)

    @property
    def sentences(self) -> Any:
        raise NotImplementedError

    @property
    def sentence_codes(self) -> Any:
        raise NotImplementedError

    def embed(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(sentences), self.dim), dtype=np.float32)
        for vector, sentence in zip(vectors, sentences, strict=True):
            for word in sentence.split():
                vector += np.random.default_rng(zlib.crc32(word.encode())).normal(size=self.dim)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
        return vectors

    def quantize(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        left, codes = np.array(vectors), []
        for codebook in self.codebooks:
            codes.append(((left[:, None] - codebook) ** 2).sum(-1).argmin(1))
            left = left - codebook[codes[-1]]
        return np.stack(codes, axis=1)

    def vectors(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        found = self.codebooks[np.arange(codes.shape[1]), np.maximum(codes, 0)]
        total: NDArray[np.float32] = (found * (codes >= 0)[..., None]).sum(axis=1)
        return total


@dataclass(frozen=True, kw_only=True)
class ToySentences:
    """Sentences in memory."""

    ids: NDArray[np.uint16]
    ends: NDArray[np.int64]
    first: NDArray[np.int64]
    codes: NDArray[np.uint16]

    @classmethod
    def of(cls, stories: Sequence[Sequence[str]], bpe: BpeTokenizer, codes: ToyCodes) -> Sentences:
        every = [sentence for story in stories for sentence in story]
        ids = sentence_ids(bpe, every)
        starts = np.cumsum([0, *map(len, stories)])
        return cls(
            ids=np.concatenate(ids),
            ends=np.cumsum([0, *map(len, ids)]),
            first=np.repeat(starts[:-1], np.diff(starts)),
            codes=codes.quantize(codes.embed(every)).astype(np.uint16),
        )

    def identity(self) -> Any:
        return {"ids": self.ids.tolist(), "codes": self.codes.tolist()}


STORIES = [
    ["The cat sat.", "It was a fat cat, and it sat on a mat.", "No."],
    ["A dog ran."],
    ["Fish swim.", "Fish swim in the sea, and the sea is blue and wide and deep and cold.", "Ah!"],
    ["It says <c0_0001> there.", "And c0=17 too."],
]


def toy_bpe(folder: Path) -> BpeTokenizer:
    """Merges of the stories."""
    path = folder / "tokenizer.json"
    if not path.exists():
        texts = [" ".join(story) for story in STORIES] * 3
        train(texts, vocab_size=300, path=path)
    return BpeTokenizer(checkpoint=str(path))


def toy_sizes(bpe: BpeTokenizer, codes: ToyCodes, **changes: Any) -> RendererSizes:
    """Sizes of a small network."""
    values: dict[str, Any] = {
        "vocab_size": bpe.vocab_size,
        "num_codebooks": codes.num_codebooks,
        "codebook_size": codes.codebook_size,
        "dim": codes.dim,
        "conditioning": "soft",
        "broadcast": True,
        "context_tokens": 4,
        "sentence_tokens": 12,
        "width": 16,
        "depth": 2,
        "num_heads": 2,
    }
    return RendererSizes(**(values | changes))
