"""Trace arrays: made here, filled by every engine.

===================  =======  ==================================================================
``suffix_len``       uint16   tokens of context used (the leading separator counts as one)
``num_contexts``     uint32   candidates: occurrences that could decide
``num_distinct``     uint16   distinct next tokens among them
``probability``      float32  of the token under the sampler; 0 when it could not occur
``entropy``          float32  bits of the sampler's distribution
``source_document``  int32    document that the token was taken from; -1: none
``source_position``  int32    position of the token inside that document; -1: none
===================  =======  ==================================================================

>>> empty_trace(2, 3)["source_document"].tolist()
[[-1, -1, -1], [-1, -1, -1]]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import TokenError
from imagegram.records import EOS_TOKEN_ID, Tokens


def empty_trace(num_samples: int, num_tokens: int) -> dict[str, NDArray[Any]]:
    """Make (B, T) arrays of zeros; sources are -1, that is none."""
    shape = (num_samples, num_tokens)
    return {
        "suffix_len": np.zeros(shape, dtype=np.uint16),
        "num_contexts": np.zeros(shape, dtype=np.uint32),
        "num_distinct": np.zeros(shape, dtype=np.uint16),
        "probability": np.zeros(shape, dtype=np.float32),
        "entropy": np.zeros(shape, dtype=np.float32),
        "source_document": np.full(shape, -1, dtype=np.int32),
        "source_position": np.full(shape, -1, dtype=np.int32),
    }


def check_rows(tokens_BT: Tokens, num_tokens: int, *, padded: bool = False) -> None:
    """Refuse rows that are no images of the layout.

    Args:
        tokens_BT: the rows.
        num_tokens: T of the layout.
        padded: whether a row may end early, with separators behind its end.

    Raises:
        TokenError: naming the shape, or the first row that holds a separator among its tokens.
    """
    if tokens_BT.ndim != 2 or tokens_BT.shape[1] != num_tokens or tokens_BT.dtype != np.uint16:
        raise TokenError(
            f"rows of shape {tokens_BT.shape} and dtype {tokens_BT.dtype} are no images of this "
            f"tokenizer; give a uint16 array of shape (B, {num_tokens})"
        )
    is_separator_BT = tokens_BT == EOS_TOKEN_ID
    if padded:  # behind its end a row holds nothing else
        is_separator_BT = is_separator_BT[:, :-1] & ~is_separator_BT[:, 1:]
    separators = is_separator_BT.any(axis=1)
    if separators.any():
        place = " before its end" if padded else ""
        raise TokenError(
            f"row {int(np.argmax(separators))} holds the separator {EOS_TOKEN_ID}{place}, which is "
            "no token of an image; give the documents without their separators"
        )
