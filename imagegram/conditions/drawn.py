"""Conditions that ask for what documents of the corpus have: their captions, their beginnings."""

from __future__ import annotations

from typing import Protocol

from imagegram.conditions.captions import CaptionCondition, GivenCaptions
from imagegram.conditions.excerpts import ExcerptCondition, HasRows
from imagegram.conditions.prompt import PromptCondition
from imagegram.protocols import Condition, DescribedDocuments


class Part(DescribedDocuments, HasRows, Protocol):
    """Documents of one part of a corpus, with their captions and as rows of tokens."""


def with_documents(
    condition: Condition | None,
    *,
    captions: str | None,
    tokens: Part,
    holdout: Part,
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
