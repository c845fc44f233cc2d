"""Token documents as training items, for generators that learn from tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import DocumentSource
from imagegram.records import Tokens
from imagegram.stages.tokens import TokenSet
from imagegram.store.stage import Context
from imagegram.training.objective import Prepared


@dataclass(frozen=True, kw_only=True)
class TokenItems:
    """Rows of a token set: its documents, or windows of them where lengths differ.

    Attributes:
        tokens: a finished token set; memory maps are opened in every process.
    """

    tokens: TokenSet

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without cached windows, so that it can be sent to another process."""
        return {"tokens": self.tokens}

    @cached_property
    def _rows(self) -> DocumentSource:
        return self.tokens.windows()

    def __len__(self) -> int:
        """Return the number of rows, N."""
        return self._rows.num_documents

    def gather(self, rows: NDArray[np.integer[Any]]) -> Tokens:
        """Return (B, T) uint16 ids; batches cast them to int64, as torch hardly supports uint16."""
        return self._rows.gather(rows)

    def identity(self) -> Any:
        """Return kind/digest of the set, and the length of its windows."""
        return self._rows.identity()


@dataclass(frozen=True, kw_only=True)
class TokenData:
    """Training data from finished token sets.

    Attributes:
        tokens: training documents.
        holdout: documents to validate on; None or empty: some of the training documents.
    """

    PARTS: ClassVar[tuple[type, ...]] = ()

    tokens: TokenSet
    holdout: TokenSet | None = None

    def identity(self) -> dict[str, Any]:
        """Return the identity of both sets."""
        sets = {"tokens": self.tokens, "holdout": self.holdout}
        return {
            name: None if tokens is None else TokenItems(tokens=tokens).identity()
            for name, tokens in sets.items()
        }

    def prepare(self, context: Context) -> Prepared:
        """Open both sets."""
        items = TokenItems(tokens=self.tokens)
        if self.holdout is None or not self.holdout.num_documents:
            return Prepared(items=items, validation=items, validated_on="train")
        held_out = TokenItems(tokens=self.holdout)
        return Prepared(items=items, validation=held_out, validated_on="holdout")
