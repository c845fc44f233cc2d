"""ExcerptCondition: samples that continue the beginnings of documents, held out or of the training.

    python -m imagegram.run modality=text condition=excerpt_held_out metric=[copying,continuation]
    python -m imagegram.run modality=text condition=excerpt_training metric=[copying,continuation]

What the document itself goes on with is known, and ``metric=continuation`` compares with it:
BrierLM behind held-out text; behind training text how much of it a generator recites, which is how
extractable memorization is measured (Carlini et al., "Quantifying memorization across neural
language models", ICLR 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.prompt import GivenTokens, Prompts
from imagegram.errors import ConfigError, did_you_mean
from imagegram.protocols import CutDocuments, DocumentSource, Tokenizer
from imagegram.records import row_sizes
from imagegram.seeding import document_order, in_turn
from imagegram.store.fingerprint import NOT_IDENTITY

HELD_OUT: Final = "held_out"
PARTS: Final = (HELD_OUT, "training")
#: Rows that are read at a time when excerpts are drawn.
_ROWS: Final = 256


class HasRows(Protocol):
    """Documents that can be read as rows of the tokens of a sample."""

    def windows(self) -> DocumentSource:
        """Return the rows."""


@dataclass(frozen=True, kw_only=True)
class ExcerptCondition(Prompts):
    """Begin every sample as a document of the corpus does.

    The tokens of an excerpt are part of the sample, and are measured with it. Drawn are rows of the
    tokens of a sample in the order in which the seed measures documents; a row is passed over that
    does not go on behind the excerpt for as long as the excerpt, or to the end of a sample.

    Attributes:
        name: of the configuration file.
        documents: ``held_out``: of documents that no training saw; ``training``: of the others.
        length: tokens of an excerpt, at least 1.
        num_excerpts: different excerpts, R; sample i continues the (i mod R)-th.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    documents: str = HELD_OUT
    length: int = 32
    num_excerpts: int = 128

    def __post_init__(self) -> None:
        if self.documents not in PARTS:
            raise ConfigError(
                f"condition.documents={self.documents!r}: {did_you_mean(self.documents, PARTS)}"
            )
        for name, example in (("length", 32), ("num_excerpts", 128)):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"condition.{name}={getattr(self, name)} must be at least 1; type "
                    f"condition.{name}={example}"
                )

    def drawn(self, *, tokens: HasRows, holdout: HasRows, seed: int) -> DrawnExcerpts:
        """Return the excerpts of documents, which are read when they are asked for.

        Args:
            tokens: training documents.
            holdout: held-out documents.
            seed: of their order.
        """
        documents = holdout if self.documents == HELD_OUT else tokens
        return DrawnExcerpts(condition=self, rows=documents.windows(), seed=seed)


@dataclass(frozen=True, kw_only=True)
class DrawnExcerpts(Prompts):
    """The first tokens of rows of documents, and what the documents go on with.

    Attributes:
        condition: how many excerpts, and how long.
        rows: documents in rows of the tokens of a sample, T.
        seed: of the order.
    """

    condition: ExcerptCondition
    rows: DocumentSource
    seed: int

    @property
    def name(self) -> str:
        """Name of the configuration file."""
        return self.condition.name

    @cached_property
    def chosen(self) -> NDArray[np.int64]:
        """(R,) rows that are continued; fewer where the documents have no more.

        Raises:
            ConfigError: when there is none.
        """
        found: list[int] = []
        order = document_order(self.rows.num_documents, self.seed)
        for start in range(0, len(order), _ROWS):
            block = order[start : start + _ROWS]
            tokens_BT = self.rows.gather(block)
            least = min(2 * self.condition.length, tokens_BT.shape[1])
            found += block[row_sizes(tokens_BT) >= least].tolist()
            if len(found) >= self.condition.num_excerpts:
                break
        if not found:
            length, part = self.condition.length, self.condition.documents.replace("_", "-")
            raise ConfigError(
                f"condition={self.name} asks for excerpts of condition.length={length} tokens, but "
                f"none of {self.rows.num_documents:,} rows of {part} documents goes on for as long "
                f"behind one; type condition.length={max(length // 2, 1)}"
                + ("" if self.rows.num_documents else ", or hold documents out")
            )
        return np.array(found[: self.condition.num_excerpts], dtype=np.int64)

    def rows_of(self, samples: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row that each of (B,) samples continues."""
        return self.chosen[in_turn(samples, len(self.chosen))]

    def documents_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the document that each of some rows is of."""
        if isinstance(self.rows, CutDocuments) and self.rows.is_cut:
            return self.rows.document_of(rows)
        return rows

    def encoded(self, tokenizer: Tokenizer) -> GivenTokens:
        """Return the excerpts as ids.

        Args:
            tokenizer: of the documents.

        Raises:
            ConfigError: when they leave a sample no token to write.
        """
        self.check(most=tokenizer.spec.length - 1)
        tokens_RP = self.rows.gather(self.chosen)[:, : self.condition.length]
        return GivenTokens(rows=tuple(map(tuple, tokens_RP.tolist())), name=self.name)

    def check(self, *, most: int) -> None:
        """Refuse excerpts of more tokens than ``most``.

        Raises:
            ConfigError: with what to type instead.
        """
        length = self.condition.length
        if length > most:
            raise ConfigError(
                f"condition.length={length} leaves a sample of {most + 1} tokens none to write; "
                f"type condition.length={max((most + 1) // 4, 1)}, or give samples more tokens: "
                f"tokenizer.window={2 * length}"
            )
