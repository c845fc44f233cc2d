"""Token documents as items: what generators of tokens are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.records import Tokens
from imagegram.stages.tokens import TokenSet
from imagegram.store.stage import Context
from imagegram.training.objective import Prepared


@dataclass(frozen=True, kw_only=True)
class TokenItems:
    """Documents of a token set as rows; memory maps, opened in every process.

    Attributes:
        tokens: a finished token set.
    """

    tokens: TokenSet

    def __len__(self) -> int:
        """Documents, N."""
        return self.tokens.num_documents

    def gather(self, rows: NDArray[np.integer[Any]]) -> Tokens:
        """(B, T) uint16 ids; torch computes little in uint16, so a batch casts them to int64."""
        return self.tokens.gather(rows)

    def identity(self) -> str:
        """``tokens/digest``."""
        return self.tokens.identity()


@dataclass(frozen=True, kw_only=True)
class TokenData:
    """Finished token sets as what is trained on.

    Attributes:
        tokens: training documents.
        holdout: documents that validate; None, or without any: some of the training documents do.
    """

    PARTS: ClassVar[tuple[type, ...]] = ()

    tokens: TokenSet
    holdout: TokenSet | None = None

    def identity(self) -> dict[str, Any]:
        """kind/digest of both sets."""
        holdout = None if self.holdout is None else self.holdout.identity()
        return {"tokens": self.tokens.identity(), "holdout": holdout}

    def prepare(self, context: Context) -> Prepared:
        """Open them."""
        items = TokenItems(tokens=self.tokens)
        if self.holdout is None or not self.holdout.num_documents:
            return Prepared(items=items, validation=items, validated_on="train")
        held_out = TokenItems(tokens=self.holdout)
        return Prepared(items=items, validation=held_out, validated_on="holdout")
