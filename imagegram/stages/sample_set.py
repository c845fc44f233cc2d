"""SampleSet: what Generate, Replay and Decode write, opened as memory maps.

tokens.npy, trace/*.npy, images.npy or texts.jsonl; of real rows also documents.npy
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import TRAINING
from imagegram.errors import UnforeseenError
from imagegram.images.modality import IMAGES_FILE
from imagegram.protocols import CutDocuments, Tokenizer
from imagegram.records import Images, Tokens, Trace
from imagegram.stages.sentences import DRAWN, has_sentences, sentences_of
from imagegram.stages.tokens import TokenSet
from imagegram.store.manifest import Handle
from imagegram.texts.modality import TEXTS_FILE
from imagegram.texts.samples import read_texts

#: Captions that samples were asked for, and the documents that these are of.
CAPTIONS_FILE: Final = "captions.jsonl"
CAPTION_DOCUMENTS: Final = "caption_documents"
#: Rows of documents whose beginnings samples continue: their tokens, numbers and documents.
CONTINUED: Final = "continued"
CONTINUED_ROWS: Final = "continued_rows"
CONTINUED_DOCUMENTS: Final = "continued_documents"
#: Folder of the trace, one file an array.
TRACE: Final = "trace"


@dataclass(frozen=True, kw_only=True)
class Continued:
    """Rows of documents whose beginnings B samples continue.

    Attributes:
        tokens: (B, T) uint16 ids, padded with separators.
        rows: (B,) number of each row: samples of one number continue one excerpt.
        documents: (B,) document that each row is of.
        length: tokens of an excerpt.
    """

    tokens: Tokens
    rows: NDArray[np.int64]
    documents: NDArray[np.int64]
    length: int


@dataclass(frozen=True, kw_only=True)
class SampleSet(Handle):
    """Tokens of images with their trace; opens memory maps lazily (an ``ImageSet``).

    Attributes:
        documents: documents of the images; None for samples.
        tokenizer: tokenizer of the tokens, which may crop files of documents.
    """

    documents: Any = None
    tokenizer: Tokenizer | None = None

    @property
    def num_images(self) -> int:
        """Number of images, B."""
        return int(self.artifact.facts["num_images"])

    @cached_property
    def tokens(self) -> Tokens:
        """(B, T) uint16 tokens, memory-mapped."""
        return self._mapped("tokens.npy")

    @cached_property
    def images(self) -> Any:
        """(B, S, S, 3) uint8 images, memory-mapped; None for texts."""
        return self._mapped(IMAGES_FILE) if self._has(IMAGES_FILE) else None

    @cached_property
    def texts(self) -> Sequence[str] | None:
        """B texts; None for images."""
        if not self._has(TEXTS_FILE):
            return None
        self._require_made(TEXTS_FILE)
        return read_texts(self.artifact.path / TEXTS_FILE)

    @cached_property
    def captions(self) -> Sequence[str] | None:
        """The caption that each of B samples was asked for; None: for none."""
        if not self.artifact.is_made or not self._has(CAPTIONS_FILE):
            return None
        return read_texts(self.artifact.path / CAPTIONS_FILE)

    @cached_property
    def caption_documents(self) -> NDArray[np.int64] | None:
        """(B,) training document whose caption each sample was asked for; None: of none."""
        if self.captions is None or self.artifact.facts.get("captions_of") != TRAINING:
            return None
        return np.load(self.artifact.path / f"{CAPTION_DOCUMENTS}.npy")  # type: ignore[no-any-return]

    @cached_property
    def continued(self) -> Continued | None:
        """What samples continue: documents, see ``condition=excerpt_held_out``; None: nothing."""
        if not self.artifact.is_made or "num_excerpts" not in self.artifact.facts:
            return None
        return Continued(
            tokens=self._mapped(f"{CONTINUED}.npy"),
            rows=self._mapped(f"{CONTINUED_ROWS}.npy"),
            documents=self._mapped(f"{CONTINUED_DOCUMENTS}.npy"),
            length=self.artifact.facts["excerpt_tokens"],
        )

    @property
    def has_sentences(self) -> bool:
        """Whether the steps of its rows are sentences."""
        return has_sentences(self.tokenizer)

    @cached_property
    def sentences(self) -> Sequence[Sequence[str]] | None:
        """Sentences of each row, of the corpus for its documents; None: rows have none."""
        return sentences_of(self) if self.has_sentences else None

    def _require_made(self, name: str) -> None:
        if not self.artifact.is_made:
            raise UnforeseenError(f"{name} of {self.identity()} is known only when it is made")

    def _mapped(self, name: str) -> NDArray[Any]:
        self._require_made(name)
        return np.load(self.artifact.path / name, mmap_mode="r")  # type: ignore[no-any-return]

    def _has(self, name: str) -> bool:
        """Return whether the set has a file; a planned set has all, and refuses to read them."""
        return not self.artifact.is_made or (self.artifact.path / name).exists()

    @property
    def documents_identity(self) -> Any:
        """Identity of documents of which more is measured than their tokens; None for samples.

        Of pictures the original files, of windows what they are of.
        """
        if isinstance(self.documents, TokenSet):
            return self.documents.identity()
        if isinstance(self.documents, CutDocuments) and self.documents.is_cut:
            return {"rows": self.documents.identity()}
        return None

    @cached_property
    def row_documents(self) -> NDArray[np.int64] | None:
        """(B,) document that each row is a window of; None: every row stands for itself."""
        if not isinstance(self.documents, CutDocuments) or not self.documents.is_cut:
            return None
        self._require_made(DRAWN)
        return self.documents.document_of(np.load(self.artifact.path / DRAWN))

    @cached_property
    def originals(self) -> Images | None:
        """(B, S, S, 3) uint8 original files, cropped as for the tokenizer, resized (bilinear)."""
        if not isinstance(self.documents, TokenSet) or self.images is None:
            return None
        from imagegram.images.resampling import resize

        side = self.images.shape[1]
        drawn = np.load(self.artifact.path / DRAWN)
        files = (self.documents.picture(int(document)) for document in drawn)
        return np.stack([resize(self._seen(pixels), side) for pixels in files])

    def _seen(self, pixels: Images) -> Images:
        """Return the part of a picture that the tokenizer encodes, such as its middle square."""
        if self.tokenizer is None:
            return pixels
        prepared = self.tokenizer.prepare(pixels)
        is_picture = prepared.dtype == np.uint8 and prepared.shape[2:] == (3,)
        return prepared if is_picture else pixels

    @cached_property
    def trace(self) -> Trace:
        """(B, T) arrays by name, memory-mapped; decoded sets have none."""
        names = [file for file in self.artifact.manifest.files if file.startswith(f"{TRACE}/")]
        return {Path(name).stem: self._mapped(name) for name in names}
