"""Checks of images, ids and sizes that all tokenizers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import TokenError


def require_image(image: NDArray[Any]) -> None:
    """Refuse an array that is no RGB image.

    Raises:
        TokenError: when ``image`` is not (H, W, 3) uint8.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise TokenError(
            f"encode needs one RGB image (H, W, 3) uint8, got {image.shape} {image.dtype}"
        )


def require_ids(
    tokens_BT: NDArray[np.integer[Any]],
    vocab_size: int,
    describe: Callable[[int], str] | None = None,
    *,
    noun: str = "image",
) -> None:
    """Refuse ids outside the vocabulary; none is ever wrapped.

    Args:
        tokens_BT: (B, T) of any integer dtype.
        vocab_size: ids lie in 0 ... vocab_size - 1.
        describe: returns a position in words, for the message.
        noun: what a row is.

    Raises:
        TokenError: naming the first such id and its place.
    """
    tokens = tokens_BT
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab_size:
        outside = (tokens < 0) | (tokens >= vocab_size)
        row, position = np.argwhere(outside)[0].tolist()
        words = "" if describe is None else f" ({describe(position)})"
        raise TokenError(
            f"id {tokens[row, position]} of {noun} {row} at position {position}{words} is not "
            f"in 0 ... {vocab_size - 1}; {int(outside.sum())} ids are outside"
        )
