"""CaptionCondition: samples of captions, of training images or of held-out ones.

    python -m imagegram.run condition=caption generator=maskgen
    python -m imagegram.run condition=caption condition.captions=held_out generator=maskgen
    python -m imagegram.run condition=prompt 'condition.texts=[a red bus]' generator=maskgen

Sample i is asked for the caption of the i-th document with a caption, in the order in which the
seed measures documents. So sample i under training captions and row i of the ceiling are of one
image, as far as images have captions.

>>> given = GivenCaptions(texts=("a cat", "a dog"), key="caption")
>>> given.texts_of(np.array([0, 1, 2], dtype=np.uint64))
['a cat', 'a dog', 'a cat']
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Final, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.labels import CAPTION, label_of
from imagegram.errors import ConfigError, did_you_mean
from imagegram.protocols import DescribedDocuments
from imagegram.seeding import document_order, in_turn
from imagegram.store.fingerprint import NOT_IDENTITY

#: ``condition.captions``: whose captions are drawn.
TRAINING: Final = "training"
PARTS: Final = (TRAINING, "held_out")
#: Keys that a message lists.
_LISTED: Final = 40
#: Captions among which that of another image is looked for.
_OTHERS: Final = 64


@runtime_checkable
class Captions(Protocol):
    """A condition that asks every sample for a caption."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def key(self) -> str:
        """Key of the captions of documents in their metadata."""

    def texts_of(self, samples: NDArray[np.uint64]) -> list[str | None]:
        """Return the caption of each of (B,) sample ids; None: nothing is asked of it."""


