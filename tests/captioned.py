"""Small captioned things: a text encoder of random weights, and pictures of one named colour."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.stages.captions import EmbedCaptions
from imagegram.training.captions import CaptionedItems
from tests.pictures import context
from tests.sentence_encoders import write_encoder

COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 230),
    "white": (240, 240, 240),
    "black": (10, 10, 10),
    "yellow": (230, 220, 10),
}
NAMES = tuple(COLOURS)


def text_encoder(folder: Path, *, max_tokens: int = 8) -> SentenceEmbedder:
    """An encoder of 16 numbers a token."""
    path = write_encoder(folder / "encoder", width=16)
    return SentenceEmbedder(folder=str(path), max_tokens=max_tokens, dtype="float32")


@dataclass(frozen=True, kw_only=True)
class Plain:
    """(8, 8, 3) pictures of one colour, in turn."""

    count: int = 24

    def __len__(self) -> int:
        return self.count

    def identity(self) -> Any:
        return {"plain": self.count}

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        colours = np.array([COLOURS[NAMES[row % len(NAMES)]] for row in rows.tolist()], np.uint8)
        return np.broadcast_to(colours[:, None, None], (len(rows), 8, 8, 3)).copy()


def captioned(items: Any, texts: list[str | None], encoder: SentenceEmbedder, root: Path) -> Any:
    """Items with captions."""
    known = tuple(text for text in texts if text is not None)
    table = context(root).make(EmbedCaptions(texts=known, embedder=encoder))
    return CaptionedItems(items=items, table=table, numbers=table.find(texts))
