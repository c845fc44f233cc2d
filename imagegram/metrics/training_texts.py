"""Texts of the training corpus, decoded from its tokens, for metrics that compare texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from imagegram.protocols import Reference


def training_texts(reference: Reference, *, max_bytes: int | None = None) -> Iterator[str]:
    """Yield whole training documents, in an order that the seed decides.

    Args:
        reference: the corpus.
        max_bytes: stop before the first document with which they would be longer; None: all.
    """
    index, total = reference.index, 0
    rng = np.random.Generator(np.random.Philox(key=reference.seed))
    for document in rng.permutation(index.num_documents).tolist():
        tokens = index.document(document)
        text = str(reference.decode(tokens[None])[0])
        total += len(text.encode("utf-8", "surrogatepass"))
        if max_bytes is not None and total > max_bytes:
            return
        yield text
