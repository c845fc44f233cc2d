"""Token shards and token sets: what ``Tokenize`` leaves behind, opened as memory maps.

tokens = context.make(Tokenize(images=split.train, tokenizer=tokenizer))
tokens.gather([0, 17])          # (2, T) uint16
tokens.metadata(17)["caption"]  # what was beside the image
tokens.original(17)             # its encoded bytes, checked
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import CorpusError
from imagegram.records import Images, Locator, Tokens
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
        """Tokens of one document, T."""
        return int(self.artifact.facts["num_tokens"])

    @property
    def vocab_size(self) -> int:
        """Ids lie in 0 ... vocab_size - 1."""
        return int(self.artifact.facts["vocab_size"])

    @cached_property
    def stream(self) -> NDArray[np.uint16]:
        """(N * (T + 1) + 1,) uint16: the whole file, separators included."""
        return np.memmap(self.artifact.path / "tokenized.0", dtype="<u2", mode="r")

    @property
    def tokens(self) -> Tokens:
        """(N, T) uint16 view of the stream, without separators."""
        return self.stream[:-1].reshape(self.num_documents, self.num_tokens + 1)[:, 1:]

    @cached_property
    def offsets(self) -> NDArray[np.uint64]:
        """(N,) byte positions of the separators before the documents."""
        return self._positions("offset.0")

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
    """

    artifact: Artifact
    images: tuple[SplitShard, ...]

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the opened shards."""
        return {"artifact": self.artifact, "images": self.images}

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
        """Tokens of one document, T."""
        return int(self.artifact.facts["num_tokens"])

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

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer]) -> Tokens:
        """(B, T) uint16 tokens of the documents with the given ids, in the given order.

        Raises:
            IndexError: when there is no such document.
        """
        documents = np.asarray(document_ids, dtype=np.int64)
        for document in documents[(documents < 0) | (documents >= self.num_documents)]:
            _check_document(int(document), self.num_documents)
        tokens = np.empty((len(documents), self.num_tokens), np.uint16)
        shard_of = np.searchsorted(self.first_documents, documents, side="right") - 1
        for shard in np.unique(shard_of).tolist():  # a view of the map costs more than its rows
            rows = np.flatnonzero(shard_of == shard)
            places = documents[rows] - self.first_documents[shard]
            tokens[rows] = self.shards[shard].tokens[places]
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


def _check_document(document: int, num_documents: int) -> None:
    if not 0 <= document < num_documents:
        raise IndexError(f"document {document}: there are {num_documents}, from 0")
