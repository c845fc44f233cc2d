"""The captions of a corpus as a text encoder reads them: embedded once, kept, found by their text.

    texts.jsonl   different captions, sorted
    states.npy    (R, d) float16 states of all their tokens, caption after caption
    ends.npy      (M,) int64 rows up to the end of each caption
    was_cut.npy   (M,) bool, whether it was longer than the encoder reads

One artifact for some captions, and a collection of them. What they are is decided by captions and
encoder alone, so a tokenizer and a generator of one corpus share them, whatever else they read of
it; and a killed run goes on behind the last part that was finished.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.manifest import Handle
from imagegram.store.parts import open_parts, write_parts
from imagegram.store.stage import Context, Stage
from imagegram.texts.samples import read_texts, write_texts

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact

TEXTS: Final = "texts.jsonl"
STATES: Final = "states.npy"
ENDS: Final = "ends.npy"
WAS_CUT: Final = "was_cut.npy"
#: Captions of a part: some seconds of embedding.
_PART: Final = 2048
#: Characters of a caption that a message shows.
_SHOWN: Final = 40
#: Bytes of a digest of captions.
_DIGEST: Final = 16


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """What a text encoder says of B texts.

    Attributes:
        states: (B, L, d) float16, 0 behind the end of a text.
        there: (B, L) bool, tokens of a text; a row without any has no text.
    """

    states: NDArray[np.float16]
    there: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CaptionTable(Handle):
    """Embedded captions; arrays are memory maps, and are opened in every process.

    Attributes:
        num_tokens: most states of a caption, L.
        dim: numbers of a state, d.
    """

    num_tokens: int
    dim: int

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without opened files."""
        return {"artifact": self.artifact, "num_tokens": self.num_tokens, "dim": self.dim}

    @property
    def num_cut(self) -> int:
        """Number of captions that were longer than the encoder reads, and were cut."""
        return int(self.artifact.facts["num_cut"])

    @cached_property
    def _parts(self) -> list[tuple[NDArray[np.float16], NDArray[np.int64]]]:
        paths = [part.path for part in open_parts(self.artifact)]
        return [(np.load(path / STATES, mmap_mode="r"), np.load(path / ENDS)) for path in paths]

    @cached_property
    def _number(self) -> dict[str, int]:
        paths = [part.path / TEXTS for part in open_parts(self.artifact)]
        texts = (text for path in paths for text in read_texts(path))
        return {text: number for number, text in enumerate(texts)}

    def find(self, texts: Iterable[str | None]) -> NDArray[np.int32]:
        """Return the number of each text; -1: it is none, or not among the captions."""
        known = self._number
        return np.array([known.get(text or "", -1) for text in texts], dtype=np.int32)

    def gather(self, numbers_B: NDArray[np.integer[Any]]) -> TextStates:
        """Return the states of (B,) captions; of the number -1 none."""
        shape = (len(numbers_B), self.num_tokens)
        states = np.zeros((*shape, self.dim), dtype=np.float16)
        there = np.zeros(shape, dtype=bool)
        for row, number in enumerate(np.asarray(numbers_B).tolist()):
            if number < 0:
                continue
            part, place = divmod(number, _PART)
            found, ends = self._parts[part]
            first, end = (0 if place == 0 else int(ends[place - 1])), int(ends[place])
            states[row, : end - first] = found[first:end]
            there[row, : end - first] = True
        return TextStates(states=states, there=there)


@dataclass(frozen=True, kw_only=True)
class EmbedSome(Stage["Artifact"]):
    """The stage that embeds some captions.

    Attributes:
        texts: the captions.
        embedder: what reads them.
    """

    kind: ClassVar[str] = "caption_states"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1

    texts: tuple[str, ...] = field(metadata=NOT_IDENTITY)
    embedder: SentenceEmbedder

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the captions, and the encoder."""
        own = {"class": type(self).__name__, "version": self.VERSION}
        return own | {"texts": texts_digest(self.texts), "embedder": identity(self.embedder)}

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Embed, then write the four files."""
        task = context.progress.start("embed captions", len(self.texts), "captions")
        states, was_cut = self.embedder.states(
            self.texts,
            workers=context.workers,
            advance=lambda count: context.progress.advance(task, count),
        )
        context.progress.finish(task)
        write_texts(out / TEXTS, self.texts)
        np.save(out / STATES, np.concatenate(states))
        np.save(out / ENDS, np.cumsum([len(each) for each in states]).astype(np.int64))
        np.save(out / WAS_CUT, was_cut)
        return {"num_captions": len(self.texts), "num_cut": int(was_cut.sum())}

    def load(self, artifact: Artifact) -> Artifact:
        """Return the artifact itself."""
        return artifact


