"""Generators that read captions refuse those that their text encoder would cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagegram.conditions.captions import GivenCaptions
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.stages.captions import refuse_long

if TYPE_CHECKING:
    from imagegram.protocols import Condition
    from imagegram.stages.tokens import TokenSet


class ReadsCaptions:
    """A configured generator with an ``embedder``, the text encoder that reads captions."""

    embedder: SentenceEmbedder

    def check_documents(self, tokens: TokenSet, condition: Condition | None) -> None:
        """Refuse a typed caption that the text encoder would cut.

        Raises:
            ConfigError: with the first of them.
        """
        if isinstance(condition, GivenCaptions):
            self.check_captions(condition.texts)

    def check_captions(self, texts: Sequence[str]) -> None:
        """Refuse captions that the text encoder would cut.

        Raises:
            ConfigError: with the first of them.
        """
        refuse_long(texts, self.embedder, setting="generator.embedder.max_tokens")
