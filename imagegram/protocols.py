"""The contracts of the house: what a corpus, a tokenizer, an index, a stage ... must do.

Nothing here does any work. A component is a frozen, keyword-only dataclass whose fields are its
identity; weights and memory maps are loaded lazily. Array names carry shape suffixes:

======  =================================================
``B``   images of a batch (or samples)
``T``   tokens of one image
``H W`` height and width in pixels, ``C`` = 3 colours
``K``   distinct next tokens
``D``   features of one image
======  =================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenLayout, TokenSpec
from imagegram.records import (
    Encoded,
    Features,
    Images,
    Item,
    Locator,
    Measurement,
    NextTokenDist,
    Phrases,
    Record,
    ScoreInfo,
    Sketches,
    Span,
    Tokens,
    Trace,
)
from imagegram.store.stage import Context, Progress, Ready, Stage

# ---------------------------------------------------------------------------------------- modality


class ItemWriter(Protocol):
    """Files of items that are added batch by batch."""

    def __enter__(self) -> ItemWriter:
        """Begin."""

    def __exit__(self, *error: Any) -> None:
        """Close the files."""

    def add(self, items: Sequence[Item]) -> None:
        """Append items."""

    def facts(self) -> dict[str, Any]:
        """What was counted; called once, when all items are there."""


class Modality(Protocol):
    """What kind of items a corpus holds: images or texts. Nobody else knows what an item is.

    Near-duplicates are found by *sketches*, one array an item, all of one shape and dtype.
    """

    #: One item and several, in words.
    noun: ClassVar[str]
    nouns: ClassVar[str]
    #: File of the sketches of a token shard.
    SKETCHES: ClassVar[str]

    def __hash__(self) -> int:
        """One kind of items is one key."""

    def reading(self) -> AbstractContextManager[None]:
        """Surroundings of :meth:`read` for a process; entered by the thread that starts others."""

    def read(self, data: bytes) -> Item:
        """An item from the bytes of its file.

        Raises:
            Unreadable: with a reason that is counted.
        """

    def facts(self, item: Item) -> dict[str, Any]:
        """Size of an item, for its metadata."""

    def sketch(self, item: Item) -> Sketches:
        """What near-duplicates of an item are found by."""

    def stack(self, sketches: Sequence[Sketches]) -> Sketches:
        """(N, ...) sketches of N items, N >= 0."""

    def search(
        self, sketches: Sketches, *, limit: float
    ) -> Callable[[Sketches], NDArray[np.int64]]:
        """Prepare a search: from a sketch to the indices of its near-duplicates, ascending.

        Args:
            sketches: (N, ...) to search among.
            limit: where near-duplicates begin, see ``Corpus.near_duplicate_limit``.
        """

    def cluster(self, sketches: Sketches, *, limit: float) -> NDArray[np.integer[Any]]:
        """(N,) lowest index among those that a chain of near-duplicates leads to."""

    def writer(self, folder: Path, count: int) -> ItemWriter:
        """Files in a folder for so many items."""


# ------------------------------------------------------------------------------------------ corpus


class ImageShard(Protocol):
    """A tar or a folder of images, in file order. Its identity is its content."""

    @property
    def name(self) -> str:
        """Short name, unique in its corpus (``00000``)."""

    @property
    def path(self) -> Path:
        """The tar or the folder."""

    def identity(self) -> str:
        """sha256 over the content (cached by path, size and mtime)."""

    def __len__(self) -> int:
        """Records, damaged ones included; known without decoding."""

    def __iter__(self) -> Iterator[Record]:
        """All records in file order; damaged ones carry their ``failure``."""

    def read(self, locator: Locator) -> bytes:
        """The encoded bytes of one image, in O(1)."""


class Corpus(Protocol):
    """Real images or texts, as shards in a fixed order, and how some of them are held out."""

    name: str

    @property
    def modality(self) -> Modality:
        """What its records are."""

    @property
    def shards(self) -> tuple[ImageShard, ...]:
        """Training candidates. Larger sizes of one corpus begin with the smaller ones' shards.

        Raises:
            CorpusError: when they are missing, naming the folder and the command that gets them.
        """

    @property
    def holdout_shards(self) -> tuple[ImageShard, ...]:
        """Shards that are held out whole; empty: hold out by content hash from the first shard."""

    @property
    def holdout_fraction(self) -> float:
        """Share of the first shard's clusters to hold out when no shard is held out whole."""

    @property
    def near_duplicate_limit(self) -> float:
        """Largest RMS difference (0 ... 255) of near thumbnails, smallest similarity of texts."""

    @property
    def max_failed_fraction(self) -> float:
        """Share of unreadable images in a shard above which its tokenization fails."""


# --------------------------------------------------------------------------------------- tokenizer


