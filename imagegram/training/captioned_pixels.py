"""The images of a corpus with their captions, for networks that learn from both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from imagegram.conditions.captions import caption_of
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import CorpusError
from imagegram.records import Record
from imagegram.stages.captions import EmbedCaptions, EmbedSome
from imagegram.stages.skips import SKIPPED
from imagegram.stages.split import Split, SplitShard
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Context
from imagegram.training.captions import CaptionedItems
from imagegram.training.objective import Prepared
from imagegram.training.pixels import CorpusPixels, PackPixels, PixelSet

#: Reason of a skip that another record of the same key had before.
_DUPLICATE = "duplicate_key"


@dataclass(frozen=True, kw_only=True)
class CaptionedPixels(CorpusPixels):
    """Training data from the images of a corpus and what is written beside them.

    Attributes:
        key: of the captions, see :func:`imagegram.conditions.captions.caption_of`.
        embedder: what reads them.
    """

    PARTS: ClassVar[tuple[type, ...]] = (*CorpusPixels.PARTS, EmbedCaptions, EmbedSome)

    key: str
    embedder: SentenceEmbedder

    def identity(self) -> dict[str, Any]:
        """Return the identity of the images, of the key, and of the text encoder."""
        return super().identity() | {"key": self.key, "embedder": identity(self.embedder)}

    def prepare(self, context: Context) -> Prepared:
        """Split the corpus, pack both parts, and embed their captions.

        Raises:
            CorpusError: when no training image has a caption.
        """
        split = context.make(Split(corpus=self.corpus))
        parts = {"train": split.train}
        if split.holdout:
            parts["holdout"] = split.holdout
        sets, texts = {}, {}
        for name, images in parts.items():
            sets[name] = context.make(PackPixels(images=images, image_size=self.image_size))
            texts[name] = list(packed_captions(images, sets[name], self.key))
        if not any(texts["train"]):
            raise CorpusError(
                f"no captions are in corpus {self.corpus.name}: no training image has "
                f"tokenizer.captions={self.key} in the JSON beside it, or a text beside it; type "
                "tokenizer.captions=KEY, or tokenizer=titok, which reads none"
            )
        known = tuple(text for part in texts.values() for text in part if text is not None)
        table = context.make(EmbedCaptions(texts=known, embedder=self.embedder))
        items = {
            name: CaptionedItems(items=found, table=table, numbers=table.find(texts[name]))
            for name, found in sets.items()
        }
        validated_on = "holdout" if split.holdout else "train"
        return Prepared(
            items=items["train"], validation=items[validated_on], validated_on=validated_on
        )


def packed_captions(
    images: Iterable[SplitShard], pixels: PixelSet, key: str
) -> Iterator[str | None]:
    """Yield the caption of every packed image, in their order; None: it has none.

    Args:
        images: the shards that were packed.
        pixels: what was packed of them.
        key: of the captions.
    """
    for shard, packed in zip(images, pixels.shards, strict=True):
        lines = (packed.path / SKIPPED).read_text().splitlines()
        for record in _kept(shard.shard, map(json.loads, lines)):
            yield caption_of({"info": record.info, "caption": record.caption}, key)


def _kept(records: Iterable[Record], skips: Iterator[Mapping[str, Any]]) -> Iterator[Record]:
    """Yield the records that no line of ``skipped.jsonl`` names; both are in file order."""
    skip = next(skips, None)
    for record in records:
        is_skipped = record.failure is not None or (
            skip is not None and skip["key"] == record.key and skip["reason"] != _DUPLICATE
        )
        if is_skipped:
            skip = next(skips, None)
        else:
            yield record
