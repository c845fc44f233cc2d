"""Find audited images that are held out of the corpus: no score counts them as copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from imagegram.executors.threads import chunks
from imagegram.protocols import ImageSet
from imagegram.records import Tokens
from imagegram.stages.tokens import TokenSet

#: Rows of tokens that are hashed at a time.
_ROWS: Final = 256


def held_out_copies(holdout: TokenSet, audited: ImageSet) -> list[str]:
    """Say how many audited images are held-out ones, which no score counts as copies.

    Whoever made the images may have seen all of the corpus.
    """
    if not holdout.num_documents or holdout.length != audited.tokens.shape[1]:
        return []
    blocks = chunks(range(holdout.num_documents), size=_ROWS)
    held = {row for block in blocks for row in _row_hashes(holdout.gather(block))}
    found = sum(row in held for row in _row_hashes(audited.tokens))
    if not found:
        return []
    of_all = f"{found:,} of the {audited.num_images:,} audited images"
    are = "is a held-out image" if found == 1 else "are held-out images"
    return [
        f"{of_all} {are}, token by token, and count as unseen here; a model that was trained on "
        "the whole corpus has seen them."
    ]


def _row_hashes(tokens_BT: Tokens) -> Iterator[bytes]:
    return (hashlib.sha256(row.tobytes()).digest() for row in tokens_BT)
