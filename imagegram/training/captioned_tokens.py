"""Token documents with the captions of their images, for generators that read captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from imagegram.conditions.captions import caption_of
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.stages.captions import CaptionTable, EmbedCaptions, EmbedSome
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Context, Surroundings
from imagegram.training.captions import CaptionedItems
from imagegram.training.objective import Prepared
from imagegram.training.tokens import TokenData

#: Keys that a message lists.
_LISTED = 40


@dataclass(frozen=True, kw_only=True)
class CaptionedTokens(TokenData):
    """Training data from finished token sets and the captions of their documents.

    Attributes:
        key: of the captions, see :func:`imagegram.conditions.captions.caption_of`.
        embedder: what reads them.
    """

    PARTS: ClassVar[tuple[type, ...]] = (*TokenData.PARTS, EmbedCaptions, EmbedSome)

    key: str
    embedder: SentenceEmbedder

    def identity(self) -> dict[str, Any]:
        """Return the identity of the documents, of the key, and of the text encoder."""
        return super().identity() | {"key": self.key, "embedder": identity(self.embedder)}

    def reader(self) -> Any:
        """Return the identity of the text encoder, through which weights are asked for samples."""
        return identity(self.embedder)

    def prepare(self, context: Context) -> Prepared:
        """Open both sets as :class:`TokenData` does, and embed their captions.

        Raises:
            ConfigError: when no training document has a caption.
        """
        plain = super().prepare(context)
        texts = self._texts(plain)
        table = context.make(self._embedding(texts))
        return self._with(plain, texts, table)

    def found(self, at: Surroundings) -> Prepared | None:
        """Return what :meth:`prepare` does, if all of it was made; None: something is missing."""
        plain = super().found(at)
        if plain is None:
            return None
        texts = self._texts(plain)
        stage = self._embedding(texts)
        artifact = at.find(stage)
        return None if artifact is None else self._with(plain, texts, stage.load(artifact))

    def _texts(self, plain: Prepared) -> list[list[str | None]]:
        """Return the captions of the documents to train on, and of those to validate on."""
        sets: list[Any] = [plain.items, plain.validation]
        texts = [read_captions(items.tokens, self.key) for items in sets]
        if not any(texts[0]):
            metadata = self.tokens.metadata_of(np.arange(self.tokens.num_documents))
            keys = sorted({key for each in metadata for key in each.get("info") or {}})
            raise ConfigError(
                f"no captions are in the corpus: no training image has generator.captions="
                f"{self.key} in the JSON beside it, or a text beside it; the keys there: "
                f"{', '.join(keys[:_LISTED]) or 'none'}. Type generator.captions=KEY, or a "
                "generator that reads none: generator=maskgit"
            )
        return texts

    def _embedding(self, texts: Sequence[Sequence[str | None]]) -> EmbedCaptions:
        known = tuple(text for part in texts for text in part if text is not None)
        if self.embedder.penultimate:  # who reads these knows no other word for no caption
            known += ("",)
        return EmbedCaptions(texts=known, embedder=self.embedder)

    def _with(
        self, plain: Prepared, texts: Sequence[Sequence[str | None]], table: CaptionTable
    ) -> Prepared:
        items, validation = (
            CaptionedItems(items=each, table=table, numbers=table.find(found))
            for each, found in zip((plain.items, plain.validation), texts, strict=True)
        )
        return replace(plain, items=items, validation=validation)


def read_captions(tokens: TokenSet, key: str) -> list[str | None]:
    """Return the caption of every document of a token set; takes some 10 us a document."""
    documents = np.arange(tokens.num_documents)
    return [caption_of(metadata, key) for metadata in tokens.metadata_of(documents)]
