"""Conditions that ask for what documents of the corpus have: their captions, their beginnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagegram.conditions.captions import CaptionCondition, GivenCaptions
from imagegram.conditions.excerpts import ExcerptCondition
from imagegram.conditions.prompt import PromptCondition
from imagegram.protocols import Condition

if TYPE_CHECKING:
    from imagegram.stages.tokens import TokenSet


def with_documents(
    condition: Condition | None,
    *,
    captions: str | None,
    tokens: TokenSet,
    holdout: TokenSet,
    seed: int,
) -> Condition | None:
    """Return a condition as stages take it, when the documents that it draws from are known.

    Args:
        condition: of the configuration.
        captions: key of the captions that the generator reads; None: it reads none, and a prompt
            is what samples begin with.
        tokens: training documents.
        holdout: held-out documents.
        seed: of the order in which documents are drawn.
    """
    if isinstance(condition, CaptionCondition | ExcerptCondition):
        return condition.drawn(tokens=tokens, holdout=holdout, seed=seed)
    if isinstance(condition, PromptCondition) and captions is not None:
        return GivenCaptions(texts=condition.texts, key=captions, name=condition.name)
    return condition
