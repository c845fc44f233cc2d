"""Checks of the arguments of every engine: nothing is rounded, wrapped or guessed."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, TokenError
from imagegram.records import EOS_TOKEN_ID, Tokens


def check_ids(ids: Any, *, dimensions: int = 1) -> Tokens:
    """Return token ids as a contiguous uint16 array, without rounding or wrapping any.

    Raises:
        TokenError: for another number of dimensions, non-integers, or ids outside 0 ... 65535.
    """
    array = ids if isinstance(ids, np.ndarray) else _as_array(ids)
    if array.ndim != dimensions:
        raise TokenError(
            f"expected {'a flat sequence of ids' if dimensions == 1 else 'ids of shape (B, T)'}, "
            f"got an array of shape {array.shape}"
        )
    if not np.issubdtype(array.dtype, np.integer):
        raise TokenError(f"token ids are integers in 0 ... {EOS_TOKEN_ID}, got {array.dtype}")
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= EOS_TOKEN_ID:
        bad = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise TokenError(f"token id {bad} is outside 0 ... {EOS_TOKEN_ID}")
    return np.ascontiguousarray(array, dtype=np.uint16)


def _as_array(ids: Any) -> NDArray[Any]:
    try:
        numbers = [operator.index(number) for number in ids if not isinstance(number, bool)]
        if len(numbers) != len(ids):
            raise TypeError("a bool is no token id")
        return np.array(numbers, dtype=np.int64)
    except (TypeError, OverflowError) as error:
        raise TokenError(
            f"token ids are a sequence of integers in 0 ... {EOS_TOKEN_ID}: {error}"
        ) from error


def check_at_least(name: str, value: int, least: int) -> int:
    """Return ``value`` if it is an integer of at least ``least``.

    Raises:
        ConfigError: naming the argument.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def thread_count(workers: int | None) -> int:
    """Return ``workers``, or the number of cores.

    Raises:
        ConfigError: when it is not an integer of at least 1.
    """
    return (os.cpu_count() or 1) if workers is None else check_at_least("workers", workers, 1)
