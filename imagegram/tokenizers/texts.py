"""Checks that all tokenizers of texts share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, TokenError
from imagegram.records import Tokens, row_sizes
from imagegram.tokenizers.checks import require_ids


def require_window(window: int) -> None:
    """Refuse samples of no token.

    Raises:
        ConfigError: saying what to type.
    """
    if window < 1:
        raise ConfigError(
            f"tokenizer.window={window} must be at least 1; type for example tokenizer.window=128"
        )


def require_characters(text: str) -> None:
    """Refuse half a character of UTF-16, which has no bytes.

    Raises:
        TokenError: naming its place.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(text[error.start]):04X}"
        raise TokenError(
            f"character {error.start} of a text is {code}, half a character of UTF-16, which "
            "has no bytes; repair it where it was written: "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16')"
        ) from error


def written_rows(tokens_BT: Tokens, *, vocab_size: int, output_size: int | None) -> list[list[int]]:
    """Return the ids of every row up to its first separator.

    Args:
        tokens_BT: (B, K) ids of any integer dtype, padded with separators or not.
        vocab_size: ids lie in 0 ... vocab_size - 1.
        output_size: None: a text has no other size.

    Raises:
        TokenError: for another shape, or an id outside the vocabulary; ids are never wrapped.
        ConfigError: for a size.
    """
    if output_size is not None:
        raise ConfigError(
            f"output_size={output_size} is a side in pixels, which texts do not have; type "
            "output_size=null, or tokenizer.window=NUMBER for longer samples"
        )
    tokens: NDArray[Any] = np.asarray(tokens_BT)
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise TokenError(f"decode needs (B, K) integer ids, got {tokens.shape} {tokens.dtype}")
    sizes = row_sizes(tokens)
    written = np.arange(tokens.shape[1]) < sizes[:, None]
    require_ids(np.where(written, tokens, 0), vocab_size, noun="text")
    return [row[:size].tolist() for row, size in zip(tokens, sizes, strict=True)]
