"""Contracts of data: modalities, corpora and tokenizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenSpec
from imagegram.records import Encoded, Item, Locator, Record, Sketches, Tokens
from imagegram.store.snapshot import Snapshot
from imagegram.store.stage import Ready, Stage


class ItemWriter(Protocol):
    """Writer of the files of items, batch by batch."""

    def __enter__(self) -> ItemWriter:
        """Open the files."""

    def __exit__(self, *error: Any) -> None:
        """Close the files."""

    def add(self, items: Sequence[Item]) -> None:
        """Append items."""

    def facts(self) -> dict[str, Any]:
        """Return the facts of the written items; called once, after the last of them."""


class Modality(Protocol):
    """Kind of the items of a corpus: images or texts. No other code knows what an item is.

    Near-duplicates are found by *sketches*, one array an item, all of one shape and dtype.
    """

    #: Words for one item and for several.
    noun: ClassVar[str]
    nouns: ClassVar[str]
    #: File of the sketches of a token shard.
    SKETCHES: ClassVar[str]

    def __hash__(self) -> int:
        """Return the hash of the modality, which may be a key."""

    def reading(self) -> AbstractContextManager[None]:
        """Return the context in which a process reads; the thread that starts others enters it."""

    def read(self, data: bytes) -> Item:
        """Return the item in the bytes of a file.

        Raises:
            Unreadable: with a reason that is counted.
        """

    def view(self, item: Item, name: str) -> Item:
        """Return a view of an item, such as its mirror image.

        Raises:
            KeyError: when items have no such view.
        """

    def facts(self, item: Item) -> dict[str, Any]:
        """Return the size of an item, for its metadata."""

    def sketch(self, item: Item) -> Sketches:
        """Return the sketch of an item."""

    def stack(self, sketches: Sequence[Sketches]) -> Sketches:
        """Return the (N, ...) sketches of N items, N >= 0."""

    def search(
        self, sketches: Sketches, *, limit: float
    ) -> Callable[[Sketches], NDArray[np.int64]]:
        """Return a search: from a sketch to the indices of its near-duplicates, ascending.

        Args:
            sketches: (N, ...) sketches to search.
            limit: bound of near-duplicates, see ``Corpus.near_duplicate_limit``.
        """

    def cluster(self, sketches: Sketches, *, limit: float) -> NDArray[np.integer[Any]]:
        """Return the (N,) lowest index in each cluster: near-duplicates, and those of these."""

    def writer(self, folder: Path, count: int) -> ItemWriter:
        """Return the writer of ``count`` items into a folder."""


class ImageShard(Protocol):
    """A tar or a folder of images, in file order; identified by its content."""

    @property
    def name(self) -> str:
        """Short name, unique in its corpus (``00000``)."""

    @property
    def path(self) -> Path:
        """Path of the tar or the folder."""

    def identity(self) -> str:
        """Return the sha256 of the content (cached by path, size and mtime)."""

    def __len__(self) -> int:
        """Return the number of records, damaged ones included; decodes nothing."""

    def __iter__(self) -> Iterator[Record]:
        """Yield all records in file order; damaged ones carry their ``failure``."""

    def read(self, locator: Locator) -> bytes:
        """Return the encoded bytes of one image, in O(1)."""


class Corpus(Protocol):
    """Real images or texts, as shards in a fixed order, with a policy of holding some out."""

    name: str

    @property
    def modality(self) -> Modality:
        """Kind of its items."""

    @property
    def shards(self) -> tuple[ImageShard, ...]:
        """Training candidates. Larger sizes of one corpus begin with the smaller ones' shards.

        Raises:
            CorpusError: when they are missing, naming the folder and the command that gets them.
        """

    @property
    def holdout_shards(self) -> tuple[ImageShard, ...]:
        """Shards that are held out whole; empty: hold out items of all shards, by content hash."""

    @property
    def snapshot(self) -> Snapshot:
        """What was found where it is read; listed once, so that a run always sees the same files.

        Raises:
            CorpusError: when it is missing.
        """

    def look(self) -> Snapshot:
        """Return what is found now; a run compares it with ``snapshot`` at its end."""

    @property
    def holdout_fraction(self) -> float:
        """Share of the items to hold out when no shard is held out whole, 0 ... 1."""

    @property
    def max_holdout(self) -> int:
        """Number of items to hold out, about, where that share of them would be more."""

    @property
    def near_duplicate_limit(self) -> float:
        """Largest RMS difference (0 ... 255) of near thumbnails, smallest similarity of texts."""

    @property
    def views(self) -> str:
        """Name of the views that are trained on, in ``images/views.py``; ``none``: items as is."""

    @property
    def max_failed_fraction(self) -> float:
        """Share of unreadable images in a shard above which its tokenization fails."""


class Tokenizer(Protocol):
    """Encoder of items to token ids, and decoder of ids to items.

    A tokenizer from the configuration may still lack its weights; the stage :meth:`fit` gets them.
    """

    name: str
    modality: ClassVar[Modality]

    @property
    def spec(self) -> TokenSpec:
        """Number of ids, tokens of a sample, and layout of their positions."""

    @property
    def encoder(self) -> Tokenizer:
        """Tokenizer that decides token files: of whole sequences, with default decoding options.

        Its first ``spec.length`` ids are those of this tokenizer. So token files of every length
        are cut from one tokenization, and are found under any decoding options.
        """

    def fit(self, corpus: Corpus) -> Stage[Tokenizer] | Ready[Tokenizer]:
        """Return the stage that trains or fetches the weights; without weights, itself, ready."""

    @property
    def batch_size(self) -> int | None:
        """Number of items that a network encodes at a time; None: there is no network."""

    def prepare(self, item: Item) -> Any:
        """Return an item of any size as :meth:`encode` takes it; called on any thread."""

    def encode(self, prepared: Sequence[Any]) -> Encoded:
        """Return the ids of prepared items; those of an item do not depend on other items.

        At most ``batch_size`` items at a time; without a network, called on any thread.
        """

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Any:
        """Return B items, decoded from (B, T) ids; images as (B, S, S, 3) uint8.

        An item depends on the ids of its own row alone, up to the first separator.

        Args:
            tokens_BT: (B, T) ids.
            output_size: side S of the images in pixels; None: the default; ignored for texts.
        """


@runtime_checkable
class CaptionedTokenizer(Tokenizer, Protocol):
    """A tokenizer of images whose decoder reads captions beside the ids."""

    @property
    def captions(self) -> str:
        """Key of the captions in the metadata of documents."""

    def decode(
        self,
        tokens_BT: Tokens,
        *,
        output_size: int | None = None,
        captions: Sequence[str | None] | None = None,
    ) -> Any:
        """Return B items, decoded from (B, T) ids under B captions; None: that of none is known.

        An item depends on the ids and the caption of its own row alone.
        """


@runtime_checkable
class CodesTokenizer(Tokenizer, Protocol):
    """A tokenizer whose ids stand for vectors, of which the K ids of a step are a sum."""

    @property
    def codebooks(self) -> NDArray[np.float32]:
        """(K, V, D) float32 vectors of the V codes of each of K stages.

        Raises:
            ConfigError: when they are not there yet.
        """


@runtime_checkable
class SentenceTokenizer(Tokenizer, Protocol):
    """A tokenizer of texts whose steps of K ids are sentences, known by vectors."""

    def prepare(self, text: str) -> list[str]:
        """Return the sentences of a text, which joined are the text."""

    def embed(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Return the (N, D) unit vectors of sentences."""

    def quantize(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the (N, K) codes of (N, D) vectors."""

    def vectors(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (N, D) vectors that (N, k) codes of the first k stages stand for."""

    def steps(self, ids: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the (S, K) codes of the sentences of a row, -1: none; and each id's sentence."""

    def written(self, tokens_BT: Tokens) -> list[list[str]]:
        """Return the sentences that are written for the steps of (B, T) ids."""


@runtime_checkable
class TextTokenizer(Tokenizer, Protocol):
    """A tokenizer that can locate its tokens in the decoded text."""

    def offsets(self, tokens_T: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the (T + 1,) number of characters before each token, and of all characters.

        Padding has no characters.
        """
