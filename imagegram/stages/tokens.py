"""TokenSet: the documents that ``Tokenize``, ``Prefix`` and ``Select`` make, as memory maps.

    everything = context.make(Tokenize(shards=corpus.shards, tokenizer=tokenizer))
    tokens = context.make(Select(tokens=everything, images=split.train))
    tokens.gather([0, 17])          # (2, T) uint16
    tokens.document(17)             # all its tokens, also where documents differ in length
    tokens.metadata(17)["caption"]  # caption of the image in the corpus
    tokens.original(17)             # encoded bytes of the image, checked

Documents that differ in length are read as :class:`Windows` of one length.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, CorpusError
from imagegram.images.decode import decode_image
from imagegram.images.modality import IMAGES
from imagegram.images.views import ORIGINAL, view_of
from imagegram.protocols import DocumentSource, Modality
from imagegram.records import Images, Locator, Sketches, Tokens
from imagegram.stages.token_shard import TokenShard, check_document, open_shard
from imagegram.store.manifest import Handle
from imagegram.store.parts import open_parts

if TYPE_CHECKING:
    from imagegram.protocols import ImageShard, Tokenizer

Metadata = dict[str, Any]
#: Reasons to leave a document out of one part of a corpus that put it into the other.
OTHER_PART: Final = ("held_out", "not_held_out")


@dataclass(frozen=True, kw_only=True)
class TokenSet(Handle):
    """Token shards in the order of their corpus; document ids run shard by shard.

    Attributes:
        images: shards that were tokenized, for :meth:`original`.
        window: tokens of a gathered row where documents differ in length.
        tokenizer: that wrote the ids, for generators that read more of it than the ids; None: not
            known.
        modality: kind of the documents.
        near_duplicate_limit: where near-duplicates begin, see ``Corpus``; None: nobody said.
    """

    images: tuple[ImageShard, ...]
    window: int | None = None
    tokenizer: Tokenizer | None = field(default=None, compare=False)
    modality: Modality = IMAGES
    near_duplicate_limit: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without opened shards and tokenizer, so that it can be sent away."""
        known = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return known | {"tokenizer": None}

    @cached_property
    def shards(self) -> tuple[TokenShard, ...]:
        """Token shards, which lie beside the artifact.

        Raises:
            ArtifactError: when one was removed or damaged.
        """
        return tuple(open_shard(part) for part in open_parts(self.artifact))

    @property
    def num_documents(self) -> int:
        """Number of documents of all shards, N."""
        return int(self.artifact.facts["num_documents"])

    @property
    def num_views(self) -> int:
        """Number of views of each image, V: document i is of image i % (N / V)."""
        return int(self.artifact.facts.get("num_views", 1))

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all documents, without separators."""
        return int(self.artifact.facts["num_tokens"])

    @property
    def skipped(self) -> dict[str, int]:
        """How many records no part of the corpus has, by reason; what is held out is not lost."""
        skipped = self.artifact.facts["skipped"]
        return {reason: n for reason, n in skipped.items() if n and reason not in OTHER_PART}

    @property
    def document_length(self) -> int | None:
        """Number of tokens of every document; None: they differ."""
        length: int | None = self.artifact.facts["document_length"]
        return length

    @property
    def length(self) -> int:
        """Number of tokens of a gathered row, T.

        Raises:
            ConfigError: when documents differ in length and no window is given.
        """
        length = self.document_length or self.window
        if length is None:
            raise ConfigError(
                f"{self.artifact.path}: its documents differ in length; say how many tokens a row "
                "has: dataclasses.replace(tokens, window=T)"
            )
        return length

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) number of tokens of each document."""
        return np.concatenate([np.empty(0, np.int64), *(shard.lengths for shard in self.shards)])

    def windows(self) -> DocumentSource:
        """Return the rows of T tokens that samples are compared with.

        Documents of one length are such rows; documents of other lengths are cut into windows.
        """
        return self if self.document_length is not None else Windows(tokens=self)

    @cached_property
    def first_documents(self) -> NDArray[np.int64]:
        """(S + 1,) id of the first document of each shard, and the number of all documents."""
        counts = [shard.num_documents for shard in self.shards]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def locate(self, document: int) -> tuple[int, int]:
        """Return the number of a document's shard and its place in that shard.

        Raises:
            IndexError: when there is no such document.
        """
        check_document(document, self.num_documents)
        shard = int(np.searchsorted(self.first_documents, document, side="right")) - 1
        return shard, document - int(self.first_documents[shard])

    def document(self, document: int) -> Tokens:
        """Return the (L,) uint16 tokens of one document; see :meth:`TokenShard.document`."""
        shard, place = self.locate(document)
        return self.shards[shard].document(place)

    def gather(
        self,
        document_ids: Sequence[int] | NDArray[np.integer],
        starts: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> Tokens:
        """Return the (B, T) uint16 tokens of documents, padded with separators after their end.

        Args:
            document_ids: (B,) ids, in the order of the rows.
            starts: (B,) first token of each row in its document; None: 0.

        Raises:
            IndexError: when there is no such document.
        """
        documents = np.asarray(document_ids, dtype=np.int64)
        begins = np.zeros_like(documents) if starts is None else np.asarray(starts, dtype=np.int64)
        for document in documents[(documents < 0) | (documents >= self.num_documents)]:
            check_document(int(document), self.num_documents)
        tokens = np.empty((len(documents), self.length), np.uint16)
        shard_of = np.searchsorted(self.first_documents, documents, side="right") - 1
        for shard in np.unique(shard_of).tolist():  # a view of the map costs more than its rows
            rows = np.flatnonzero(shard_of == shard)
            places = documents[rows] - self.first_documents[shard]
            tokens[rows] = self.shards[shard].gather(places, begins[rows], self.length)
        return tokens

    def metadata(self, document: int) -> dict[str, Any]:
        """Return the metadata of one document; see :meth:`TokenShard.metadata`."""
        shard, place = self.locate(document)
        return self.shards[shard].metadata(place)

    def metadata_of(self, document_ids: Sequence[int] | NDArray[np.integer]) -> Iterator[Metadata]:
        """Yield the metadata of documents, in the order of their ids."""
        documents = np.asarray(document_ids, dtype=np.int64)
        shard_of = np.searchsorted(self.first_documents, documents, side="right") - 1
        for run in np.split(np.arange(len(documents)), np.flatnonzero(np.diff(shard_of)) + 1):
            if len(run):
                shard = int(shard_of[run[0]])
                places = documents[run] - self.first_documents[shard]
                yield from self.shards[shard].metadata_of(places.tolist())

    def sketch_blocks(self) -> Iterator[tuple[int, Sketches]]:
        """Yield first document id and sketches, shard by shard."""
        for first, shard in zip(self.first_documents.tolist(), self.shards, strict=False):
            yield first, shard.sketches

    def picture(self, document: int) -> Images:
        """Return the image that was tokenized, (H, W, 3) uint8, in the view of the document.

        Raises:
            CorpusError: when the shard changed behind the finished artifact.
        """
        pixels = decode_image(self.original(document))
        return view_of(pixels, self.metadata(document).get("view", ORIGINAL))

    def original(self, document: int) -> bytes:
        """Return the encoded bytes of the image that a document was made from, in O(1).

        Raises:
            CorpusError: when the shard changed behind the finished artifact.
        """
        shard, place = self.locate(document)
        metadata = self.shards[shard].metadata(place)
        images = self.images[shard]
        data = images.read(Locator(**metadata["locator"]))
        if hashlib.sha256(data).hexdigest() != metadata["sha256"]:
            raise CorpusError(
                f"{images.path}: {metadata['locator']['member']} is no longer the image that was "
                "tokenized; put the old shard back, or run again to tokenize the new one"
            )
        return data


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A DocumentSource: documents of any length cut into rows of T tokens, the last one padded.

    Attributes:
        tokens: documents; an empty document has no window.
    """

    VERSION: ClassVar[int] = 1
    tokens: TokenSet

    def identity(self) -> dict[str, Any]:
        """Return the identity of the documents, and T."""
        tokens = {"tokens": self.tokens.identity(), "length": self.tokens.length}
        return {"class": type(self).__name__, "version": self.VERSION, **tokens}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """(N,) number of windows up to the end of each document."""
        return np.cumsum(-(-self.tokens.lengths // self.tokens.length))

    @property
    def num_documents(self) -> int:
        """Number of windows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(
        self, windows: Sequence[int] | NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the document of each window, and its first token in that document.

        Raises:
            IndexError: when there is no such window.
        """
        numbers = np.asarray(windows, dtype=np.int64)
        for number in numbers[(numbers < 0) | (numbers >= self.num_documents)]:
            check_document(int(number), self.num_documents)
        documents = np.searchsorted(self._ends, numbers, side="right")
        before = np.append(0, self._ends)[documents]
        return documents, (numbers - before) * self.tokens.length

    @property
    def is_cut(self) -> bool:
        """True: rows are windows (``CutDocuments``)."""
        return True

    def document_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the document of each window."""
        return self.locate(rows)[0]

    def metadata_of(self, document_ids: Sequence[int] | NDArray[np.integer]) -> Iterator[Metadata]:
        """Yield the metadata of the documents of windows."""
        return self.tokens.metadata_of(self.locate(document_ids)[0])

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer]) -> Tokens:
        """Return the (B, T) uint16 tokens of windows, in the order of their numbers."""
        return self.tokens.gather(*self.locate(document_ids))
