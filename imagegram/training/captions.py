"""Training items with the captions that stand beside them, as a text encoder reads them.

An item is a row of a structured array: ``item``, what it is without a caption (ids or pixels),
``states`` and ``there`` of its caption, see :class:`imagegram.stages.captions.TextStates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.stages.captions import CaptionTable, TextStates
from imagegram.training.objective import Items


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionedItems:
    """Items with their captions.

    Attributes:
        items: the items.
        table: embedded captions.
        numbers: (N,) int32 caption of every item in the table; -1: it has none.
    """

    items: Items
    table: CaptionTable
    numbers: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return (B,) structured rows of items with the states of their captions."""
        return joined(self.items.gather(rows), self.table.gather(self.numbers[rows]))

    def no_caption(self) -> TextStates:
        """Return what stands for no caption, as one row: the empty text, if it was embedded."""
        return self.table.gather(self.table.find([None]))

    def identity(self) -> Any:
        """Return the identity of items and captions."""
        return {"items": self.items.identity(), "captions": self.table.identity()}


def joined(items: NDArray[Any], text: TextStates) -> NDArray[Any]:
    """Return (B,) structured rows of items and texts; see :func:`parted`."""
    fields = {"item": items, "states": text.states, "there": text.there}
    kind = np.dtype([(name, array.dtype, array.shape[1:]) for name, array in fields.items()])
    rows = np.empty(len(items), dtype=kind)
    for name, array in fields.items():
        rows[name] = array
    return rows


def parted(rows: NDArray[Any]) -> tuple[NDArray[Any], TextStates]:
    """Return items and texts of structured rows.

    >>> text = TextStates(states=np.ones((2, 3, 4), np.float16), there=np.ones((2, 3), bool))
    >>> items, found = parted(joined(np.array([[1, 2], [3, 4]]), text))
    >>> items.tolist(), found.states.shape, bool(found.there.all())
    ([[1, 2], [3, 4]], (2, 3, 4), True)
    """
    text = TextStates(
        states=np.ascontiguousarray(rows["states"]), there=np.ascontiguousarray(rows["there"])
    )
    return np.ascontiguousarray(rows["item"]), text


def dropped(text: TextStates, share: float, rng: np.random.Generator) -> TextStates:
    """Return texts of which a share is hidden, so that a network learns to do without."""
    hidden_B = rng.random(len(text.there)) < share
    return TextStates(states=text.states, there=text.there & ~hidden_B[:, None])


def trimmed(text: TextStates) -> TextStates:
    """Return texts without the positions behind the longest of them: less to compute, no more.

    >>> there = np.array([[True, True, False], [True, False, False]])
    >>> trimmed(TextStates(states=np.zeros((2, 3, 4), np.float16), there=there)).states.shape
    (2, 2, 4)
    """
    length = max(int(text.there.sum(axis=1).max(initial=0)), 1)
    return TextStates(states=text.states[:, :length], there=text.there[:, :length])


def others(text: TextStates) -> TextStates:
    """Return for every row the text of the next row whose text is another one; none: no text.

    >>> states = np.arange(3, dtype=np.float16)[[0, 0, 1]][:, None, None]
    >>> text = TextStates(states=states, there=np.ones((3, 1), bool))
    >>> others(text).states[:, 0, 0].tolist()
    [1.0, 1.0, 0.0]
    """
    count = len(text.there)
    keys = [
        (states.tobytes(), there.tobytes())
        for states, there in zip(text.states, text.there, strict=True)
    ]
    rows = np.zeros(count, dtype=np.int64)
    is_found = np.zeros(count, dtype=bool)
    for row, key in enumerate(keys):
        following = [(row + far) % count for far in range(1, count)]
        found = next((other for other in following if keys[other] != key), None)
        rows[row], is_found[row] = found or 0, found is not None
    there = text.there[rows] & is_found[:, None]
    return TextStates(states=text.states[rows], there=there)
