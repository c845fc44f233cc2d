"""TokenShard: the documents of one token file, or some of them, as memory maps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.images.modality import IMAGES
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Sketches, Tokens
from imagegram.store.parts import open_named

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

#: Kind of an artifact that selects documents of one token shard, and its file with their numbers.
SELECTION_SHARD: Final = "selection_shard"
DOCUMENTS: Final = "documents.npy"


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """Documents of one token file, all or some; arrays are memory maps.

    Attributes:
        artifact: files of the shard, see ``token_files.py``.
        selection: numbers of the selected documents, ascending; None: all documents.
    """

    artifact: Artifact
    selection: Artifact | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without memory maps, which would be copied to another process."""
        return {"artifact": self.artifact, "selection": self.selection}

    def identity(self) -> Any:
        """Return ``token_shard/digest``, with the content of a selection that omits documents.

        Two splits that omit the same documents, or none, so share the artifacts of the rest.
        """
        if self.selection is None or self.is_whole:
            return self.artifact.identity()
        if not self.selection.is_made:  # in a plan, where the content is not known
            return [self.artifact.identity(), self.selection.identity()]
        return [self.artifact.identity(), self.selection.manifest.files[DOCUMENTS].sha256]

    @property
    def is_whole(self) -> bool:
        """Whether all documents of the file are selected."""
        return self.num_documents == int(self.artifact.facts["num_documents"])

    @property
    def _facts(self) -> dict[str, Any]:
        return (self.selection or self.artifact).facts

    @property
    def num_documents(self) -> int:
        """Number of selected documents, N."""
        return int(self._facts["num_documents"])

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the selected documents, without separators."""
        return int(self._facts["num_tokens"])

    @property
    def stream_tokens(self) -> int:
        """Number of tokens of their stream: a separator before each document, one at the end."""
        return self.num_tokens + self.num_documents + 1

    @property
    def document_length(self) -> int | None:
        """Number of tokens of every document, T; None: they differ."""
        length: int | None = self.artifact.facts["document_length"]
        return length

    @property
    def vocab_size(self) -> int:
        """Number of ids, which lie in 0 ... vocab_size - 1."""
        return int(self.artifact.facts["vocab_size"])

    @property
    def metadata_bytes(self) -> int:
        """Approximate bytes of the metadata of the selected documents."""
        every = int(self.artifact.facts["num_documents"])
        if self.artifact.is_made:
            size = self.artifact.manifest.files["metadata.0"].size_bytes
        else:
            size = int(self.artifact.facts["metadata_bytes"])
        return size * self.num_documents // max(every, 1)

    @cached_property
    def stream(self) -> NDArray[np.uint16]:
        """All tokens of the file, with separators, also of documents that are not selected."""
        return np.memmap(self.artifact.path / "tokenized.0", dtype="<u2", mode="r")

    @cached_property
    def separators(self) -> NDArray[np.int64]:
        """Positions of all separators in the file, including the one after its last document."""
        places = self._positions("offset.0") // np.uint64(TOKEN_BYTES)
        return np.append(places.astype(np.int64), len(self.stream) - 1)

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """Byte positions of the lines of ``metadata.0``, and the size of the file."""
        end = (self.artifact.path / "metadata.0").stat().st_size
        return np.append(self._positions("metaoff.0").astype(np.int64), end)

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) numbers of the selected documents in the file."""
        if self.selection is None or self.is_whole:
            return np.arange(self.num_documents)
        chosen: NDArray[np.uint32] = np.load(self.selection.path / DOCUMENTS)
        return chosen.astype(np.int64)

    def runs(self) -> list[tuple[int, int]]:
        """Return first and end of each run of documents that are adjacent in the file."""
        return runs_of(self.numbers)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) number of tokens of each document."""
        if self.document_length is not None:
            return np.full(self.num_documents, self.document_length, dtype=np.int64)
        return (np.diff(self.separators) - 1)[self.numbers]

    def document(self, document: int) -> Tokens:
        """Return the (L,) uint16 tokens of document 0 ... N - 1, without separators; a view.

        Raises:
            IndexError: for another document.
        """
        place = self._place(document)
        start, end = self.separators[place : place + 2].tolist()
        return self.stream[start + 1 : end]

    def gather(
        self, documents: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> Tokens:
        """Return (B, length) uint16 windows of documents, padded with separators after their end.

        Args:
            documents: (B,) numbers 0 ... N - 1.
            starts: (B,) first token of each window in its document.
            length: tokens of a window.
        """
        places, whole = self.numbers[documents], self.document_length
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
        """(N, ...) sketches of the documents; see ``Modality``."""
        facts = self.artifact.facts
        is_empty = not facts["num_documents"]  # an empty array cannot be mapped
        path = self.artifact.path / facts.get("sketches", IMAGES.SKETCHES)
        sketches: Sketches = np.load(path, mmap_mode=None if is_empty else "r")
        return sketches if self.is_whole else sketches[self.numbers]

    def _positions(self, name: str) -> NDArray[np.uint64]:
        return np.fromfile(self.artifact.path / name, dtype="<u8")

    def _place(self, document: int) -> int:
        check_document(document, self.num_documents)
        return int(self.numbers[document])

    def metadata(self, document: int) -> dict[str, Any]:
        """Return key, shard, sha256, size, caption, info and locator of document 0 ... N - 1.

        Raises:
            IndexError: for another document.
        """
        check_document(document, self.num_documents)
        (metadata,) = self.metadata_of([document])
        return metadata

    def metadata_of(self, documents: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Yield the metadata of documents, in their order, from one opened file."""
        with (self.artifact.path / "metadata.0").open("rb") as lines:
            for document in documents:
                lines.seek(int(self.lines[self.numbers[document]]))
                yield json.loads(lines.readline())


def open_shard(part: Artifact) -> TokenShard:
    """Return the token shard of an artifact: a whole one, or a selection of one."""
    if part.kind != SELECTION_SHARD:
        return TokenShard(artifact=part)
    if part.expected_parts is not None:
        (whole,) = part.expected_parts
    else:
        whole = open_named(part.manifest.payload["tokens"], named_by=part)
    return TokenShard(artifact=whole, selection=part)


def check_document(document: int, num_documents: int) -> None:
    """Refuse a number that no document has.

    Raises:
        IndexError: naming it.
    """
    if not 0 <= document < num_documents:
        raise IndexError(f"document {document}: there are {num_documents}, from 0")


def runs_of(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return first and end of each run of consecutive numbers among ascending ones.

    >>> runs_of(np.array([0, 1, 4, 6, 7, 8]))
    [(0, 2), (4, 5), (6, 9)]
    """
    breaks = np.flatnonzero(np.diff(numbers, prepend=-2, append=-2) != 1)
    return [(int(numbers[a]), int(numbers[b - 1]) + 1) for a, b in itertools.pairwise(breaks)]
