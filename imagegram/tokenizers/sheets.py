"""Sheets of reconstructions, beside the weights of a tokenizer, and the images they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.images import grids
from imagegram.records import Images, Tokens
from imagegram.training.objective import Items

#: Number of images that validation uses, and how many at a time.
NUM_VALIDATION: Final = 512
VALIDATION_CHUNK: Final = 32
_NUM_SHOWN: Final = 12


def spread(items: Items, count: int) -> NDArray[np.int64]:
    """Return the rows of up to ``count`` items, spread over all of them."""
    count = min(count, len(items))
    return np.arange(count) * len(items) // count


def write_reconstructions(
    path: Path,
    validation: Items,
    *,
    lengths: Sequence[int],
    encode: Callable[[Images], Tokens],
    decode: Callable[[Tokens], Images],
) -> None:
    """Write a sheet: validation images, and below them reconstructions.

    Args:
        path: a PNG file.
        validation: images to show some of.
        lengths: numbers of first tokens to reconstruct from, a row each.
        encode: images to tokens.
        decode: tokens to images.
    """
    originals = validation.gather(spread(validation, _NUM_SHOWN))
    tokens = encode(originals)
    rows = [originals, *(decode(tokens[:, :length]) for length in lengths)]
    scale = grids.scale_for(originals.shape[1], target=64)
    grids.save_png(path, grids.grid(np.concatenate(rows), columns=len(originals), scale=scale))
