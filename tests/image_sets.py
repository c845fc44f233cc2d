"""Small image sets, corpora and references in memory, for tests of metrics and reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.progress import SilentProgress
from imagegram.images.decode import thumbnail
from imagegram.indexes.naive import NaiveIndex
from imagegram.layout import TokenLayout
from imagegram.protocols import Encoder, ImageSet
from imagegram.records import Features, Images, Tokens, Trace
from imagegram.stages.sample_set import Continued
from imagegram.store.stage import Progress
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.index_folders import stream_of

LAYOUT = TokenLayout.pyramid((1, 2))
TOKENIZER = PyramidTokenizer(name="toy", sizes=(1, 2))


def random_tokens(num_images: int, *, seed: int, vocabulary: int = 256) -> Tokens:
    """(B, 15) tokens of the toy layout."""
    rng = np.random.default_rng(seed)
    return rng.integers(vocabulary, size=(num_images, LAYOUT.num_tokens)).astype(np.uint16)


def free_trace(tokens_BT: Tokens) -> Trace:
    """A trace in which every step had two equally likely next tokens, from one document.

    It has the arrays of all generators.
    """
    shape = tokens_BT.shape
    return {
        "suffix_len": np.full(shape, 3, np.uint16),
        "num_contexts": np.full(shape, 2, np.uint32),
        "num_distinct": np.full(shape, 2, np.uint16),
        "probability": np.full(shape, 0.5, np.float32),
        "log_prob": np.full(shape, np.log(0.5), np.float32),
        "entropy": np.ones(shape, np.float32),
        "source_document": np.zeros(shape, np.int32),
        "source_position": np.zeros(shape, np.int32),
        "error_none": np.ones(shape, np.float32),
    }


@dataclass(frozen=True)
class MemoryImages:
    """An ImageSet in memory."""

    tokens: Tokens
    trace: Trace
    images: Images
    originals: Images | None = None
    texts: Sequence[str] | None = None
    sentences: Any = None
    row_documents: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, tokens_BT: Tokens, **trace: Any) -> MemoryImages:
        """Decoded by the toy tokenizer, with :func:`free_trace` unless told otherwise."""
        changed = {**free_trace(tokens_BT), **trace}
        return cls(tokens=tokens_BT, trace=changed, images=TOKENIZER.decode(tokens_BT))

    @property
    def continued(self) -> Continued:
        """Rows of one first token continue the same row: the least of them."""
        numbers = self.tokens[:, 0].astype(np.int64)
        least = {row[0]: row for row in sorted(self.tokens.tolist(), reverse=True)}
        truth_BT = np.array([least[number] for number in numbers.tolist()], np.uint16)
        return Continued(tokens=truth_BT, rows=numbers, documents=numbers, length=1)

    @property
    def num_images(self) -> int:
        return len(self.tokens)

    def identity(self) -> str:
        return f"memory/{hashlib.sha256(self.tokens.tobytes()).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryIndex(NaiveIndex):
    """An index in memory that stages can depend on."""

    digest: str

    def identity(self) -> str:
        return f"index/{self.digest}"


@dataclass(frozen=True)
class MemoryTokens:
    """A TokenSet in memory, in one shard or several."""

    shards: Sequence[Tokens]

    @property
    def all(self) -> Tokens:
        return np.concatenate(list(self.shards))

    @property
    def num_documents(self) -> int:
        return len(self.all)

    @property
    def num_views(self) -> int:
        return 1

    def identity(self) -> str:
        return f"tokens/{hashlib.sha256(self.all.tobytes()).hexdigest()[:12]}"

    def gather(self, documents: Sequence[int] | NDArray[np.integer]) -> Tokens:
        return self.all[np.asarray(documents)]

    def metadata(self, document: int) -> dict[str, Any]:
        return {"key": f"k{document}", "caption": f"<b>caption {document}</b>"}

    def sketch_blocks(self) -> Iterator[tuple[int, Images]]:
        first = 0
        for shard in self.shards:
            yield first, np.stack([thumbnail(image) for image in TOKENIZER.decode(shard)])
            first += len(shard)

    def index(self) -> MemoryIndex:
        streams = [stream_of(shard.tolist()) for shard in self.shards]
        shards = NaiveIndex.of_streams(streams).shards
        return MemoryIndex(shards=shards, digest=self.identity().partition("/")[2])


@dataclass(frozen=True)
class MemoryReference:
    """A Reference without artifacts; all training images are reference images."""

    tokens: MemoryTokens
    seed: int = 0
    layout: TokenLayout = LAYOUT
    calibration: ImageSet | None = None

    vocab_size: ClassVar[int] = 256
    tokenizer: ClassVar[Any] = TOKENIZER
    context: ClassVar[Any] = None  # a model in memory has nothing to prepare
    workers: int = 2
    progress: ClassVar[Progress] = SilentProgress()

    @property
    def index(self) -> NaiveIndex:
        return self.tokens.index()

    @property
    def documents(self) -> MemoryTokens:
        return self.tokens

    def match_lengths(self, images: ImageSet) -> NDArray[np.integer]:
        return self.index.match_lengths(images.tokens)

    def decode(self, tokens_BT: Tokens, **known: Any) -> Images:
        return TOKENIZER.decode(tokens_BT)

    def clusters(self) -> NDArray[np.int64]:
        """Documents with the same tokens."""
        _, firsts, inverse = np.unique(
            self.tokens.all, axis=0, return_index=True, return_inverse=True
        )
        return firsts[inverse.ravel()].astype(np.int64)

    def features(self, encoder: Encoder, images: ImageSet) -> Features:
        return encoder.encode(images.images)

    def reference_features(self, encoder: Encoder) -> Features:
        return encoder.encode(TOKENIZER.decode(self.tokens.all))

    def training_features(self, encoder: Encoder) -> Features:
        return encoder.encode(TOKENIZER.decode(self.tokens.all))
