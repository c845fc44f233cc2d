"""Decoding of rows whose captions are known, for tokenizers whose decoder reads captions.

What a row is decoded to is a function of its ids and of its condition: the caption of a sample is
the one that it was asked for, that of a document the one beside it. Other tokenizers see the ids
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import Captions, caption_of
from imagegram.protocols import (
    CaptionedTokenizer,
    Condition,
    DescribedDocuments,
    Tokenizer,
)
from imagegram.records import Images, Tokens

#: Captions of rows; None: that of none is known.
RowCaptions = Sequence[str | None] | None


def decoded(
    tokenizer: Tokenizer,
    tokens_BT: Tokens,
    *,
    captions: RowCaptions = None,
    output_size: int | None = None,
) -> Any:
    """Return B items of (B, T) ids, under their captions where the decoder reads some.

    Args:
        tokenizer: with its weights.
        tokens_BT: ids.
        captions: caption of every row; None: that of none is known.
        output_size: side of the images in pixels; None: the default.
    """
    if isinstance(tokenizer, CaptionedTokenizer):
        return tokenizer.decode(tokens_BT, output_size=output_size, captions=captions)
    return tokenizer.decode(tokens_BT, output_size=output_size)


def captions_of_documents(
    tokenizer: Tokenizer, documents: Any, ids: Sequence[int] | NDArray[np.integer[Any]]
) -> RowCaptions:
    """Return the captions of documents for a decoder that reads them; None: nothing is read."""
    if not isinstance(tokenizer, CaptionedTokenizer):
        return None
    if not isinstance(documents, DescribedDocuments):
        return None
    found = documents.metadata_of(np.asarray(ids))
    return [caption_of(metadata, tokenizer.captions) for metadata in found]


def captions_of_samples(condition: Condition | None, samples: NDArray[np.uint64]) -> RowCaptions:
    """Return the captions that samples are asked for; None: they are asked for none."""
    return condition.texts_of(samples) if isinstance(condition, Captions) else None


def audited_pictures(
    tokenizer: Tokenizer, images: Images, *, output_size: int | None = None
) -> tuple[Tokens, Images]:
    """Return the (B, T) uint16 tokens of pictures, and the pictures to be shown.

    They are as large as those that the tokenizer decodes, so that sets compare.

    Args:
        tokenizer: with its weights, of images of one length.
        images: (B, H, W, 3) uint8.
        output_size: side of the images in pixels; None: the default of the tokenizer.
    """
    from imagegram.images.resampling import resize

    tokens_BT = encoded_pictures(tokenizer, images)
    side = len(decoded(tokenizer, tokens_BT[:1], output_size=output_size)[0])
    return tokens_BT, np.stack([resize(image, side) for image in images])


def encoded_pictures(tokenizer: Tokenizer, images: Images) -> Tokens:
    """Return the (B, T) uint16 tokens of pictures, some at a time.

    Args:
        tokenizer: with its weights, of images of one length.
        images: (B, H, W, 3) uint8.
    """
    size = tokenizer.batch_size or len(images) or 1
    found = [np.empty((0, tokenizer.spec.length), dtype=np.uint16)]
    for first in range(0, len(images), size):
        prepared = [tokenizer.prepare(image) for image in images[first : first + size]]
        found.append(np.stack(list(tokenizer.encode(prepared).documents)))
    return np.concatenate(found)
