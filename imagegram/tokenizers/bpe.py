"""Byte-pair encoding, trained by the run: any text to ids and back, byte for byte.

    python -m imagegram.run modality=text

The ids are pieces of UTF-8 (Sennrich et al., "Neural machine translation of rare words with subword
units", ACL 2016; on bytes: Radford et al., "Language models are unsupervised multitask learners",
2019), so nothing is unknown. The `tokenizers` package trains and encodes; decoding is ours, because
it needs the piece of every token, to say where in the text it stands.

Documents keep their length; a sample is a window of ``window`` tokens, padded with the separator
where it ends early.
"""

from __future__ import annotations

import codecs
import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, CorpusError
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality
from imagegram.records import EOS_TOKEN_ID, Encoded, Tokens, row_sizes
from imagegram.stages.skips import read_item
from imagegram.stages.split import Split
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Context, Ready, Stage
from imagegram.texts.modality import TEXTS
from imagegram.tokenizers.texts import require_characters, require_window, written_rows
from imagegram.tokenizers.weights import weights_sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Merges

    from imagegram.store.manifest import Artifact

#: File that a training writes.
MERGES: Final = "tokenizer.json"
_NUM_BYTES: Final = 256


@dataclass(frozen=True, kw_only=True)
class BpeTokenizer:
    """A byte-level BPE tokenizer: the most frequent neighbours are merged to pieces.

    Attributes:
        name: name of the tokenizer in tables and reports.
        vocab_size: ids, the 256 bytes among them; fewer when the corpus has no more pairs. A
            checkpoint brings its own.
        window: tokens of a sample.
        checkpoint: a ``tokenizer.json`` of byte-level BPE; None: it is trained.
        hash_cache: folder that remembers the checkpoint's sha256.
    """

    modality: ClassVar[Modality] = TEXTS
    VERSION: ClassVar[int] = 1
    batch_size: ClassVar[int | None] = None

    name: str = field(default="bpe", metadata=NOT_IDENTITY)
    vocab_size: int = 4096
    window: int = 128
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take the vocabulary of a checkpoint; refuse impossible settings."""
        if self.checkpoint is not None:
            object.__setattr__(self, "vocab_size", len(self._pieces))
        if not _NUM_BYTES <= self.vocab_size <= EOS_TOKEN_ID:
            raise ConfigError(
                f"tokenizer.vocab_size={self.vocab_size} must lie in {_NUM_BYTES} (a piece a byte) "
                f"... {EOS_TOKEN_ID}; type for example tokenizer.vocab_size=4096"
            )
        require_window(self.window)

    def identity(self) -> dict[str, Any]:
        """Return the identity: merges (or the recipe of their training), and window."""
        kind = {"class": type(self).__name__, "version": self.VERSION, "window": self.window}
        if self.checkpoint is None:
            return kind | {"recipe": self.recipe()}
        return kind | {"merges": self._sha256()}

    def _sha256(self) -> str:
        return weights_sha256(str(self.checkpoint), suffix=".json", memory=self.hash_cache)

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the merges but the texts."""
        return {"vocab_size": self.vocab_size}

    @property
    def spec(self) -> TokenSpec:
        """A sequence of any length; a sample is a window of it."""
        layout = TokenLayout.sequence(self.window, order="raster")
        return TokenSpec(vocab_size=self.vocab_size, layout=layout, ragged=True)

    @property
    def encoder(self) -> BpeTokenizer:
        """The same tokenizer with a window of 1: token files hold whole documents."""
        return replace(self, window=1)

    def fit(self, corpus: Corpus) -> Stage[BpeTokenizer] | Ready[BpeTokenizer]:
        """Return the stage that trains the merges; the tokenizer itself if it has a checkpoint."""
        return Ready(self) if self.checkpoint else TrainBpe(tokenizer=self, corpus=corpus)

    def prepare(self, text: str) -> str:
        """Return the text itself.

        Raises:
            TokenError: for half a character of UTF-16, which has no bytes.
        """
        require_characters(text)
        return text

    def encode(self, prepared: Sequence[str]) -> Encoded:
        """Encode texts as (L,) uint16 ids each.

        Raises:
            ConfigError: when there are no merges yet.
        """
        merges = self._merges
        found = [merges.encode(text, add_special_tokens=False).ids for text in prepared]
        return Encoded(documents=[np.array(ids, dtype=np.uint16) for ids in found])

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> list[str]:
        """Decode rows of ids, up to their first separator, to texts.

        Bytes that are no character, which a generator may put side by side, become U+FFFD.

        Args:
            tokens_BT: (B, K) ids of any integer dtype, padded with separators or not.
            output_size: None: a text has no other size.

        Raises:
            TokenError: for another shape, or an id outside the vocabulary; ids are never wrapped.
            ConfigError: for a size, or when there are no merges yet.
        """
        rows = written_rows(tokens_BT, vocab_size=self.vocab_size, output_size=output_size)
        pieces = self._pieces
        texts = (b"".join(pieces[token] for token in row) for row in rows)
        return [text.decode("utf-8", "replace") for text in texts]

    def offsets(self, tokens_T: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the (T + 1,) numbers of characters before every token, then of the whole text.

        A character belongs to the token that completes it; those from the separator on have none.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        row, pieces = np.asarray(tokens_T), self._pieces
        size = int(row_sizes(row[None])[0])
        counts = [len(decoder.decode(pieces[token])) for token in row[:size].tolist()]
        if counts:
            counts[-1] += len(decoder.decode(b"", final=True))
        counts += [0] * (len(row) - size)
        return np.cumsum([0, *counts], dtype=np.int64)

    @property
    def _merges(self) -> Merges:
        """Trained merges, loaded once per process."""
        path = self._path
        return _load(path, file_stamp(path))

    @property
    def _pieces(self) -> tuple[bytes, ...]:
        """Bytes of every id."""
        path = self._path
        try:
            return _read_pieces(path, file_stamp(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = "holds no byte-level BPE" if path.is_file() else "is no file"
            raise ConfigError(
                f"tokenizer.checkpoint={path} {found} ({error}); type "
                "tokenizer.checkpoint=FOLDER/tokenizer.json, or tokenizer.checkpoint=null to train"
            ) from error

    @property
    def _path(self) -> Path:
        if self.checkpoint is None:
            raise ConfigError(
                f"tokenizer {self.name} has no merges yet: a run trains them first; from Python, "
                "make the stage that tokenizer.fit(corpus) gives, or type "
                "tokenizer.checkpoint=FOLDER/tokenizer.json"
            )
        return Path(self.checkpoint)


@dataclass(frozen=True, kw_only=True)
class TrainBpe(Stage[BpeTokenizer]):
    """The stage that merges the pairs of a corpus: ``tokenizer.json``.

    Attributes:
        tokenizer: the recipe.
        corpus: corpus of the training texts; held-out ones are not read.
    """

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (Split,)

    tokenizer: BpeTokenizer
    corpus: Corpus

    def identity(self) -> dict[str, Any]:
        """Return the identity: recipe, content of the shards, and split."""
        kind = {"class": type(self).__name__, "version": self.VERSION}
        return kind | {
            "tokenizer": {"version": self.tokenizer.VERSION, **self.tokenizer.recipe()},
            "split": identity(Split(corpus=self.corpus)),
            "shards": [shard.identity() for shard in self.corpus.shards],
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Read all training texts, merge, write the file.

        Raises:
            CorpusError: when there is no training text.
        """
        texts = self._texts(context)
        first = next(texts, None)
        if first is None:
            raise CorpusError(
                f"corpus {self.corpus.name} has no training text that can be read, so there is "
                "nothing to learn a vocabulary from; give a corpus with texts, for example "
                "corpus=demo_text"
            )
        path = out / MERGES
        train(itertools.chain([first], texts), vocab_size=self.tokenizer.vocab_size, path=path)
        return {"tokenizer": self.tokenizer.name, "vocab_size": self._with(path).vocab_size}

    def _texts(self, context: Context) -> Iterator[str]:
        """Yield the training texts, in the order of their corpus."""
        for images in context.make(Split(corpus=self.corpus)).train:
            part = images.open()
            for record in images.shard:
                found = read_item(record, self.corpus.modality, part)
                if not isinstance(found, str):
                    yield found[0]

    def load(self, artifact: Artifact) -> BpeTokenizer:
        """Return the tokenizer with its merges."""
        return self._with(artifact.path / MERGES)

    def _with(self, path: Path) -> BpeTokenizer:
        return replace(self.tokenizer, checkpoint=str(path))


def train(texts: Any, *, vocab_size: int, path: Path) -> None:
    """Merge the pairs that stand beside each other most often, and write them.

    The file depends on the texts alone, not on the number of threads.

    Args:
        texts: an iterable of texts.
        vocab_size: ids, the 256 bytes among them.
        path: file to write, ``tokenizer.json``.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    merges = Tokenizer(models.BPE())
    merges.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    merges.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    merges.train_from_iterator(texts, trainer)
    merges.save(str(path))


@functools.lru_cache(maxsize=2)
def _load(path: Path, stamp: str) -> Merges:
    """Read the merges; ``stamp`` makes a file that was written anew another one."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


@functools.lru_cache(maxsize=2)
def _read_pieces(path: Path, stamp: str) -> tuple[bytes, ...]:
    """Read the bytes of every id of a ``tokenizer.json``.

    Raises:
        ValueError: when it is not of bytes, or its ids have gaps.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["model"]["type"] != "BPE" or record.get("added_tokens"):
        raise ValueError("it is another model, or it has special tokens")
    by_id = {int(number): piece for piece, number in record["model"]["vocab"].items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise ValueError("its ids have gaps")
    byte_of = byte_letters()
    return tuple(bytes(byte_of[letter] for letter in by_id[n]) for n in range(len(by_id)))


@functools.cache
def byte_letters() -> dict[str, int]:
    """Return the byte that each letter stands for in a file of byte-level BPE.

    Visible Latin-1 characters stand for themselves, other bytes for U+0100 and what follows.

    >>> byte_letters()["A"], byte_letters()["Ġ"]
    (65, 32)
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(_NUM_BYTES) if byte not in visible]
    letters = {chr(byte): byte for byte in visible}
    return letters | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}
