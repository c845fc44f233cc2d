"""Contracts of evaluation: image sets, metrics, encoders, and the training corpus they compare to.

A score is a function of image sets of equal size, so floor and ceiling are measured like samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenLayout
from imagegram.protocols.data import Tokenizer
from imagegram.protocols.models import Index
from imagegram.records import (
    Features,
    Images,
    Measurement,
    ScoreInfo,
    Sketches,
    Tokens,
    Trace,
)
from imagegram.store.stage import Context, Progress


class Encoder(Protocol):
    """A feature extractor of images; its preprocessing is part of its identity."""

    name: str

    def encode(self, images_BHWC: Images) -> Features:
        """Return the (B, D) float32 features of (B, H, W, 3) uint8 images."""


class TextEncoder(Protocol):
    """A feature extractor of texts."""

    @property
    def name(self) -> str:
        """Name in scores."""

    def encode(self, texts: Sequence[str]) -> Features:
        """Return the (B, D) float32 features of B texts."""


class ImageSet(Protocol):
    """Tokens of images with their trace: generated samples, held-out floor or training ceiling."""

    def identity(self) -> Any:
        """Return kind/digest of the artifact."""

    @property
    def num_images(self) -> int:
        """Number of images, B."""

    @property
    def tokens(self) -> Tokens:
        """(B, T) uint16 tokens, memory-mapped."""

    @property
    def images(self) -> Any:
        """(B, S, S, 3) uint8 images, memory-mapped; None for texts."""

    @property
    def texts(self) -> Any:
        """B texts; None for images."""

    @property
    def sentences(self) -> Any:
        """Sentences of each of B rows, of the corpus for its documents; None: rows have none."""

    @property
    def originals(self) -> Images | None:
        """(B, S, S, 3) uint8 images of the corpus files of the tokens; None for samples."""

    @property
    def row_documents(self) -> NDArray[np.int64] | None:
        """(B,) document that each row is a window of; None: every row stands for itself."""

    @property
    def continued(self) -> Any:
        """Rows of documents whose beginnings the set continues (``Continued``); None: of none."""

    @property
    def trace(self) -> Trace:
        """(B, T) arrays by name."""


class Metric(Protocol):
    """A measurement, made in the same way of generated, held-out, training and planted images.

    ``NEEDS`` lists the inputs of the metric. Where a set or a model cannot give one of them, the
    metric is left out and the run says so (``stages/needs.py``):

    * ``ids``, ``images``, ``text`` of the measured set; ``trace.<name>``, an array of its trace.
      Real images are measured once, whatever sampler replayed them, by metrics without a trace;
    * ``sentences``: steps of ids that are sentences, which are known;
    * ``continued``: documents whose beginnings the set continues, see ``SampleSet.continued``;
    * ``places``: positions that mean the same in all documents, which then have one length;
    * ``matches`` and ``training_features``: of the training corpus, always there, at a cost.

    ``SCORES`` describes every score that the metric writes.

    Plans ask for its ``EFFORT`` (``stages/effort.py``): what its own seconds grow with; without
    one for its ``SECONDS`` of an image.

    A metric may also have ``across(measured)``, which returns scores of the generator that no
    single set tells, from the measurements of all sets by name: a value has no floor then.
    """

    name: str
    NEEDS: ClassVar[frozenset[str]]
    SCORES: ClassVar[tuple[ScoreInfo, ...]]

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the training corpus."""


class DocumentSource(Protocol):
    """Documents that give rows of tokens."""

    def identity(self) -> Any:
        """Return the identity of the documents."""

    @property
    def num_documents(self) -> int:
        """Number of documents, N."""

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer[Any]]) -> Tokens:
        """Return the (B, T) uint16 tokens of documents, in the order of their ids."""


