"""Planted: documents with a known amount of copying, to see how each metric responds to it.

    Replay(documents=Planted(recipe="copies_5", train=tokens, holdout=holdout, ...), ...)

``shuffled``: held-out images with their tokens shuffled within each level and channel; the null, in
which only chance copies. ``copies_5``: held-out images of which 5 % are replaced by training
images. ``collages``: every image is composed of the quarters of four training images, in token
space, at every level; an ordered sequence of four stretches.

>>> parse_recipe("copies_20"), parse_recipe("collages")
(('copies', 20.0), ('collages', 0.0))
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.layout import TokenLayout
from imagegram.protocols import CutDocuments, DescribedDocuments, DocumentSource
from imagegram.records import EOS_TOKEN_ID, Tokens
from imagegram.stages.generate import select_documents

RECIPES: Final = ("shuffled", "copies_1", "copies_5", "copies_20", "collages")


def parse_recipe(recipe: str) -> tuple[str, float]:
    """Return the kind of a recipe and its percentage of copies.

    Raises:
        ConfigError: for an unknown recipe, naming the known ones.
    """
    if recipe in ("shuffled", "collages"):
        return recipe, 0.0
    found = re.fullmatch(r"copies_(\d+)", recipe)
    if found is None or not 1 <= int(found[1]) <= 100:
        raise ConfigError(
            f"planted: unknown recipe {recipe!r}; {did_you_mean(recipe, RECIPES)}; copies_N plants "
            "N per cent, 1 ... 100"
        )
    return "copies", float(found[1])


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Planted documents, as many as the floor has.

    Attributes:
        recipe: one of :data:`RECIPES`, see the module.
        train, holdout: documents to plant, in the order of :func:`select_documents`, so those of
            ceiling and floor.
        layout: layout of the tokenizer.
        num_documents: number of documents, at most that of the held-out ones.
        seed: seed of the order and the shuffling.
    """

    VERSION: ClassVar[int] = 1
    recipe: str
    train: DocumentSource
    holdout: DocumentSource
    layout: TokenLayout
    num_documents: int
    seed: int

    def __post_init__(self) -> None:
        parse_recipe(self.recipe)

    @property
    def num_copied(self) -> int:
        """Number of copied training documents: the percentage of the recipe, at least one."""
        kind, percent = parse_recipe(self.recipe)
        return max(1, round(self.num_documents * percent / 100)) if kind == "copies" else 0

    def identity(self) -> dict[str, Any]:
        """Return the identity: recipe, sources, count and seed; the tokens imply the layout."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "recipe": self.recipe,
            "train": self.train.identity(),
            "holdout": self.holdout.identity(),
            "num_documents": self.num_documents,
            "seed": self.seed,
        }

    def metadata_of(
        self, document_ids: Sequence[int] | NDArray[np.integer[Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield the metadata of the documents that were planted; collages have none."""
        train = select_documents(self.train.num_documents, self.seed)[: self.num_documents]
        holdout = select_documents(self.holdout.num_documents, self.seed)
        for row in np.asarray(document_ids, dtype=np.int64).tolist():
            source, document = self.holdout, holdout[row]
            if row < self.num_copied:
                source, document = self.train, train[row % len(train)]
            if self.recipe != "collages" and isinstance(source, DescribedDocuments):
                yield from source.metadata_of([document])
            else:
                yield {}

    @property
    def is_cut(self) -> bool:
        """Whether rows are windows of documents (``CutDocuments``); a collage is of four."""
        is_cut = all(
            isinstance(source, CutDocuments) and source.is_cut
            for source in (self.train, self.holdout)
        )
        return is_cut and self.recipe != "collages"

    def document_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the document of each planted row; training documents come behind the held-out."""
        assert isinstance(self.train, CutDocuments), "its rows are windows"
        assert isinstance(self.holdout, CutDocuments), "its rows are windows"
        train = select_documents(self.train.num_documents, self.seed)[: self.num_documents]
        holdout = select_documents(self.holdout.num_documents, self.seed)
        documents = self.holdout.document_of(holdout[rows])
        copied = rows < self.num_copied
        of_train = self.train.document_of(train[rows[copied] % len(train)])
        documents[copied] = self.holdout.num_documents + of_train
        return documents

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer[Any]]) -> Tokens:
        """Return the (B, T) uint16 tokens of planted documents 0 ... num_documents - 1."""
        rows = np.asarray(document_ids, dtype=np.int64)
        train = select_documents(self.train.num_documents, self.seed)[: self.num_documents]
        if self.recipe == "collages":
            return self._collages(train, rows)
        holdout = select_documents(self.holdout.num_documents, self.seed)
        tokens_BT = self.holdout.gather(holdout[rows])
        if self.recipe == "shuffled":
            return np.stack([self._shuffled(*pair) for pair in zip(tokens_BT, rows, strict=True)])
        copied = rows < self.num_copied
        tokens_BT[copied] = self.train.gather(train[rows[copied] % len(train)])
        return tokens_BT

    def _collages(self, train: NDArray[np.int64], rows: NDArray[np.int64]) -> Tokens:
        quarter_T = quarters(self.layout)
        parts = [self.train.gather(train[(rows + quarter) % len(train)]) for quarter in range(4)]
        return _closed(np.choose(quarter_T, parts).astype(np.uint16))

    def _shuffled(self, tokens_T: Tokens, row: np.int64) -> Tokens:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, int(row)]))
        shuffled = tokens_T.copy()
        for level in range(self.layout.num_levels):
            for channel in range(self.layout.num_channels):
                where = (self.layout.level == level) & (self.layout.channel == channel)
                where &= tokens_T != EOS_TOKEN_ID  # padding stays behind the end
                shuffled[where] = rng.permutation(tokens_T[where])
        return shuffled


def _closed(tokens_BT: Tokens) -> Tokens:
    """Move the padding of each row behind its tokens.

    >>> _closed(np.array([[1, 65535, 2, 3]], dtype=np.uint16)).tolist()
    [[1, 2, 3, 65535]]
    """
    order_BT = np.argsort(tokens_BT == EOS_TOKEN_ID, axis=1, kind="stable")
    return np.take_along_axis(tokens_BT, order_BT, axis=1)


def quarters(layout: TokenLayout) -> NDArray[np.int64]:
    """Return the (T,) quarter 0 ... 3 of each position.

    Quarters of a level with rows are divided by its middle row and column, those of an ordered
    sequence are four stretches.

    >>> quarters(TokenLayout.pyramid((2,))).tolist()
    [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    >>> quarters(TokenLayout.sequence(8)).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    heights, widths = np.array(layout.heights), np.array(layout.widths)
    height, width = heights[layout.level], widths[layout.level]
    below, right = 2 * layout.row >= height, 2 * layout.column >= width
    in_rows = np.where(height > 1, 2 * below + right, 4 * layout.column // width)
    return np.asarray(in_rows, dtype=np.int64)