class Tokenizer(Protocol):
    """Items to token ids and back.

    What a configuration names may still lack its weights: :meth:`fit` is the stage that gets them.
    """

    name: str
    modality: ClassVar[Modality]

    @property
    def spec(self) -> TokenSpec:
        """How many ids there are, how many make a sample, what every position stands for."""

    @property
    def encoder(self) -> Tokenizer:
        """The tokenizer that decides token files: of whole sequences, decoding at its defaults.

        Its first ``spec.length`` ids are those of this one, so that token files of every length are
        cut from one tokenization, and other options of decoding find them too.
        """

    def fit(self, corpus: Corpus) -> Stage[Tokenizer] | Ready[Tokenizer]:
        """The stage that trains it on a corpus or fetches its weights; or itself, with none."""

    @property
    def batch_size(self) -> int | None:
        """Items that a network encodes at a time; None: there is none, one alone is as quick."""

    def prepare(self, item: Item) -> Any:
        """One item of any size to what :meth:`encode` takes; on any thread."""

    def encode(self, prepared: Sequence[Any]) -> Encoded:
        """The ids of prepared items; each depends on its item alone, not on those beside it.

        At most ``batch_size`` at a time; without one from any thread.
        """

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Any:
        """(B, T) ids to a sequence of B items; of images (B, S, S, 3) uint8.

        An item depends on the ids of its row alone, up to the first separator, not on the rows
        beside it. ``output_size`` asks for another side S of images; texts have none.
        """


