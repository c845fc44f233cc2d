"""Token shards and token sets: what ``Tokenize`` and ``Select`` leave behind, as memory maps.

everything = context.make(Tokenize(shards=corpus.shards, tokenizer=tokenizer))
tokens = context.make(Select(tokens=everything, images=split.train))
tokens.gather([0, 17])          # (2, T) uint16
tokens.document(17)             # all its tokens, also where documents differ in length
tokens.metadata(17)["caption"]  # what was beside the image
tokens.original(17)             # its encoded bytes, checked
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, CorpusError
from imagegram.images.modality import IMAGES
from imagegram.protocols import DocumentSource
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Locator, Sketches, Tokens
from imagegram.store.parts import open_named, open_parts

if TYPE_CHECKING:
    from imagegram.protocols import ImageShard
    from imagegram.store.manifest import Artifact

#: Kind of an artifact that selects documents of one token shard; their numbers in its file.
SELECTION_SHARD: Final = "selection_shard"
DOCUMENTS: Final = "documents.npy"


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """Documents of one token file, all or some; arrays are memory maps.

    Attributes:
        artifact: the token file and what lies beside it.
        selection: which of its documents, in their order; None: all.
    """

    artifact: Artifact
    selection: Artifact | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the memory maps, which would be copied."""
        return {"artifact": self.artifact, "selection": self.selection}

    def identity(self) -> Any:
        """``token_shard/digest``, and the content of a selection that leaves documents out.

        So two splits that leave out the same documents, or none, share what is built of the rest.
        """
        if self.selection is None or self.is_whole:
            return self.artifact.identity()
        if not self.selection.is_made:  # in a plan, where the content is not known
            return [self.artifact.identity(), self.selection.identity()]
        return [self.artifact.identity(), self.selection.manifest.files[DOCUMENTS].sha256]

    @property
    def is_whole(self) -> bool:
        """Whether these are all documents of the file."""
        return self.num_documents == int(self.artifact.facts["num_documents"])

    @property
    def _facts(self) -> dict[str, Any]:
        return (self.selection or self.artifact).facts

    @property
    def num_documents(self) -> int:
        """Documents, N."""
        return int(self._facts["num_documents"])

    @property
    def num_tokens(self) -> int:
        """Tokens of these documents, separators not counted."""
        return int(self._facts["num_tokens"])

    @property
    def stream_tokens(self) -> int:
        """Tokens of a stream of them: a separator before every document and one at the end."""
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
        """Bytes of the metadata of these documents, about."""
        every = int(self.artifact.facts["num_documents"])
        if self.artifact.is_made:
            size = self.artifact.manifest.files["metadata.0"].size_bytes
        else:
            size = int(self.artifact.facts["metadata_bytes"])
        return size * self.num_documents // max(every, 1)

    @cached_property
    def stream(self) -> NDArray[np.uint16]:
        """All tokens of the file, separators included, whatever is selected of it."""
        return np.memmap(self.artifact.path / "tokenized.0", dtype="<u2", mode="r")

    @cached_property
    def separators(self) -> NDArray[np.int64]:
        """Positions of all separators in the file, also the one behind its last document."""
        places = self._positions("offset.0") // np.uint64(TOKEN_BYTES)
        return np.append(places.astype(np.int64), len(self.stream) - 1)

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """Byte positions of the lines of ``metadata.0``, and its size."""
        end = (self.artifact.path / "metadata.0").stat().st_size
        return np.append(self._positions("metaoff.0").astype(np.int64), end)

    @cached_property
    def _chosen(self) -> NDArray[np.int64]:
        """(N,) numbers of these documents in the file."""
        if self.selection is None or self.is_whole:
            return np.arange(self.num_documents)
        chosen: NDArray[np.uint32] = np.load(self.selection.path / DOCUMENTS)
        return chosen.astype(np.int64)

    def runs(self) -> list[tuple[int, int]]:
        """First and end of every run of documents that follow each other in the file."""
        return runs_of(self._chosen)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of every document."""
        if self.document_length is not None:
            return np.full(self.num_documents, self.document_length, dtype=np.int64)
        return (np.diff(self.separators) - 1)[self._chosen]

    def document(self, document: int) -> Tokens:
        """(L,) uint16 tokens of document 0 ... N - 1, without separators; a view.

        Raises:
            IndexError: for another document.
        """
        place = self._place(document)
        start, end = self.separators[place : place + 2].tolist()
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
        places, whole = self._chosen[documents], self.document_length
        if whole is not None and length <= whole and not starts.any():  # a view, which is faster
            return self.stream[:-1].reshape(-1, whole + 1)[places, 1 : length + 1]
        first = self.separators[places] + 1 + starts
        left = self.separators[places + 1] - first
        steps = np.arange(length)
        places_BT = np.minimum(first[:, None] + steps, self.separators[-1])
        ended_BT = steps >= left[:, None]
        return np.where(ended_BT, np.uint16(EOS_TOKEN_ID), self.stream[places_BT])

    @cached_property
    def sketches(self) -> Sketches:
        """(N, ...) what near-duplicates of the documents are found by; see ``Modality``."""
        facts = self.artifact.facts
        is_empty = not facts["num_documents"]  # an empty array cannot be mapped
        path = self.artifact.path / facts.get("sketches", IMAGES.SKETCHES)
        sketches: Sketches = np.load(path, mmap_mode=None if is_empty else "r")
        return sketches if self.is_whole else sketches[self._chosen]

    def _positions(self, name: str) -> NDArray[np.uint64]:
        return np.fromfile(self.artifact.path / name, dtype="<u8")

    def _place(self, document: int) -> int:
        _check_document(document, self.num_documents)
        return int(self._chosen[document])

    def metadata(self, document: int) -> dict[str, Any]:
        """Key, shard, sha256, size, caption, info and locator of document 0 ... N - 1.

        Raises:
            IndexError: for another document.
        """
        place = self._place(document)
        with (self.artifact.path / "metadata.0").open("rb") as lines:
            lines.seek(int(self.lines[place]))
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
    images: tuple[ImageShard, ...]
    window: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the opened shards."""
        return {"artifact": self.artifact, "images": self.images, "window": self.window}

    def identity(self) -> str:
        """kind/digest of the artifact."""
        return self.artifact.identity()

    @cached_property
    def shards(self) -> tuple[TokenShard, ...]:
        """The token shards, found beside this artifact.

        Raises:
            ArtifactError: when one was removed or damaged.
        """
        return tuple(_open_shard(part) for part in open_parts(self.artifact))

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

    def sketch_blocks(self) -> Iterator[tuple[int, Sketches]]:
        """First document id and sketches, shard by shard."""
        for first, shard in zip(self.first_documents.tolist(), self.shards, strict=False):
            yield first, shard.sketches

    def original(self, document: int) -> bytes:
        """The encoded bytes of the image that a document was made from, in O(1).

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


def runs_of(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and end of every run of consecutive ones among ascending numbers.

    >>> runs_of(np.array([0, 1, 4, 6, 7, 8]))
    [(0, 2), (4, 5), (6, 9)]
    """
    breaks = np.flatnonzero(np.diff(numbers, prepend=-2, append=-2) != 1)
    return [(int(numbers[a]), int(numbers[b - 1]) + 1) for a, b in itertools.pairwise(breaks)]


def _open_shard(part: Artifact) -> TokenShard:
    """A token shard, or what is selected of one."""
    if part.kind != SELECTION_SHARD:
        return TokenShard(artifact=part)
    if part.expected_parts is not None:
        (whole,) = part.expected_parts
    else:
        whole = open_named(part.manifest.payload["tokens"], named_by=part)
    return TokenShard(artifact=whole, selection=part)


def _document_length(artifact: Artifact) -> int | None:
    length = artifact.facts["document_length"]
    return None if length is None else int(length)


def _check_document(document: int, num_documents: int) -> None:
    if not 0 <= document < num_documents:
        raise IndexError(f"document {document}: there are {num_documents}, from 0")
