"""Sentences of the rows of a set, where a tokenizer writes sentences as steps.

Of real documents they are those of the corpus, not what a decoder makes of their codes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from imagegram.protocols import SentenceTokenizer, Tokenizer
from imagegram.stages.tokens import Windows

#: File with the numbers of the documents that real rows are of.
DRAWN: Final = "documents.npy"


def has_sentences(tokenizer: Tokenizer | None) -> bool:
    """Return whether the steps of a tokenizer are sentences."""
    return isinstance(tokenizer, SentenceTokenizer)


def sentences_of(images: Any) -> list[list[str]]:
    """Return the sentences of each row of a ``SampleSet`` whose tokenizer writes sentences."""
    documents, tokenizer = images.documents, images.tokenizer
    if not isinstance(documents, Windows):
        found: list[list[str]] = tokenizer.written(np.asarray(images.tokens))
        return found
    drawn = np.load(images.artifact.path / DRAWN)
    per_step = tokenizer.spec.codebooks
    per_row = tokenizer.spec.length // per_step
    rows = []
    for document, start in zip(*documents.locate(drawn), strict=True):
        text = tokenizer.modality.read(documents.tokens.original(int(document)))
        first = int(start) // per_step
        rows.append(tokenizer.prepare(text)[first : first + per_row])
    return rows


def are_real(images: Any) -> bool:
    """Return whether the sentences of a set are those of a corpus, and not what a decoder wrote."""
    return isinstance(getattr(getattr(images, "inner", images), "documents", None), Windows)
