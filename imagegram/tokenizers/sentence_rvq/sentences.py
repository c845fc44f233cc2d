"""The sentences of a corpus with their vectors: embedded once, kept, found by their content.

``EmbedSentences`` embeds some records of a shard; ``CollectSentences`` lists the different
sentences of a corpus with their vectors, those of training documents first:

    texts.jsonl   one object a sentence, with the white space behind it where it stood first
    vectors.npy   (N, d) float32 unit vectors
    keys.npy      (N, 16) uint8, a hash of the sentence without white space around it
    was_cut.npy   (N,) bool, whether it was longer than the encoder reads

Embedding is by far the longest work of a tokenizer of sentences, so it depends on neither split nor
codebooks, and a killed run goes on behind the last part that was finished.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import CorpusError
from imagegram.protocols import Corpus, ImageShard
from imagegram.records import Features
from imagegram.stages.skips import read_item
from imagegram.stages.split import PartFilter, Split
from imagegram.store.arrays import ArrayFiles
from imagegram.store.cost import PerUnit
from imagegram.store.fingerprint import identity
from imagegram.store.hashing import changed_while_read
from imagegram.store.manifest import Handle, Manifest
from imagegram.store.stage import Context, Stage
from imagegram.texts.modality import TEXTS
from imagegram.texts.samples import append_texts, read_texts
from imagegram.texts.sentences import split_sentences

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

TEXTS_FILE: Final = "texts.jsonl"
VECTORS: Final = "vectors"
KEYS: Final = "keys"
WAS_CUT: Final = "was_cut"
_KEY_BYTES: Final = 16
#: Records of a part, and the most parts of a shard: every part reads its shard up to there.
_RECORDS: Final = 32
_PARTS: Final = 64
#: Rows that are copied at a time.
_ROWS: Final = 4096


def sentence_key(sentence: str) -> bytes:
    """Return the hash of a sentence, whatever white space stands around it."""
    data = sentence.strip().encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=_KEY_BYTES).digest()


@dataclass(frozen=True)
class Sentences:
    """Sentences in a folder; arrays are memory maps.

    Attributes:
        folder: with the files above.
    """

    folder: Path

    def identity(self) -> list[Any]:
        """Return the content of texts and vectors, and which of them are of training documents."""
        files = Manifest.read(self.folder).files
        content = [files[name].sha256 for name in (TEXTS_FILE, f"{VECTORS}.npy")]
        return [*content, self.num_training]

    @cached_property
    def num_training(self) -> int:
        """Number of sentences of training documents: the first ones."""
        return int(Manifest.read(self.folder).facts["num_training"])

    @cached_property
    def texts(self) -> list[str]:
        """N sentences."""
        return read_texts(self.folder / TEXTS_FILE)

    @cached_property
    def vectors(self) -> Features:
        """(N, d) float32 unit vectors."""
        return self._mapped(VECTORS)

    @cached_property
    def keys(self) -> NDArray[np.uint8]:
        """(N, 16) uint8 hashes."""
        return self._mapped(KEYS)

    @cached_property
    def was_cut(self) -> NDArray[np.bool_]:
        """(N,) whether a sentence was longer than is read."""
        return self._mapped(WAS_CUT)

    def _mapped(self, name: str) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
        except ValueError:  # an empty array cannot be mapped
            return np.load(path)  # type: ignore[no-any-return]

    def find(self, sentences: Sequence[str]) -> NDArray[np.int64]:
        """Return the (B,) number of each sentence; -1: it is not among them."""
        order, heads = self._sorted
        found = np.full(len(sentences), -1, dtype=np.int64)
        if not len(order):
            return found
        asked = np.frombuffer(b"".join(map(sentence_key, sentences)), dtype=np.uint8)
        asked = asked.reshape(-1, _KEY_BYTES)
        places = np.searchsorted(heads, _heads(asked)).clip(max=len(order) - 1)
        rows = order[places]
        same = (self.keys[rows] == asked).all(axis=1)
        found[same] = rows[same]
        return found

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """Numbers of the sentences by the first half of their hashes, and these halves."""
        heads = _heads(np.asarray(self.keys))
        order = np.argsort(heads, kind="stable")
        return order, heads[order]


def _heads(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, :8]).view("<u8")[:, 0].astype(np.uint64)


@dataclass(frozen=True, kw_only=True)
class SentencesHandle(Handle):
    """Handle of sentences in the store."""

    @cached_property
    def sentences(self) -> Sentences:
        """The sentences."""
        return Sentences(self.artifact.path)


@dataclass(frozen=True, kw_only=True)
class EmbedSentences(Stage[SentencesHandle]):
    """The stage that embeds the different sentences of some records of a shard.

    Attributes:
        shard: shard of texts.
        first, stop: the records.
        splitter: what finds the ends of sentences.
        embedder: what makes vectors of them.
    """

    kind: ClassVar[str] = "sentence_vectors"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    RATE: ClassVar[PerUnit] = PerUnit("num_sentences", seconds=SentenceEmbedder.SECONDS)

    shard: ImageShard
    first: int
    stop: int
    splitter: str
    embedder: SentenceEmbedder

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Read, split, embed; write the four files.

        Raises:
            CorpusError: when the shard changes meanwhile.
        """
        content = self.shard.identity()
        sentences: dict[bytes, str] = {}
        for text in texts_of(self.shard, first=self.first, stop=self.stop):
            for sentence in split_sentences(text, splitter=self.splitter):
                sentences.setdefault(sentence_key(sentence), sentence)
        if self.shard.identity() != content:
            raise changed_while_read(self.shard.path)
        name = f"embed {self.shard.name}, records {self.first:,} to {self.stop:,}"
        task = context.progress.start(name, len(sentences), "sentences")
        texts = list(sentences.values())
        vectors, was_cut = self.embedder.embed(
            texts,
            workers=context.workers,
            advance=lambda count: context.progress.advance(task, count),
        )
        context.progress.finish(task)
        with (out / TEXTS_FILE).open("w", encoding="utf-8", newline="\n") as stream:
            append_texts(stream, texts, first=0)
        np.save(out / f"{VECTORS}.npy", vectors)
        np.save(out / f"{KEYS}.npy", _stacked(sentences))
        np.save(out / f"{WAS_CUT}.npy", was_cut)
        return {"num_sentences": len(texts), "num_cut": int(was_cut.sum())}

    def load(self, artifact: Artifact) -> SentencesHandle:
        """Return the handle of the sentences."""
        return SentencesHandle(artifact=artifact)