@runtime_checkable
class DescribedDocuments(DocumentSource, Protocol):
    """Documents that are known by more than their tokens: label, caption."""

    def metadata_of(
        self, document_ids: Sequence[int] | NDArray[np.integer[Any]]
    ) -> Iterator[dict[str, Any]]:
        """Yield the metadata of documents, in the order of their ids; {}: nothing is known."""


@runtime_checkable
class PicturedDocuments(DocumentSource, Protocol):
    """Documents whose pictures are there, not their tokens alone."""

    def picture(self, document: int) -> Images:
        """Return the (H, W, 3) uint8 picture of a document."""


@runtime_checkable
class CutDocuments(DocumentSource, Protocol):
    """Rows that may be windows of longer documents, so that several are of one."""

    @property
    def is_cut(self) -> bool:
        """Whether they are."""

    def document_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the document that each of some rows is of; equal numbers, one document."""


class Documents(DocumentSource, Protocol):
    """Tokenized images of a corpus; ids run shard by shard."""

    @property
    def num_views(self) -> int:
        """Number of views of each image, V: document i is of image i % (N / V)."""

    def metadata(self, document: int) -> dict[str, Any]:
        """Return source key, shard, caption ... of one document."""

    def sketch_blocks(self) -> Iterator[tuple[int, Sketches]]:
        """Yield first document id and sketches, shard by shard."""


class Reference(Protocol):
    """The training corpus as the input of metrics."""

    @property
    def index(self) -> Index:
        """Index of all training documents."""

    @property
    def layout(self) -> TokenLayout:
        """Layout of the tokenizer."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the tokens."""

    @property
    def vocab_size(self) -> int:
        """Vocabulary size of the tokenizer: ids lie in 0 ... vocab_size - 1."""

    @property
    def documents(self) -> Documents:
        """Training documents."""

    @property
    def calibration(self) -> ImageSet | None:
        """Held-out images for thresholds, none of them in the floor; None: too few."""

    @property
    def seed(self) -> int:
        """Seed of the run, for subsets."""

    @property
    def context(self) -> Context:
        """Context that makes further artifacts; none of it changes a score."""

    @property
    def workers(self) -> int:
        """Number of threads that a metric may use; it never changes a score."""

    @property
    def progress(self) -> Progress:
        """Progress bars, for what takes seconds."""

    def match_lengths(self, images: ImageSet) -> NDArray[np.integer[Any]]:
        """Return the (B, T) longest matches of an image set in the index, cached."""

    def features(self, encoder: Encoder | TextEncoder, images: ImageSet) -> Features:
        """Return the (B, D) features of an image set, cached."""

    def reference_features(self, encoder: Encoder | TextEncoder) -> Features:
        """Return the (R, D) features of the training images that distances compare with."""

    def training_features(self, encoder: Encoder) -> Features:
        """Return the (N, D) features of all training images, memory-mapped, in any order."""

    def decode(
        self, tokens_BT: Tokens, *, documents: NDArray[np.integer[Any]] | None = None
    ) -> Any:
        """Return B items of (B, T) tokens; images (B, S, S, 3) uint8, as large as the measured.

        Args:
            tokens_BT: ids.
            documents: (B,) training documents that they are of, whose captions a decoder may read.
        """

    def offsets(self, tokens_T: Tokens) -> NDArray[np.int64]:
        """Return the (T + 1,) characters of a text before each token, and of all of it."""

    def clusters(self) -> NDArray[np.int64]:
        """Return the (N,) cluster of each training document: its lowest near-duplicate's id."""


class Callback(Protocol):
    """Hooks around stages, in Lightning's style.

    A callback may also have ``on_training_state(run, opens, step)``, called while a generator is
    trained: ``with opens() as model`` gives it with the weights of that step.
    """

    def on_stage_start(self, run: Any, name: str) -> None:
        """Act before a stage is looked up."""

    def on_stage_end(self, run: Any, name: str, handle: Any) -> None:
        """Act after a stage is made or found."""

    def on_run_end(self, run: Any) -> None:
        """Act after the report."""
