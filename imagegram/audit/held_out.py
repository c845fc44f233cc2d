"""Find audited items that are held out of the corpus: no score counts them as copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from imagegram.executors.threads import chunks
from imagegram.images.modality import IMAGES
from imagegram.protocols import DocumentSource, ImageSet, Modality
from imagegram.records import Tokens

#: Rows of tokens that are hashed at a time.
_ROWS: Final = 256


def held_out_copies(
    holdout: DocumentSource, audited: ImageSet, modality: Modality = IMAGES
) -> list[str]:
    """Say how many audited items are held-out ones, which no score counts as copies.

    Whoever made them may have seen all of the corpus.
    """
    width = audited.tokens.shape[1]
    if not holdout.num_documents or holdout.gather(range(1)).shape[1] != width:
        return []
    blocks = chunks(range(holdout.num_documents), size=_ROWS)
    held = {row for block in blocks for row in _row_hashes(holdout.gather(block))}
    found = sum(row in held for row in _row_hashes(audited.tokens))
    if not found:
        return []
    of_all = f"{found:,} of the {audited.num_images:,} audited {modality.nouns}"
    are = f"is a held-out {modality.noun}" if found == 1 else f"are held-out {modality.nouns}"
    return [
        f"{of_all} {are}, token by token, and count as unseen here; a model that was trained on "
        "the whole corpus has seen them."
    ]


def _row_hashes(tokens_BT: Tokens) -> Iterator[bytes]:
    return (hashlib.sha256(row.tobytes()).digest() for row in tokens_BT)
