"""Sentence codes: a text is a row of sentences, a sentence K codes of a residual quantizer.

    python -m imagegram.run modality=text tokenizer=sentence_rvq

Sentences are embedded and quantised (``quantizers.py``); code c of stage k has the id k V + c, so
stages never share an id. Codes do not give a text back: a decoder writes one (``decoders.py``), and
the default copies training sentences.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality
from imagegram.records import EOS_TOKEN_ID, Encoded, Features, Tokens, row_sizes
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Ready, Stage
from imagegram.texts.modality import TEXTS
from imagegram.texts.sentences import require_splitter, split_sentences
from imagegram.tokenizers.sentence_rvq.decoders import NearestDecoder, SentenceDecoder
from imagegram.tokenizers.sentence_rvq.fit import CODES, FitCodes, read_codebooks
from imagegram.tokenizers.sentence_rvq.quantizers import (
    Codebooks,
    Codes,
    quantize,
    require_form,
    sums,
)
from imagegram.tokenizers.sentence_rvq.sentences import Sentences
from imagegram.tokenizers.texts import require_characters, written_rows
from imagegram.tokenizers.weights import weights_sha256

#: A code that a generated row does not have.
NO_CODE: Final = -1


@dataclass(frozen=True, kw_only=True)
class SentenceRvqTokenizer:
    """A tokenizer that writes K codes a sentence.

    Attributes:
        name: name of the tokenizer in tables and reports.
        num_codebooks: K, codes of a sentence.
        codebook_size: V, values of a code, a power of two; ids are stage * V + code.
        window: sentences of a sample.
        form: how vectors become codes: ``beam``, ``greedy``, ``opq``, ``renormalised``.
        splitter: what finds the ends of sentences: ``nupunkt`` or ``pysbd``.
        embedder: what makes vectors of sentences.
        decoder: what writes sentences for codes; None: nothing does.
        fit_sentences: most training sentences that codebooks are learned from.
        fit_seed: seed of the k-means.
        checkpoint: a ``codebooks.safetensors``; None: they are learned.
        sentences_folder: sentences of the corpus of the codebooks, as a training leaves them.
        batch_size: documents that are encoded at a time.
        hash_cache: folder that remembers the checkpoint's sha256.
    """

    modality: ClassVar[Modality] = TEXTS
    VERSION: ClassVar[int] = 1

    name: str = field(default="sentence_rvq", metadata=NOT_IDENTITY)
    num_codebooks: int = 8
    codebook_size: int = 256
    window: int = 16
    form: str = "beam"
    splitter: str = "nupunkt"
    embedder: SentenceEmbedder = field(default_factory=SentenceEmbedder)
    decoder: SentenceDecoder | None = field(default_factory=NearestDecoder)
    fit_sentences: int = 65_536
    fit_seed: int = 0
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    sentences_folder: str | None = field(default=None, metadata=NOT_IDENTITY)
    batch_size: int = field(default=32, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take the sizes of a checkpoint; refuse impossible settings."""
        if self.checkpoint is not None:
            books = self.codebooks
            object.__setattr__(self, "num_codebooks", len(books))
            object.__setattr__(self, "codebook_size", books.shape[1])
        require_form(self.form)
        _require_sizes(self)

    def check_machine(self) -> None:
        """Refuse missing packages before any work."""
        require_splitter(self.splitter)

    # -------------------------------------------------------------------------------- the contract

    def identity(self) -> dict[str, Any]:
        """Return the identity: codebooks (or their recipe), embedder, splitter, window, decoder."""
        kind = {"class": type(self).__name__, "version": self.VERSION, "window": self.window}
        if self.checkpoint is None:
            return kind | {"recipe": self.recipe(), "decoder": identity(self.decoder)}
        return kind | {
            "form": self.form,
            "splitter": self.splitter,
            "embedder": identity(self.embedder),
            "codebooks": weights_sha256(self.checkpoint, memory=self.hash_cache),
            "decoder": None if self.decoder is None else self.decoder.identity_in(self),
        }

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the codebooks but the texts."""
        names = ("num_codebooks", "codebook_size", "form", "splitter", "fit_sentences", "fit_seed")
        fields = {name: getattr(self, name) for name in names}
        return fields | {"embedder": identity(self.embedder)}

    @property
    def spec(self) -> TokenSpec:
        """K ids a sentence, a stage a channel; a sample is a window of sentences."""
        layout = TokenLayout.sequence(
            self.window * self.num_codebooks, order="raster", num_channels=self.num_codebooks
        )
        return TokenSpec(
            vocab_size=self.num_codebooks * self.codebook_size,
            layout=layout,
            ragged=True,
            codebooks=self.num_codebooks,
        )

    @property
    def encoder(self) -> SentenceRvqTokenizer:
        """The same codes without a decoder: token files hold whole documents."""
        return replace(self, window=1, decoder=None)

    def fit(self, corpus: Corpus) -> Stage[SentenceRvqTokenizer] | Ready[SentenceRvqTokenizer]:
        """Return the stage that learns the codebooks, and what the decoder needs."""
        codes: Stage[SentenceRvqTokenizer] | Ready[SentenceRvqTokenizer] = Ready(self)
        if self.checkpoint is None:
            codes = FitCodes(recipe=self, corpus=corpus)
        return codes if self.decoder is None else self.decoder.fit(self, corpus, codes)

    def fitted(self, *, codebooks: Path, sentences: Path) -> SentenceRvqTokenizer:
        """Return the tokenizer with its codebooks, and the sentences that they are of."""
        return replace(self, checkpoint=str(codebooks), sentences_folder=str(sentences))

    def prepare(self, text: str) -> list[str]:
        """Return the sentences of a text, which joined are the text.

        Raises:
            TokenError: for half a character of UTF-16, which has no bytes.
        """
        require_characters(text)
        return split_sentences(text, splitter=self.splitter)

    def encode(self, prepared: Sequence[list[str]]) -> Encoded:
        """Encode texts as (S K,) uint16 ids each; count sentences that are longer than is read.

        Raises:
            ConfigError: when there are no codebooks yet.
        """
        every = [sentence for sentences in prepared for sentence in sentences]
        codes, was_cut = self._codes(every)
        ids = (codes + self._first_ids).astype(np.uint16)
        ends = np.cumsum([len(sentences) for sentences in prepared], dtype=np.int64)[:-1]
        documents = [part.reshape(-1) for part in np.split(ids, ends)] if prepared else []
        counts = {"sentences": len(every), "cut_sentences": int(was_cut.sum())}
        return Encoded(documents=documents, counts=counts)

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> list[str]:
        """Decode rows of ids, up to their first separator, to texts.

        A sentence begins at an id whose stage is not behind that of the id before: what a generator
        wrote may lack codes.

        Args:
            tokens_BT: (B, T) ids of any integer dtype, padded with separators or not.
            output_size: None: a text has no other size.

        Raises:
            TokenError: for another shape, or an id outside the vocabulary; ids are never wrapped.
            ConfigError: for a size, or when there are no codebooks yet.
        """
        steps = self._rows(tokens_BT, output_size=output_size)
        return ["".join(_joinable(sentences)) for sentences in self._sentences_of(steps)]

    def written(self, tokens_BT: Tokens) -> list[list[str]]:
        """Return the sentences that :meth:`decode` joins, for the steps of each row."""
        return self._sentences_of(self._rows(tokens_BT))

    def _rows(self, tokens_BT: Tokens, *, output_size: int | None = None) -> list[Codes]:
        """Return the (S, K) codes of each row."""
        vocab_size = self.num_codebooks * self.codebook_size
        rows = written_rows(tokens_BT, vocab_size=vocab_size, output_size=output_size)
        return [self.steps(np.array(row, dtype=np.int64))[0] for row in rows]

    def offsets(self, tokens_T: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the (T + 1,) numbers of characters before every token, then of the whole text.

        The characters of a sentence are shared out among its codes, in order; padding has none.
        """
        row = np.asarray(tokens_T)
        size = int(row_sizes(row[None])[0])
        codes, sentence_of = self.steps(row[:size].astype(np.int64))
        (sentences,) = self._sentences_of([codes])
        lengths = [len(sentence) for sentence in _joinable(sentences)]
        counts = np.bincount(sentence_of, minlength=len(lengths))
        ends = [0]
        for length, count in zip(lengths, counts.tolist(), strict=True):
            start = ends[-1]
            ends += [start + length * part // count for part in range(1, count + 1)]
        return np.array(ends + [ends[-1]] * (len(row) - size), dtype=np.int64)

    # ------------------------------------------------------------------------------ sentence codes

    @property
    def codebooks(self) -> Codebooks:
        """(K, V, d) float32.

        Raises:
            ConfigError: when there are none yet.
        """
        path = Path(self._checkpoint)
        return _read(path, file_stamp(path) if path.exists() else "")

    @property
    def sentences(self) -> Sentences:
        """Sentences of the corpus that the codebooks were learned from.

        Raises:
            ConfigError: when they are not known.
        """
        if self.sentences_folder is None:
            raise ConfigError(
                "the codes of sentences are written as the nearest training sentence, but a "
                "checkpoint of codebooks holds no sentences; type tokenizer.checkpoint=null to "
                "train on the corpus"
            )
        return _sentences(Path(self.sentences_folder))

    @property
    def sentence_codes(self) -> NDArray[np.integer[Any]]:
        """(N, K) codes of these sentences."""
        path = Path(self._checkpoint).with_name(CODES)
        return _mapped(path, file_stamp(path))

    def embed(self, sentences: Sequence[str]) -> Features:
        """Return the (N, d) float32 unit vectors of sentences; known ones are looked up."""
        return self._embedded(sentences)[0]

    def quantize(self, vectors: Features) -> Codes:
        """Return the (N, K) codes, 0 ... V - 1, of (N, d) vectors."""
        return quantize(vectors, self.codebooks, form=self.form)

    def vectors(self, codes: Codes) -> Features:
        """Return the (N, d) float32 sums of the codebook vectors of (N, k) codes, k <= K.

        A code of -1 adds nothing. Sums of the form ``renormalised`` have length 1.
        """
        return sums(codes, self.codebooks, form=self.form)

    def steps(self, ids: NDArray[np.integer[Any]]) -> tuple[Codes, NDArray[np.int64]]:
        """Return the codes of the sentences of a row.

        Args:
            ids: (T,) ids without separators.

        Returns:
            (S, K) codes, -1 where a sentence lacks one, and the (T,) sentence of each id.
        """
        stages, codes = np.divmod(np.asarray(ids, dtype=np.int64), self.codebook_size)
        starts = np.diff(stages, prepend=self.num_codebooks) <= 0
        sentence_of = np.cumsum(starts) - 1
        found = np.full((int(starts.sum()), self.num_codebooks), NO_CODE, dtype=np.int64)
        found[sentence_of, stages] = codes
        return found, sentence_of

    def _sentences_of(self, rows: Sequence[Codes]) -> list[list[str]]:
        if self.decoder is None:
            raise ConfigError(
                "these codes have no decoder; from Python: dataclasses.replace(tokenizer, "
                "decoder=NearestDecoder())"
            )
        return self.decoder.write(rows, self)

    def _codes(self, sentences: Sequence[str]) -> tuple[Codes, NDArray[np.bool_]]:
        """Return the codes of sentences, looked up where they are known, and which were cut."""
        codes = np.zeros((len(sentences), self.num_codebooks), dtype=np.int64)
        was_cut = np.zeros(len(sentences), dtype=bool)
        _ = self.codebooks
        known = self._known(sentences)
        if (known >= 0).any():
            codes[known >= 0] = self.sentence_codes[known[known >= 0]]
            was_cut[known >= 0] = self.sentences.was_cut[known[known >= 0]]
        new = np.flatnonzero(known < 0).tolist()
        if new:
            vectors, was_cut[new] = self.embedder.embed([sentences[row] for row in new])
            codes[new] = self.quantize(vectors)
        return codes, was_cut

    def _embedded(self, sentences: Sequence[str]) -> tuple[Features, NDArray[np.bool_]]:
        known = self._known(sentences)
        if not len(known) or (known < 0).all():
            return self.embedder.embed(sentences)
        found = np.array(self.sentences.vectors[known.clip(min=0)])
        was_cut = np.array(self.sentences.was_cut[known.clip(min=0)])
        new = np.flatnonzero(known < 0).tolist()
        if new:
            found[new], was_cut[new] = self.embedder.embed([sentences[row] for row in new])
        return found, was_cut

    def _known(self, sentences: Sequence[str]) -> NDArray[np.int64]:
        if self.sentences_folder is None:
            return np.full(len(sentences), -1, dtype=np.int64)
        return self.sentences.find(sentences)

    @property
    def _first_ids(self) -> NDArray[np.int64]:
        """(K,) first id of each stage."""
        return np.arange(self.num_codebooks) * self.codebook_size

    @property
    def _checkpoint(self) -> str:
        if self.checkpoint is None:
            raise ConfigError(
                f"tokenizer {self.name} has no codebooks yet: a run learns them first; from "
                "Python, make the stage that tokenizer.fit(corpus) gives, or type "
                "tokenizer.checkpoint=FOLDER/codebooks.safetensors"
            )
        return self.checkpoint


def _require_sizes(tokenizer: SentenceRvqTokenizer) -> None:
    """Refuse codes that no token file or no quantizer can hold.

    Raises:
        ConfigError: naming the field and what is allowed.
    """
    num, size = tokenizer.num_codebooks, tokenizer.codebook_size
    if num < 1:
        raise ConfigError(
            f"tokenizer.num_codebooks={num} leaves no code of a sentence; type "
            "tokenizer.num_codebooks=8"
        )
    if size < 2 or size & (size - 1):
        raise ConfigError(
            f"tokenizer.codebook_size={size} must be a power of two of at least 2; type "
            "tokenizer.codebook_size=256"
        )
    if num * size > EOS_TOKEN_ID:
        fits = 1 << ((EOS_TOKEN_ID // num).bit_length() - 1)
        raise ConfigError(
            f"tokenizer.num_codebooks={num} x tokenizer.codebook_size={size:,} are "
            f"{num * size:,} ids; token files hold ids of 16 bits, so {EOS_TOKEN_ID:,} at most; "
            f"type tokenizer.codebook_size={fits} or fewer codebooks"
        )
    if tokenizer.window < 1:
        raise ConfigError(
            f"tokenizer.window={tokenizer.window} must be at least 1 sentence; type "
            "tokenizer.window=16"
        )
    if tokenizer.fit_sentences < size:
        raise ConfigError(
            f"tokenizer.fit_sentences={tokenizer.fit_sentences} must be at least "
            f"tokenizer.codebook_size={size}; type tokenizer.fit_sentences=65536"
        )


def _joinable(sentences: Sequence[str]) -> list[str]:
    """Return sentences that can be joined: a space behind each that ends without white space.

    >>> _joinable(["One.", "Two. ", "Three."])
    ['One. ', 'Two. ', 'Three.']
    """
    inner = [one if one[-1:].isspace() else f"{one} " for one in sentences[:-1]]
    return [*inner, *sentences[-1:]]


@functools.lru_cache(maxsize=4)
def _read(path: Path, stamp: str) -> Codebooks:
    """Read codebooks; ``stamp`` makes a file that was written anew another one."""
    return read_codebooks(path)


@functools.lru_cache(maxsize=4)
def _mapped(path: Path, stamp: str) -> NDArray[np.integer[Any]]:
    codes: NDArray[np.integer[Any]] = np.load(path)
    return codes


@functools.lru_cache(maxsize=4)
def _sentences(folder: Path) -> Sentences:
    return Sentences(folder)