@runtime_checkable
class TextTokenizer(Tokenizer, Protocol):
    """A tokenizer that knows where its tokens stand in the decoded text."""

    def offsets(self, tokens_T: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """(T + 1,) characters before every token, then all of them; padding has none."""


# ------------------------------------------------------------------------------- index and samples


class Index(Protocol):
    """A suffix array over shards of documents; every engine gives the same answers."""

    @property
    def shards(self) -> tuple[Any, ...]:
        """Its shards, in the order that numbers the documents."""

    def identity(self) -> str:
        """kind/digest of the artifact."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards, separators included."""

    @property
    def num_documents(self) -> int:
        """Documents of all shards; ids run shard by shard."""

    def count(self, ids: Sequence[int]) -> int:
        """Occurrences of ``ids`` (separators allowed); [] occurs num_tokens times."""

    def next_token(
        self, prompt_ids: Sequence[int], *, max_context: int | None = None, min_count: int = 1
    ) -> NextTokenDist:
        """Next tokens after the longest suffix with ``min_count`` continued occurrences."""

    def longest_suffix(self, prompt_ids: Sequence[int], *, min_count: int = 1) -> int:
        """Length of the longest suffix of the prompt that occurs ``min_count`` times."""

    def spans(
        self, ids: Sequence[int], *, min_len: int = 1, max_occurrences: int = 10
    ) -> list[Span]:
        """Maximal matching spans: those that no longer matching span contains."""

    def match_lengths(
        self,
        tokens_BT: Tokens,
        *,
        workers: int | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> NDArray[np.int32]:
        """(B, T) length of the longest match that begins at every position of every row."""

    def parse_rows(
        self,
        tokens_BT: Tokens,
        lengths_BT: NDArray[np.integer[Any]],
        *,
        max_occurrences: int = 64,
        workers: int | None = None,
    ) -> Phrases:
        """Rows as corpus phrases: from the left, always the longest match."""

    def documents_equal(
        self, tokens_BT: Tokens, *, workers: int | None = None
    ) -> NDArray[np.int64]:
        """(B,) documents that are identical to each row."""

    def document(self, document: int) -> Tokens:
        """Token ids of one document, without separators."""

    def metadata(self, document: int) -> dict[str, Any]:
        """Source key, shard, caption ... of one document, in O(1)."""


class Sampler(Protocol):
    """The knobs between a model and its samples: one frozen dataclass a family of generators."""

    @property
    def name(self) -> str:
        """Of the configuration file."""


class Condition(Protocol):
    """What every sample is asked to be, drawn per (seed, sample id); see ``conditions/``."""

    @property
    def name(self) -> str:
        """Of the configuration file."""


class Model(Protocol):
    """A generator that is ready to sample. It owns no auditor: whoever audits asks the index."""

    def identity(self) -> Any:
        """What it is: kind and digest."""

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Model:
        """The same model with what makes it fast for a sampler; made and cached when missing."""

    def generate(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> tuple[Tokens, Trace]:
        """Tokens (B, T) and trace; row b depends only on (seed, samples[b])."""


@runtime_checkable
class Scores(Protocol):
    """A model that tells the probability of given tokens; see :meth:`Generator.scores`."""

    def score(
        self,
        tokens_BT: Tokens,
        *,
        sampler: Sampler,
        layout: TokenLayout,
        seed: int,
        condition: Condition | None = None,
        samples: NDArray[np.uint64] | None = None,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> Trace:
        """Trace of given tokens, forced on the sampler; ``samples`` None: 0 ... B - 1.

        Of a model's own samples, with their seed and ids, it is their own trace.
        """


class Generator(Protocol):
    """How to fit: the ``generator`` group of the configuration."""

    name: str

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse a sampler or a condition that cannot work on such tokens, naming those that can.

        Called when the experiment is composed; ``samplers/kinds.py`` has the words.
        """

    def scores(self, sampler: Sampler) -> bool:
        """Whether its models implement :class:`Scores` under a sampler."""

    def fit(self, tokens: Any, *, index: Index) -> Stage[Model] | Ready[Model]:
        """The stage that fits a token set (``stages.tokens.TokenSet``), or the model itself."""


# -------------------------------------------------------------------------------------- evaluation


class Encoder(Protocol):
    """Images to features; owns its preprocessing, which is part of its identity."""

    name: str

    def encode(self, images_BHWC: Images) -> Features:
        """(B, H, W, 3) uint8 to (B, D) float32."""


class ImageSet(Protocol):
    """Tokens of images with their trace: generated samples, held-out floor or training ceiling."""

    def identity(self) -> Any:
        """kind/digest of the artifact."""

    @property
    def num_images(self) -> int:
        """B."""

    @property
    def tokens(self) -> Tokens:
        """(B, T) uint16, memory-mapped."""

    @property
    def images(self) -> Any:
        """(B, S, S, 3) uint8, memory-mapped; None: these are no images."""

    @property
    def texts(self) -> Any:
        """B texts; None: these are no texts."""

    @property
    def originals(self) -> Images | None:
        """(B, S, S, 3) uint8 of the files that the tokens came from; None: there are none."""

    @property
    def trace(self) -> Trace:
        """Arrays (B, T)."""


class Metric(Protocol):
    """A question asked in the same way of generated, held-out, training and planted images.

    ``NEEDS`` says what the metric looks at; where a set or a model cannot give it, the metric is
    left out, and that is said (``stages/needs.py``):

    * ``ids``, ``images``, ``text`` of the measured set; ``trace.<name>``, an array of its trace.
      Real images are measured once, whatever sampler replayed them, by metrics without a trace;
    * ``places``: positions that mean the same in all documents, which then have one length;
    * ``matches`` and ``training_features``: of the training corpus, always there, at a cost.

    ``SCORES`` describes every score that the metric writes.
    """

    name: str
    NEEDS: ClassVar[frozenset[str]]
    SCORES: ClassVar[tuple[ScoreInfo, ...]]

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one image set against the training corpus."""


class DocumentSource(Protocol):
    """Documents that rows of tokens can be drawn from."""

    def identity(self) -> Any:
        """What they are."""

    @property
    def num_documents(self) -> int:
        """N."""

    def gather(self, document_ids: Sequence[int] | NDArray[np.integer[Any]]) -> Tokens:
        """(B, T) uint16 tokens of the documents with the given ids, in the given order."""


class Documents(DocumentSource, Protocol):
    """Tokenized images of a corpus; ids run shard by shard."""

    def metadata(self, document: int) -> dict[str, Any]:
        """Source key, shard, caption ... of one document."""

    def sketch_blocks(self) -> Iterator[tuple[int, Sketches]]:
        """First document id and sketches, shard by shard."""


class Reference(Protocol):
    """The training corpus, as metrics see it."""

    @property
    def index(self) -> Index:
        """The index over all training documents."""

    @property
    def layout(self) -> TokenLayout:
        """Of the tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Of the tokenizer: ids lie in 0 ... vocab_size - 1."""

    @property
    def documents(self) -> Documents:
        """The training documents."""

    @property
    def calibration(self) -> ImageSet | None:
        """Held-out images that thresholds are set on, none of them in the floor; None: too few."""

    @property
    def seed(self) -> int:
        """For subsampling; the run's seed."""

    @property
    def context(self) -> Context:
        """Makes what a metric asks for beyond this; none of it changes a score."""

    @property
    def workers(self) -> int:
        """Threads that a metric may spend; they never change a score."""

    @property
    def progress(self) -> Progress:
        """Where to report what takes seconds."""

    def match_lengths(self, images: ImageSet) -> NDArray[np.integer[Any]]:
        """(B, T) longest matches of an image set in the index, found once and cached."""

    def features(self, encoder: Encoder, images: ImageSet) -> Features:
        """(B, D) features of an image set, computed once and cached as an artifact."""

    def reference_features(self, encoder: Encoder) -> Features:
        """(R, D) features of the training images that distances are measured against."""

    def training_features(self, encoder: Encoder) -> Features:
        """(N, D) features of all training images, memory-mapped, in no particular order."""

    def decode(self, tokens_BT: Tokens) -> Images:
        """(B, T) tokens to (B, S, S, 3) uint8, of the size of the measured images."""

    def clusters(self) -> NDArray[np.int64]:
        """(N,) cluster of near-duplicates of each training document: its lowest document id."""


class Callback(Protocol):
    """Lightning's hook style, for stages."""

    def on_stage_start(self, run: Any, name: str) -> None:
        """Before a stage is looked up."""

    def on_stage_end(self, run: Any, name: str, handle: Any) -> None:
        """After a stage is made or found."""

    def on_run_end(self, run: Any) -> None:
        """After the report."""
