"""Token streams of documents, which every engine reads, on disk or in memory.

>>> stream = ListedStream.of([65535, 1, 2, 65535, 3, 4, 65535])
>>> stream.num_documents, stream.document(1).tolist(), stream.locate(5)
(2, [3, 4], (1, 1))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import TokenError
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES, Tokens


class DocumentStream(ABC):
    """Tokens of one shard, a separator before each document and perhaps after the last."""

    @property
    @abstractmethod
    def tokens(self) -> Tokens:
        """(num_tokens,) the whole stream, separators included."""

    @property
    @abstractmethod
    def offsets(self) -> NDArray[np.uint64]:
        """(num_documents,) byte position of the separator before each document."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the stream in messages."""

    @abstractmethod
    def metadata(self, document: int) -> dict[str, Any]:
        """Return the metadata of one document."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the stream, separators included."""
        return int(self.tokens.size)

    @property
    def num_documents(self) -> int:
        """Documents of the stream."""
        return int(self.offsets.size)

    @cached_property
    def has_final_separator(self) -> bool:
        """Whether a separator follows the last document (as imagegram writes it)."""
        if not self.num_tokens or int(self.tokens[-1]) != EOS_TOKEN_ID:
            return False
        return not self.num_documents or self._start(self.num_documents - 1) < self.num_tokens

    @cached_property
    def document_length(self) -> int | None:
        """Tokens of every document when all are equally long, else None."""
        if not self.num_documents:
            return None
        separators = np.asarray(self.offsets, dtype=np.int64) // TOKEN_BYTES
        strides = np.diff(separators, append=self.num_tokens - int(self.has_final_separator))
        return int(strides[0]) - 1 if (strides == strides[0]).all() else None

    def document(self, document: int) -> Tokens:
        """Return the (T,) token ids of one document, without separators; a view of the stream.

        Raises:
            TokenError: when there is no such document.
        """
        self.check_document(document)
        if document == self.num_documents - 1:
            end = self.num_tokens - int(self.has_final_separator)
        else:
            end = self._start(document + 1) - 1
        return self.tokens[self._start(document) : end]

    def locate(self, position: int) -> tuple[int, int]:
        """Return the document of one token of the stream, and the position inside it.

        A separator has position -1 of the document that follows; the final separator is the last
        document's position ``len(document)``. A stream without documents answers (-1, -1).
        """
        byte = np.uint64(position * TOKEN_BYTES)
        document = int(np.searchsorted(self.offsets, byte, side="right")) - 1
        return document, position - self._start(document) if document >= 0 else -1

    def check_document(self, document: int) -> None:
        """Raise TokenError when there is no such document."""
        if not 0 <= document < self.num_documents:
            raise TokenError(
                f"{self.name} has no document {document}; it holds {self.num_documents}, counted "
                "from 0"
            )

    def _start(self, document: int) -> int:
        return int(self.offsets[document]) // TOKEN_BYTES + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class ListedStream(DocumentStream):
    """A stream in memory. Make it with :meth:`of`."""

    ids: Tokens
    separators: NDArray[np.int64]

    @property
    def tokens(self) -> Tokens:
        """(num_tokens,) the whole stream."""
        return self.ids

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """(num_documents,) byte position of the separator before each document."""
        return (self.separators * TOKEN_BYTES).astype(np.uint64)

    @property
    def name(self) -> str:
        """Name of the stream in messages."""
        return "the stream in memory"

    @classmethod
    def of(cls, ids: Sequence[int] | Tokens) -> ListedStream:
        """Make a stream from ids that begin with a separator; one may follow the last document."""
        tokens = np.asarray(ids, dtype=np.uint16)
        separators = np.flatnonzero(tokens == EOS_TOKEN_ID)
        if tokens.size and (not separators.size or separators[0]):
            raise TokenError(
                f"a stream begins with the separator {EOS_TOKEN_ID}; this one begins with "
                f"{tokens[0]}"
            )
        if separators.size and separators[-1] == tokens.size - 1:
            separators = separators[:-1]
        return cls(ids=tokens, separators=separators)

    def metadata(self, document: int) -> dict[str, Any]:
        """Return an empty dictionary: documents in memory have no metadata."""
        self.check_document(document)
        return {}