@dataclass(frozen=True, kw_only=True)
class EmbedCaptions(Stage[CaptionTable]):
    """The stage that embeds the different captions of a corpus.

    Attributes:
        texts: captions, in any order, any number of times.
        embedder: what reads them; longer ones are cut, and counted.
    """

    kind: ClassVar[str] = "captions"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (EmbedSome,)

    texts: tuple[str, ...] = field(metadata=NOT_IDENTITY)
    embedder: SentenceEmbedder

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(sorted(set(self.texts))))
        if not self.texts:
            raise ConfigError(
                "there are no captions to embed; give a corpus with captions, or type a tokenizer "
                "and a generator that read none"
            )

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the captions, and the encoder."""
        own = {"class": type(self).__name__, "version": self.VERSION}
        return own | {"texts": texts_digest(self.texts), "embedder": identity(self.embedder)}

    @property
    def parts(self) -> list[EmbedSome]:
        """The stages that embed some of the captions each."""
        firsts = range(0, len(self.texts), _PART)
        return [
            EmbedSome(texts=self.texts[first : first + _PART], embedder=self.embedder)
            for first in firsts
        ]

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Embed all captions; write ``shards.json``."""
        made = [context.make(part) for part in self.parts]
        write_parts(out, kind=EmbedSome.kind, parts=made)
        num_cut = sum(int(part.facts["num_cut"]) for part in made)
        return {"num_captions": len(self.texts), "num_cut": num_cut}

    def load(self, artifact: Artifact) -> CaptionTable:
        """Return the handle of the captions."""
        embedder = self.embedder
        return CaptionTable(artifact=artifact, num_tokens=embedder.num_states, dim=embedder.dim)


def texts_digest(texts: Sequence[str]) -> str:
    """Return a hash of texts in their order.

    >>> texts_digest(["ab", "c"]) == texts_digest(["a", "bc"])
    False
    """
    found = hashlib.blake2b(digest_size=_DIGEST)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def embed_asked(texts: Sequence[str | None], embedder: SentenceEmbedder) -> TextStates:
    """Return the states of texts that samples are asked for; None: no text.

    Args:
        texts: B texts, cut where they are longer than is read.
        embedder: what reads them.
    """
    known = list(dict.fromkeys(text for text in texts if text is not None))
    place = {text: number for number, text in enumerate(known)}
    found = embedder.states(known)[0] if known else []
    shape = (len(texts), embedder.num_states)
    states = np.zeros((*shape, embedder.dim), dtype=np.float16)
    there = np.zeros(shape, dtype=bool)
    for row, text in enumerate(texts):
        if text is not None:
            one = found[place[text]]
            states[row, : len(one)], there[row, : len(one)] = one, True
    return TextStates(states=states, there=there)


def refuse_long(texts: Sequence[str], embedder: SentenceEmbedder, *, setting: str) -> None:
    """Refuse a typed caption that would be cut: who typed it can shorten it.

    Args:
        texts: the captions.
        embedder: what reads them.
        setting: how its length is written on the command line, ``generator.embedder.max_tokens``.

    Raises:
        ConfigError: with the first of them.
    """
    for text in texts:
        if not embedder.reads(text):
            shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
            raise ConfigError(
                f"the caption {shown!r} is longer than the {embedder.max_tokens} tokens that "
                f"{embedder.name} is asked to read; shorten it, or train with "
                f"{setting}={2 * embedder.max_tokens}"
            )
