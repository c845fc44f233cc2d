"""A tokenizer of codes that encodes nothing, and documents from a chain of known entropy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenLayout, TokenSpec
from imagegram.stages.tokens import TokenSet
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard, Rows


@dataclass(frozen=True, kw_only=True)
class FakeCodes:
    """Says what the ids of K stages of V codes are, and which vectors they stand for."""

    stages: int = 2
    size: int = 4
    window: int = 4
    vector_width: int = 3
    name: str = field(default="fake_codes")

    @property
    def spec(self) -> TokenSpec:
        """A ragged sequence of steps."""
        layout = TokenLayout.sequence(
            self.window * self.stages, order="raster", num_channels=self.stages
        )
        return TokenSpec(
            vocab_size=self.stages * self.size,
            layout=layout,
            ragged=True,
            codebooks=self.stages,
        )

    @property
    def codebooks(self) -> NDArray[np.float32]:
        """(K, V, D) random vectors."""
        rng = np.random.default_rng(7)
        return rng.normal(size=(self.stages, self.size, self.vector_width)).astype(np.float32)


def token_set(root: Any, rows: Any, tokenizer: Any) -> TokenSet:
    """Documents of ids, ragged, as that tokenizer would have written them."""
    documents: Rows = tuple(tuple(map(int, row)) for row in rows)
    made = context(root).make(FakeTokens(parts=(FakeTokenShard(rows=documents, length=None),)))
    return TokenSet(
        artifact=made.artifact,
        images=(),
        window=tokenizer.spec.length,
        tokenizer=tokenizer,
    )


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Documents that are a Markov chain of sentences, each the tuple of codes of its number.

    Attributes:
        sentences: number of different sentences.
        stay: probability that a document goes on behind a sentence.
    """

    tokenizer: FakeCodes
    sentences: int = 12
    stay: float = 0.85

    @property
    def next(self) -> NDArray[np.float64]:
        """(M, M) probability of a sentence after another, of two likely ones and all others."""
        m = self.sentences
        p = np.full((m, m), 0.1 / (m - 2))
        for number in range(m):
            p[number, (number + 1) % m], p[number, (5 * number + 2) % m] = 0.6, 0.3
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    @property
    def tuples(self) -> NDArray[np.int64]:
        """(M, K) ids of every sentence; no two have the same."""
        k, v = self.tokenizer.stages, self.tokenizer.size
        numbers = np.random.default_rng(3).permutation(v**k)[: self.sentences]
        codes = np.stack([numbers // v**stage % v for stage in range(k)], axis=1)
        return np.asarray(codes + v * np.arange(k))

    def documents(self, count: int, *, seed: int) -> tuple[list[list[int]], float]:
        """Draw documents; return their ids, and the entropy of all their choices in nats.

        The entropy is that of every choice that was faced, exactly, not that of what was drawn.
        """
        rng, next_of, tuples = np.random.default_rng(seed), self.next, self.tuples
        goes_on = _entropy(np.array([self.stay, 1 - self.stay]))
        of_next = [_entropy(row) for row in next_of]
        found, nats = [], 0.0
        for _ in range(count):
            sentence = int(rng.integers(self.sentences))
            ids, size = list(tuples[sentence]), 1
            nats += np.log(self.sentences)
            while size < self.tokenizer.window:
                nats += goes_on
                if rng.random() >= self.stay:
                    break
                nats += of_next[sentence]
                sentence = int(rng.choice(self.sentences, p=next_of[sentence]))
                ids += list(tuples[sentence])
                size += 1
            found.append([int(token) for token in ids])
        return found, nats


def _entropy(p: NDArray[np.float64]) -> float:
    return float(-(p * np.log(p)).sum())