@dataclass(frozen=True, kw_only=True)
class CaptionCondition:
    """Ask every sample for a caption of the corpus.

    Attributes:
        name: of the configuration file.
        captions: ``training``: those of training images; ``held_out``: of images that no training
            saw.
        key: where captions are: this key of the JSON beside an image; ``caption`` is the text
            beside it when the JSON has no such key.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    captions: str = TRAINING
    key: str = CAPTION

    def __post_init__(self) -> None:
        if self.captions not in PARTS:
            raise ConfigError(
                f"condition.captions={self.captions!r}: {did_you_mean(self.captions, PARTS)}"
            )
        if not self.key:
            raise ConfigError(
                "condition.key is empty; type condition.key=caption for the text beside an image, "
                "or condition.key=KEY, a key of the JSON beside it"
            )

    def drawn(
        self, *, tokens: DescribedDocuments, holdout: DescribedDocuments, seed: int
    ) -> DrawnCaptions:
        """Return the captions of documents, which are read when they are asked for.

        Args:
            tokens: training documents.
            holdout: held-out documents.
            seed: of their order.
        """
        documents = tokens if self.captions == TRAINING else holdout
        return DrawnCaptions(condition=self, documents=documents, training=tokens, seed=seed)


@dataclass(frozen=True, kw_only=True)
class DrawnCaptions:
    """The captions of documents in the order of a seed; again and again, if samples are more.

    Attributes:
        condition: whose captions, and under which key.
        documents: those that have them.
        training: training documents, to count which captions they have too.
        seed: of the order.
    """

    condition: CaptionCondition
    documents: DescribedDocuments
    training: DescribedDocuments = field(metadata=NOT_IDENTITY)
    seed: int

    @property
    def name(self) -> str:
        """Name of the configuration file."""
        return self.condition.name

    @property
    def key(self) -> str:
        """Key of the captions in the metadata of documents."""
        return self.condition.key

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(C,) documents with a caption, in the order of the seed.

        Raises:
            ConfigError: when none has one, naming the keys that there are.
        """
        count, key, keys = self.documents.num_documents, self.key, set[str]()
        has_caption = np.zeros(count, dtype=bool)
        for document, metadata in enumerate(self.documents.metadata_of(np.arange(count))):
            has_caption[document] = caption_of(metadata, key) is not None
            keys.update(metadata.get("info") or {})
        if not has_caption.any():
            raise self._none(count, sorted(keys))
        order = document_order(count, self.seed)
        return order[has_caption[order]]

    def _none(self, count: int, keys: list[str]) -> ConfigError:
        part = self.condition.captions.replace("_", "-")
        asked = f"condition={self.name} draws captions of {part} images"
        if not count:
            return ConfigError(
                f"{asked}, but the corpus holds none out; type condition.captions=training, or "
                "hold some out: corpus.holdout_fraction=0.1"
            )
        there = ", ".join(keys[:_LISTED]) or "none"
        return ConfigError(
            f"{asked}, but no captions are in the corpus: none of {count:,} images has "
            f"condition.key={self.key} in the JSON beside it"
            f"{' or a text beside it' if self.key == CAPTION else ''}; the keys there: {there}. "
            "Type condition.key=KEY, condition=none, or 'condition=prompt' "
            "'condition.texts=[a red bus]'"
        )

    def documents_of(self, samples: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the (B,) document whose caption each sample is asked for."""
        return self.order[in_turn(samples, len(self.order))]

    def texts_of(self, samples: NDArray[np.uint64]) -> list[str | None]:
        """Return the caption of each of (B,) sample ids."""
        found = self.documents.metadata_of(self.documents_of(samples))
        return [caption_of(metadata, self.key) for metadata in found]

    @cached_property
    def known(self) -> frozenset[str]:
        """All captions of training documents."""
        documents = np.arange(self.training.num_documents)
        found = (caption_of(each, self.key) for each in self.training.metadata_of(documents))
        return frozenset(text for text in found if text is not None)


@dataclass(frozen=True, kw_only=True)
class GivenCaptions:
    """Captions that somebody wrote; sample i takes the i-th of them, again and again.

    Attributes:
        texts: the captions.
        key: key of the captions of documents, which are scored under their own.
        name: in messages.
    """

    VERSION: ClassVar[int] = 1
    texts: tuple[str, ...]
    key: str
    name: str = field(default="prompt", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        for place, text in enumerate(self.texts):
            if not text.strip():
                raise ConfigError(
                    f"text {place + 1} of condition={self.name} is empty, and asks for nothing; "
                    "leave it out, or type condition=none for samples without a caption"
                )

    def texts_of(self, samples: NDArray[np.uint64]) -> list[str | None]:
        """Return the caption of each of (B,) sample ids."""
        return [self.texts[place] for place in in_turn(samples, len(self.texts)).tolist()]


@dataclass(frozen=True, kw_only=True)
class OwnCaptions:
    """The captions that real documents have, and for each that of another document.

    Attributes:
        texts: (B,) caption of each row; None: it has none.
        others: (B,) another caption for each row; (): there is only one.
        key: key of the captions.
        name: in messages.
    """

    texts: tuple[str | None, ...]
    others: tuple[str, ...] = ()
    key: str
    name: str = field(default="own", metadata=NOT_IDENTITY)

    @classmethod
    def of(cls, metadata: Iterable[Mapping[str, Any]], asked: Captions) -> Self:
        """Read the captions of documents from their metadata, in order; see :meth:`beside`."""
        return cls.beside([caption_of(one, asked.key) for one in metadata], asked)

    @classmethod
    def beside(cls, texts: Sequence[str | None], asked: Captions) -> Self:
        """Return captions of rows, each with another one beside it.

        That is one of the first that samples are asked for; which one depends on the row's own
        caption alone.
        """
        pool = list(dict.fromkeys(asked.texts_of(np.arange(_OTHERS, dtype=np.uint64))))
        known = [text for text in pool if text is not None]
        others = tuple(_another(text, known) for text in texts) if len(known) > 1 else ()
        return cls(texts=tuple(texts), others=others, key=asked.key)

    def texts_of(self, samples: NDArray[np.uint64]) -> list[str | None]:
        """Return the caption of each row, whatever its sample id."""
        return list(self.texts)


def _another(own: str | None, texts: Sequence[str]) -> str:
    """Return one of at least two texts that is not ``own``."""
    others = [text for text in texts if text != own]
    return others[zlib.crc32((own or "").encode("utf-8", "surrogatepass")) % len(others)]


def caption_of(metadata: Mapping[str, Any], key: str) -> str | None:
    """Return the caption of one document, without white space around it.

    >>> caption_of({"caption": " a dog "}, "caption"), caption_of({"caption": " "}, "caption")
    ('a dog', None)
    >>> caption_of({"info": {"name": "sock"}, "caption": "a dog"}, "name")
    'sock'
    """
    text = label_of(metadata, key)
    return (text.strip() or None) if text is not None else None