def embed_parts(
    shard: ImageShard, *, splitter: str, embedder: SentenceEmbedder
) -> list[EmbedSentences]:
    """Return the stages that embed a shard, small enough that a killed run loses little."""
    count = len(shard)
    size = max(_RECORDS, -(-count // _PARTS))
    return [
        EmbedSentences(
            shard=shard,
            first=first,
            stop=min(first + size, count),
            splitter=splitter,
            embedder=embedder,
        )
        for first in range(0, count, size)
    ]


@dataclass(frozen=True, kw_only=True)
class CollectSentences(Stage[SentencesHandle]):
    """The stage that lists the different sentences of a corpus, those of training documents first.

    Attributes:
        corpus: corpus of the texts, with what it holds out.
        splitter, embedder: as in :class:`EmbedSentences`.
    """

    kind: ClassVar[str] = "sentences"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (Split, EmbedSentences)

    corpus: Corpus
    splitter: str
    embedder: SentenceEmbedder

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the shards, split, splitter and embedder."""
        shards = (*self.corpus.shards, *self.corpus.holdout_shards)
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "split": identity(Split(corpus=self.corpus)),
            "shards": [shard.identity() for shard in shards],
            "splitter": self.splitter,
            "embedder": identity(self.embedder),
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Embed all shards, then copy what belongs together.

        Raises:
            CorpusError: when there is no training text.
        """
        split = context.make(Split(corpus=self.corpus))
        how: dict[str, Any] = {"splitter": self.splitter, "embedder": self.embedder}
        everything = (*self.corpus.shards, *self.corpus.holdout_shards)
        parts = [
            context.make(part).sentences
            for shard in everything
            for part in embed_parts(shard, **how)
        ]
        training = [(images.shard, images.open()) for images in split.train]
        with (out / TEXTS_FILE).open("w", encoding="utf-8", newline="\n") as stream:
            keys = self._write(stream, training, known=frozenset())
            num_training = len(keys)
            if not num_training:
                raise CorpusError(
                    f"corpus {self.corpus.name} has no training text that can be read, so there "
                    "is nothing to learn codes from; give a corpus with texts, for example "
                    "corpus=demo_text"
                )
            others = [(shard, None) for shard in everything]
            keys |= self._write(stream, others, known=keys.keys())
        np.save(out / f"{KEYS}.npy", _stacked(keys))
        num_cut = _copy_vectors(out, list(keys), parts)
        return {"num_sentences": len(keys), "num_training": num_training, "num_cut": num_cut}

    def _write(
        self,
        stream: Any,
        shards: Iterable[tuple[ImageShard, PartFilter | None]],
        *,
        known: Any,
    ) -> dict[bytes, None]:
        """Write the sentences of shards that are not known yet; return their keys, in order."""
        keys: dict[bytes, None] = {}
        for shard, part in shards:
            for text in texts_of(shard, part=part):
                new: list[str] = []
                for sentence in split_sentences(text, splitter=self.splitter):
                    key = sentence_key(sentence)
                    if key not in keys and key not in known:
                        keys[key] = None
                        new.append(sentence)
                append_texts(stream, new, first=len(known) + len(keys) - len(new))
        return keys

    def load(self, artifact: Artifact) -> SentencesHandle:
        """Return the handle of the sentences."""
        return SentencesHandle(artifact=artifact)


def texts_of(
    shard: ImageShard, *, first: int = 0, stop: int | None = None, part: PartFilter | None = None
) -> Iterator[str]:
    """Yield the texts of a shard that can be read, in its order.

    Args:
        shard: the shard.
        first: first record that is read.
        stop: end of the records; None: all.
        part: part of the corpus; None: all.
    """
    for record in itertools.islice(shard, first, stop):
        found = read_item(record, TEXTS, part)
        if not isinstance(found, str):
            yield found[0]


def _stacked(keys: Iterable[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, _KEY_BYTES)


def _copy_vectors(out: Path, keys: Sequence[bytes], parts: Sequence[Sentences]) -> int:
    """Copy vectors out of the parts that have them; return how many sentences were cut."""
    where = {
        row.tobytes(): (number, place)
        for number, part in enumerate(parts)
        for place, row in enumerate(np.asarray(part.keys))
    }
    num_cut = 0
    with ArrayFiles(out, len(keys)) as files:
        for first in range(0, len(keys), _ROWS):
            places = [where[key] for key in keys[first : first + _ROWS]]
            was_cut = np.array([parts[number].was_cut[row] for number, row in places])
            files.append(VECTORS, np.stack([parts[number].vectors[row] for number, row in places]))
            files.append(WAS_CUT, was_cut)
            num_cut += int(was_cut.sum())
    return num_cut
