"""Rendering: rows of codes to sentences, each with the text that was written before it.

A sentence is a function of the codes of its own row up to and with itself, and of the seed: its
random numbers are drawn by a hash of these codes, a stream for each candidate. So a row reads the
same alone and among others, and rows that begin with the same codes begin with the same text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.seeding import uniform_rows
from imagegram.tokenizers.bpe import BpeTokenizer
from imagegram.tokenizers.renderer.drawing import Asked, Drawing, Drawn, draw
from imagegram.tokenizers.renderer.items import Ids, Reader
from imagegram.tokenizers.renderer.network import RendererNetwork
from imagegram.tokenizers.renderer.rerank import agreement, best, cosines, stage_weights
from imagegram.tokenizers.sentence_rvq.decoders import SentenceCodes
from imagegram.tokenizers.sentence_rvq.quantizers import Codes


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A network that writes the sentences of codes.

    Attributes:
        network: in evaluation mode.
        reader: what the network is told.
        bpe: tokenizer of the texts.
        codes: tokenizer of the codes; judges candidates.
        how: temperature and what is cut away.
        num_candidates: sentences that are written for each one that is kept.
        rerank: how that one is chosen, see ``rerank.py``.
        seed: of all random numbers.
    """

    network: RendererNetwork
    reader: Reader
    bpe: BpeTokenizer
    codes: SentenceCodes
    how: Drawing
    num_candidates: int
    rerank: str
    seed: int

    def write(self, rows: Sequence[Codes]) -> list[list[str]]:
        """Return the sentences of rows.

        Args:
            rows: (S, K) codes of each row, 0 ... V - 1; -1: not known.
        """
        contexts: list[Ids] = [np.empty(0, dtype=np.int64) for _ in rows]
        texts: list[list[str]] = [[] for _ in rows]
        for number in range(max(map(len, rows), default=0)):
            active = [row for row, codes in enumerate(rows) if len(codes) > number]
            keys = [row_key(rows[row][: number + 1]) for row in active]
            wanted = np.array([rows[row][number] for row in active], dtype=np.int64)
            before = [contexts[row] for row in active]
            kept = self.sentences(wanted, before, np.array(keys, dtype=np.uint64))
            for row, (drawn, text) in zip(active, kept, strict=True):
                contexts[row] = np.concatenate([contexts[row], drawn.ids])
                texts[row].append(text)
        return texts

    def sentences(
        self, codes_RK: NDArray[np.int64], contexts: Sequence[Ids], keys: NDArray[np.uint64]
    ) -> list[tuple[Drawn, str]]:
        """Return one sentence for each of R codes, the best of its candidates.

        Args:
            codes_RK: (R, K) codes.
            contexts: BPE ids before each sentence.
            keys: (R,) key of the random numbers of each.
        """
        candidates = self.candidates(codes_RK, contexts, keys)
        texts = [[self.text(drawn) for drawn in some] for some in candidates]
        if self.num_candidates == 1:
            return [(some[0], text[0]) for some, text in zip(candidates, texts, strict=True)]
        chosen = chosen_of(candidates, self.scores(texts, codes_RK))
        return [
            (some[place], text[place])
            for some, text, place in zip(candidates, texts, chosen.tolist(), strict=True)
        ]

    def candidates(
        self, codes_RK: NDArray[np.int64], contexts: Sequence[Ids], keys: NDArray[np.uint64]
    ) -> list[list[Drawn]]:
        """Return all candidates of each of R sentences; arguments as in :meth:`sentences`."""
        length, count = self.network.sizes.sentence_tokens, self.num_candidates
        uniforms = [
            uniform_rows(seed=self.seed, samples_B=keys, num_tokens=length, step=candidate)[0]
            for candidate in range(count)
        ]
        asked = [
            Asked(codes_K.tolist(), contexts[row], uniforms[candidate][row])
            for row, codes_K in enumerate(codes_RK)
            for candidate in range(count)
        ]
        drawn = draw(self.network, self.reader, asked, self.how)
        return [drawn[start : start + count] for start in range(0, len(drawn), count)]

    def scores(
        self, texts: Sequence[Sequence[str]], codes_RK: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the (R, n) scores of candidates by what they say; all 0 without reranking."""
        shape = (len(texts), self.num_candidates)
        if self.rerank == "none" or not texts:
            return np.zeros(shape)
        vectors = self.codes.embed([text for some in texts for text in some])
        wanted_NK = np.repeat(codes_RK, self.num_candidates, axis=0)
        return judged(self.codes, self.rerank, vectors, wanted_NK).reshape(shape)

    def text(self, drawn: Drawn) -> str:
        """Return the text of a sentence, without the space that stands before it."""
        return self.bpe.decode(drawn.ids[None].astype(np.uint16))[0].strip()


def judged(
    codes: SentenceCodes, rerank: str, vectors: NDArray[np.float32], wanted_NK: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the (N,) scores of sentences with these vectors, for the codes that were asked for.

    Args:
        codes: tokenizer of the codes.
        rerank: ``codes`` or ``cosine``.
        vectors: (N, D) vectors of the sentences.
        wanted_NK: (N, K) codes.
    """
    if rerank == "cosine":
        return cosines(vectors, codes.vectors(wanted_NK))
    codes_NK = np.asarray(codes.quantize(vectors), dtype=np.int64)
    return agreement(codes_NK, wanted_NK, stage_weights(codes.codebooks))


def chosen_of(
    candidates: Sequence[Sequence[Drawn]], scores_RN: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the (R,) candidate with the highest score; of equal ones the most probable."""
    return best(scores_RN, np.array([[drawn.log_prob for drawn in some] for some in candidates]))


def row_key(codes: Codes) -> int:
    """Return 64 bits of a hash of the (n, K) codes of a row up to a sentence.

    >>> row_key(np.array([[1, 2]])) == row_key(np.array([[1, 2]], dtype=np.uint16))
    True
    """
    data = np.ascontiguousarray(codes, dtype="<i4").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def sentence_ids(bpe: BpeTokenizer, sentences: Sequence[str]) -> list[Any]:
    """Return the BPE ids of sentences; each has a space before it, as within a text.

    Args:
        bpe: trained tokenizer.
        sentences: of a text; white space around them is not written.
    """
    return list(bpe.encode([f" {sentence.strip()}" for sentence in sentences]).documents)
