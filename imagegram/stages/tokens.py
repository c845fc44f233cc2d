"""Token shards and token sets: what ``Tokenize`` leaves behind, opened as memory maps.

tokens = context.make(Tokenize(images=split.train, tokenizer=tokenizer))
tokens.gather([0, 17])          # (2, T) uint16
tokens.document(17)             # all its tokens, also where documents differ in length
tokens.metadata(17)["caption"]  # what was beside the image
tokens.original(17)             # its encoded bytes, checked
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, CorpusError
from imagegram.protocols import DocumentSource
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Images, Locator, Tokens
from imagegram.store.parts import open_parts

if TYPE_CHECKING:
    from imagegram.stages.split import SplitShard
    from imagegram.store.manifest import Artifact


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """A finished token shard; arrays are memory maps.

    Attributes:
        artifact: on disk.
    """

    artifact: Artifact

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the memory maps, which would be copied."""
        return {"artifact": self.artifact}

    def identity(self) -> str:
        """``token_shard/digest``."""
        return self.artifact.identity()

    @property
    def num_documents(self) -> int:
        """Documents, N."""
        return int(self.artifact.facts["num_documents"])

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, separators not counted."""
        return int(self.artifact.facts["num_tokens"])

    @property
    def stream_tokens(self) -> int:
        """Tokens of the stream: a separator before every document and one at the end."""
        return self.num_tokens + self.num_documents + 1

    @property
    def document_length(self) -> int | None:
        """Tokens of every document, T; None: they differ."""
        return _document_length(self.artifact)

    @property
    def vocab_size(self) -> int:
        """Ids lie in 0 ... vocab_size - 1."""
        return int(self.artifact.facts["vocab_size"])

    @property
    def metadata_bytes(self) -> int:
        """Bytes of ``metadata.0``, in a plan about as many."""
        if self.artifact.is_made:
            return self.artifact.manifest.files["metadata.0"].size_bytes
        return int(self.artifact.facts["metadata_bytes"])

    @cached_property
    def stream(self) -> NDArray[np.uint16]:
        """(stream_tokens,) uint16: the whole file, separators included."""
        return np.memmap(self.artifact.path / "tokenized.0", dtype="<u2", mode="r")

    @property
    def tokens(self) -> Tokens:
        """(N, T) uint16 view of the stream, without separators; of equally long documents."""
        assert self.document_length is not None, f"{self.artifact.path}: documents differ in length"
        return self.stream[:-1].reshape(self.num_documents, self.document_length + 1)[:, 1:]

    @cached_property
    def offsets(self) -> NDArray[np.uint64]:
        """(N,) byte positions of the separators before the documents."""
        return self._positions("offset.0")

    @cached_property
    def separators(self) -> NDArray[np.int64]:
        """(N + 1,) positions of all separators in the stream."""
        places = np.asarray(self.offsets) // np.uint64(TOKEN_BYTES)
        return np.append(places.astype(np.int64), self.stream_tokens - 1)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of every document."""
        if self.document_length is not None:
            return np.full(self.num_documents, self.document_length, dtype=np.int64)
        return np.diff(self.separators) - 1

    def document(self, document: int) -> Tokens:
        """(L,) uint16 tokens of document 0 ... N - 1, without separators; a view.

        Raises:
            IndexError: for another document.
        """
        _check_document(document, self.num_documents)
        start, end = self.separators[document : document + 2].tolist()
        return self.stream[start + 1 : end]

    def gather(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> Tokens:
        """(B, length) uint16: windows of documents, padded with the separator behind an early end.

        Args:
            documents: (B,) 0 ... N - 1.
            starts: (B,) first token of each window inside its document.
            length: tokens of a window.
        """
        if length == self.document_length and not starts.any():  # whole rows, which is faster
            return self.tokens[documents]
        first = self.separators[documents] + 1 + starts
        left = self.separators[documents + 1] - first
        steps = np.arange(length)
        places_BT = np.minimum(first[:, None] + steps, self.separators[-1])
        ended_BT = steps >= left[:, None]
        return np.where(ended_BT, np.uint16(EOS_TOKEN_ID), self.stream[places_BT])

    @cached_property
    def thumbnails(self) -> Images:
        """(N, 16, 16, 3) uint8."""
        if not self.num_documents:  # an empty array cannot be mapped
            return np.empty((0, 16, 16, 3), np.uint8)
        thumbnails: Images = np.load(self.artifact.path / "thumbnails.npy", mmap_mode="r")
        return thumbnails

    @cached_property
    def metadata_offsets(self) -> NDArray[np.uint64]:
        """(N,) byte positions of the lines of ``metadata.0``."""
        return self._positions("metaoff.0")

    def _positions(self, name: str) -> NDArray[np.uint64]:
        if not self.num_documents:
            return np.empty(0, np.uint64)
        return np.memmap(self.artifact.path / name, dtype="<u8", mode="r")

    def metadata(self, document: int) -> dict[str, Any]:
        """Key, shard, sha256, size, caption, info and locator of document 0 ... N - 1.

        Raises:
            IndexError: for another document.
        """
        _check_document(document, self.num_documents)
        with (self.artifact.path / "metadata.0").open("rb") as lines:
            lines.seek(int(self.metadata_offsets[document]))
            metadata: dict[str, Any] = json.loads(lines.readline())
        return metadata


@dataclass(frozen=True, kw_only=True)
class TokenSet:
    """Token shards in the order of their corpus; document ids run shard by shard.

    Attributes:
        artifact: on disk.
        images: what was tokenized, shard by shard: any original can be shown again.
        window: tokens of a gathered row where documents differ in length.
    """

    artifact: Artifact
    images: tuple[SplitShard, ...]
    window: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the opened shards."""
        return {"artifact": self.artifact, "images": self.images, "window": self.window}

    def identity(self) -> str:
        """``tokens/digest``."""
        return self.artifact.identity()

    @cached_property
    def shards(self) -> tuple[TokenShard, ...]:
        """The token shards, found beside this artifact.

        Raises:
            ArtifactError: when one was removed or damaged.
        """
        return tuple(TokenShard(artifact=part) for part in open_parts(self.artifact))

    @property
    def num_documents(self) -> int:
        """Documents of all shards."""
        return int(self.artifact.facts["num_documents"])

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, separators not counted."""
        return int(self.artifact.facts["num_tokens"])

    @property
    def document_length(self) -> int | None:
        """Tokens of every document; None: they differ."""
        return _document_length(self.artifact)

    @property
    def length(self) -> int:
        """Tokens of a gathered row, T.

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
        """(N,) tokens of every document."""
        return np.concatenate([np.empty(0, np.int64), *(shard.lengths for shard in self.shards)])

    def windows(self) -> DocumentSource:
        """What samples are compared with: rows of T tokens, none over another.

        Itself where a document is a sample; elsewhere the windows of its documents.
        """
        return self if self.document_length is not None else Windows(tokens=self)

    @cached_property
    def first_documents(self) -> NDArray[np.int64]:
        """(S + 1,) id of the first document of every shard, then the number of all documents."""
        counts = [shard.num_documents for shard in self.shards]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def locate(self, document: int) -> tuple[int, int]:
        """Shard number and place inside that shard of a document.

        Raises:
            IndexError: when there is no such document.
        """
        _check_document(document, self.num_documents)
        shard = int(np.searchsorted(self.first_documents, document, side="right")) - 1
        return shard, document - int(self.first_documents[shard])

    def document(self, document: int) -> Tokens:
        """(L,) uint16 tokens of one document, a view; see :meth:`TokenShard.document`."""
        shard, place = self.locate(document)
        return self.shards[shard].document(place)

    def gather(
        self,
        document_ids: Sequence[int] | NDArray[np.integer],
        starts: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> Tokens:
        """(B, T) uint16 tokens of the documents with the given ids, in the given order.

        A row begins at the given token of its document (None: the first), and is padded with the
        separator where the document ends early.

        Raises:
            IndexError: when there is no such document.
        """
        documents = np.asarray(document_ids, dtype=np.int64)
        begins = np.zeros_like(documents) if starts is None else np.asarray(starts, dtype=np.int64)
        for document in documents[(documents < 0) | (documents >= self.num_documents)]:
            _check_document(int(document), self.num_documents)
        tokens = np.empty((len(documents), self.length), np.uint16)
        shard_of = np.searchsorted(self.first_documents, documents, side="right") - 1
        for shard in np.unique(shard_of).tolist():  # a view of the map costs more than its rows
            rows = np.flatnonzero(shard_of == shard)
            places = documents[rows] - self.first_documents[shard]
            tokens[rows] = self.shards[shard].gather(places, begins[rows], self.length)
        return tokens

    def metadata(self, document: int) -> dict[str, Any]:
        """Metadata of one document; see :meth:`TokenShard.metadata`."""
        shard, place = self.locate(document)
        return self.shards[shard].metadata(place)

    def thumbnails_blocks(self) -> Iterator[tuple[int, Images]]:
        """First document id and (N, 16, 16, 3) uint8 thumbnails, shard by shard."""
        for first, shard in zip(self.first_documents.tolist(), self.shards, strict=False):
            yield first, shard.thumbnails

    def original(self, document: int) -> bytes:
        """The encoded bytes of the image that a document was made from, in O(1).

        Raises:
            CorpusError: when the shard changed behind the finished artifact.
        """
        shard, place = self.locate(document)
        metadata = self.shards[shard].metadata(place)
        images = self.images[shard].shard
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
        tokens: the documents; an empty one has no window.
    """

    VERSION: ClassVar[int] = 1
    tokens: TokenSet

    def identity(self) -> dict[str, Any]:
        """The documents and T."""
        tokens = {"tokens": self.tokens.identity(), "length": self.tokens.length}
        return {"class": type(self).__name__, "version": self.VERSION, **tokens}

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """(N,) windows up to the end of each document."""
        return np.cumsum(-(-self.tokens.lengths // self.tokens.length))

    @property
    def num_documents(self) -> int:
        """Windows."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(
        self, windows: Sequence[int] | NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Documents of windows, and where in them they begin.

        Raises:
            IndexError: when there is no such window.
        """
        numbers = np.asarray(windows, dtype=np.int64)
        for number in numbers[(numbers < 0) | (numbers >= self.num_documents)]:
            _check_document(int(number), self.num_documents)
        documents = np.searchsorted(self._ends, numbers, side="right")
        before = np.append(0, self._ends)[documents]
        return documents, (numbers - before) * self.tokens.length

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer]) -> Tokens:
        """(B, T) uint16 tokens of the given windows, in the given order."""
        return self.tokens.gather(*self.locate(document_ids))


def _document_length(artifact: Artifact) -> int | None:
    length = artifact.facts["document_length"]
    return None if length is None else int(length)


def _check_document(document: int, num_documents: int) -> None:
    if not 0 <= document < num_documents:
        raise IndexError(f"document {document}: there are {num_documents}, from 0")
