"""Token documents as training items, for generators that learn from tokens, or tokens and labels.

The class of a document is the number of its label among all labels of the training documents, in
sorted order; a document without a label, or with one that training does not have, is of the null
class, whose number is that of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.labels import Labels
from imagegram.errors import ConfigError
from imagegram.protocols import DocumentSource
from imagegram.records import Tokens
from imagegram.stages.tokens import TokenSet, Windows
from imagegram.stages.validation import TakePart, found_parts, parts_of
from imagegram.store.stage import Context, Surroundings
from imagegram.training.objective import VALIDATION, Prepared

#: Keys that a message lists.
_LISTED: Final = 40


@dataclass(frozen=True, kw_only=True)
class TokenItems:
    """Rows of a token set: its documents, or windows of them where lengths differ.

    Attributes:
        tokens: a finished token set; memory maps are opened in every process.
        random_offsets: whether windows begin elsewhere whenever they are drawn, so that a network
            sees every token at every place of a window.
    """

    tokens: TokenSet
    random_offsets: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without cached windows, so that it can be sent to another process."""
        return {"tokens": self.tokens, "random_offsets": self.random_offsets}

    @cached_property
    def _rows(self) -> DocumentSource:
        return self.tokens.windows()

    @cached_property
    def _lengths(self) -> NDArray[np.int64]:
        return self.tokens.lengths

    def __len__(self) -> int:
        """Return the number of rows, N."""
        return self._rows.num_documents

    def gather(self, rows: NDArray[np.integer[Any]]) -> Tokens:
        """Return (B, T) uint16 ids; batches cast them to int64, as torch hardly supports uint16."""
        return self._rows.gather(rows)

    def draw(self, rows: NDArray[np.integer[Any]], rng: np.random.Generator) -> Tokens:
        """Return (B, T) uint16 ids that are trained on: the rows, or others near them.

        With random offsets a window begins up to half a window before or after its place, but not
        before its document, and not so late that more than the separator behind the document
        pads it. So beginnings and ends are seen about as often as what is between them.
        """
        if not self.random_offsets or not isinstance(self._rows, Windows):
            return self.gather(rows)
        documents, starts = self._rows.locate(rows)
        length = self.tokens.length
        shifts = rng.integers(-(length // 2), length - length // 2, size=len(rows))
        last = np.maximum(self._lengths[documents] + 1 - length, 0)
        return self.tokens.gather(documents, np.clip(starts + shifts, 0, last))

    def identity(self) -> Any:
        """Return kind/digest of the set, the length of its windows, and how they are drawn."""
        found = self._rows.identity()
        if not self.random_offsets or not isinstance(self._rows, Windows):
            return found
        return {**found, "random_offsets": True}

    def documents(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """Return the (B,) document of each row."""
        return self._rows.locate(rows)[0] if isinstance(self._rows, Windows) else rows


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledItems:
    """Rows of a token set with their class behind them.

    Attributes:
        items: the rows.
        key: key of the labels in the metadata of documents.
        by_document: (N,) int32 class of each document.
    """

    items: TokenItems
    key: str
    by_document: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.items)

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Return (B, T + 1) ids, and in the last column classes; see :func:`split_classes`."""
        return self._with_classes(self.items.gather(rows), rows)

    def draw(self, rows: NDArray[np.integer[Any]], rng: np.random.Generator) -> NDArray[np.int32]:
        """Return the same of what is trained on; see :meth:`TokenItems.draw`."""
        return self._with_classes(self.items.draw(rows, rng), rows)

    def _with_classes(self, tokens_BT: Tokens, rows: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        classes_B = self.by_document[self.items.documents(rows)]
        return np.column_stack([tokens_BT, classes_B]).astype(np.int32)

    def identity(self) -> Any:
        """Return the identity of the rows, and the key: metadata is part of a token set."""
        return {"items": self.items.identity(), "labels": self.key}


def split_classes(
    items: NDArray[Any], num_classes: int
) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Return (B, T) ids and (B,) classes of gathered items; None: they have no classes."""
    if not num_classes:
        return items, None
    return items[:, :-1], items[:, -1].astype(np.int64)


def drop_classes(
    classes_B: NDArray[np.int64], num_classes: int, share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return classes, a share of them replaced by the null class at random."""
    return np.where(rng.random(len(classes_B)) < share, num_classes, classes_B)


@dataclass(frozen=True, kw_only=True)
class TokenData:
    """Training data from finished token sets.

    Attributes:
        tokens: training documents.
        holdout: documents to validate on; None or empty: some of the training documents. Of no use
            with ``validation_fraction``.
        labels: key of the labels in the metadata of documents; None: they are not read.
        has_null: whether documents may have no label.
        validation_fraction: share of the training documents that is validated on instead of
            trained on, see ``stages/validation.py``; 0: none.
        random_offsets: see :class:`TokenItems`.
    """

    PARTS: ClassVar[tuple[type, ...]] = (TakePart, *TakePart.PARTS)

    tokens: TokenSet
    holdout: TokenSet | None = None
    labels: str | None = None
    has_null: bool = True
    validation_fraction: float = 0.0
    random_offsets: bool = False

    def reader(self) -> Any:
        """Return the identity of what reads captions; None: none are read."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return the identity of both sets, and of the key of the labels where they are read.

        With a part to validate on, what is held out has no part in the training.
        """
        sets = {
            "tokens": self.tokens,
            "holdout": None if self.validation_fraction else self.holdout,
        }
        found = {
            name: None
            if tokens is None
            else TokenItems(
                tokens=tokens, random_offsets=self.random_offsets and name == "tokens"
            ).identity()
            for name, tokens in sets.items()
        }
        if self.labels is not None:
            found["labels"] = self.labels
        if self.validation_fraction:
            found["validation_fraction"] = self.validation_fraction
            found["near_duplicate_limit"] = self.tokens.near_duplicate_limit
        return found

    def prepare(self, context: Context) -> Prepared:
        """Part the training documents if asked for, open both sets, and read their labels.

        Raises:
            ConfigError: when labels are missing, or documents are too few to be parted.
        """
        if not self.validation_fraction:
            return self._opened(self.tokens)
        fit, validation = parts_of(self.tokens, self.validation_fraction)
        return self._opened(context.make(fit), context.make(validation))

    def found(self, at: Surroundings) -> Prepared | None:
        """Return what :meth:`prepare` does, if all of it was made; None: something is missing."""
        if not self.tokens.artifact.is_made:
            return None
        if not self.validation_fraction:
            return self._opened(self.tokens)
        parts = found_parts(self.tokens, self.validation_fraction, at)
        return None if parts is None else self._opened(*parts)

    def _opened(self, tokens: TokenSet, validation: TokenSet | None = None) -> Prepared:
        """Open training documents and those that are validated on; None: held-out ones.

        Raises:
            ConfigError: when labels are missing.
        """
        if validation is not None:
            others, validated_on = validation, VALIDATION
        elif self.holdout is not None and self.holdout.num_documents > 0:
            others, validated_on = self.holdout, "holdout"
        else:
            others, validated_on = tokens, "train"
        plain = [
            TokenItems(tokens=tokens, random_offsets=self.random_offsets),
            TokenItems(tokens=others),
        ]
        if self.labels is None:
            return Prepared(items=plain[0], validation=plain[1], validated_on=validated_on)
        found = [read_labels(each.tokens, self.labels) for each in plain]
        names = found[0].names
        items, looked_at = (
            self._labelled(rows, labels, names) for rows, labels in zip(plain, found, strict=True)
        )
        return Prepared(items=items, validation=looked_at, validated_on=validated_on, classes=names)

    def _labelled(self, items: TokenItems, found: Labels, names: tuple[str, ...]) -> LabelledItems:
        assert self.labels is not None
        if not names:
            raise ConfigError(
                f"generator.labels={self.labels}: no training document has that key in the JSON "
                f"beside it; the keys there: {', '.join(found.keys[:_LISTED]) or 'none'}. Type "
                "generator.labels=KEY, or generator.labels=null to train without labels"
            )
        number = {name: place for place, name in enumerate(names)}
        null = len(names)
        numbers = [*(number.get(name, null) for name in found.names), null]  # -1 is the last
        by_document = np.array(numbers, dtype=np.int32)[found.by_document]
        if (num_null := int((by_document == null).sum())) and not self.has_null:
            raise ConfigError(
                f"generator.labels={self.labels}: {num_null:,} of {len(by_document):,} "
                "documents have no label, or none that training documents have; type "
                "generator.label_dropout=0.1 to learn to write without a label too"
            )
        return LabelledItems(items=items, key=self.labels, by_document=by_document)


def read_labels(tokens: TokenSet, key: str) -> Labels:
    """Read the labels of all documents of a token set; takes some 10 us a document."""
    return Labels.of(tokens.metadata_of(np.arange(tokens.num_documents)), key)
