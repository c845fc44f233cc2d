"""A tokenizer of sentence codes that is learned in a second, and sets of its documents."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagegram.corpora.document_files import JsonlCorpus
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.records import EOS_TOKEN_ID
from imagegram.tokenizers.sentence_rvq.tokenizer import SentenceRvqTokenizer
from tests.documents import documents
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace
from tests.pictures import context, ids_of
from tests.scratch import new_folder
from tests.sentence_encoders import write_encoder

TRAINING = documents(60, seed=11, longest=4)


@functools.cache
def tiny_encoder() -> Path:
    """A folder with a tiny random encoder."""
    return write_encoder(new_folder() / "encoder")


@functools.cache
def coded_tokenizer(seed: int = 0) -> SentenceRvqTokenizer:
    """Codes of sentences, learned from :data:`TRAINING`; another seed, another codebook."""
    folder = new_folder()
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TRAINING))
    recipe = SentenceRvqTokenizer(
        num_codebooks=3,
        codebook_size=8,
        window=4,
        form="greedy",
        fit_seed=seed,
        embedder=SentenceEmbedder(folder=str(tiny_encoder()), max_tokens=24),
    )
    corpus: Any = JsonlCorpus(files=str(path), holdout_fraction=0)
    made: SentenceRvqTokenizer = context(folder).make(recipe.fit(corpus))
    return made


def coded_set(texts: Sequence[str], *, of: SentenceRvqTokenizer | None = None) -> Any:
    """An ImageSet of the codes of texts, with their own sentences, as a real set has."""
    tokenizer = of or coded_tokenizer()
    rows = [ids_of(tokenizer, text)[: tokenizer.spec.length] for text in texts]
    tokens = np.full((len(texts), tokenizer.spec.length), EOS_TOKEN_ID, dtype=np.uint16)
    for out, row in zip(tokens, rows, strict=True):
        out[: len(row)] = row
    sentences = [tokenizer.prepare(text)[: tokenizer.window] for text in texts]
    return MemoryImages(
        tokens,
        free_trace(tokens),
        None,  # type: ignore[arg-type]
        texts=list(texts),
        sentences=sentences,
    )


@dataclass(frozen=True)
class CodedReference(MemoryReference):
    """A training corpus of sentence codes."""

    tokenizer: Any = None

    @classmethod
    def of(cls) -> CodedReference:
        tokenizer = coded_tokenizer()
        return cls(MemoryTokens([]), layout=tokenizer.spec.layout, tokenizer=tokenizer)
