"""Sentences as training rows: several in each row, every one with its codes and the text before it.

    ids.npy        (M,) uint16 BPE ids of all sentences, one after the other
    ends.npy       (N + 1,) int64: sentence i is ids[ends[i] : ends[i + 1]]
    first.npy      (N,) int64 number of the first sentence of its document
    codes.npy      (N, K) uint16 codes, stage by stage, each 0 ... V - 1

Sentences differ in length, so rows are filled with as many as fit; none sees another.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from imagegram.store.manifest import Handle
from imagegram.tokenizers.bpe import BpeTokenizer
from imagegram.tokenizers.renderer.sizes import RendererSizes, code_text

#: Files of :class:`SentenceFiles`, (name, dtype).
ARRAYS: Final = {"ids": np.uint16, "ends": np.int64, "first": np.int64, "codes": np.uint16}
#: Positions of a row, where no single sentence needs more.
_ROW: Final = 256
#: Sentences that are sorted by length and packed together.
_GROUP: Final = 1024
#: Key of the permutation of sentences before they are packed.
_ORDER: Final = 0x5EED

#: Sizes that do not decide how a sentence is read.
_NETWORK: Final = ("broadcast", "dim", "width", "depth", "num_heads")

Ids = NDArray[np.int64]


class Sentences(Protocol):
    """Arrays of sentences; see the head of this file."""

    @property
    def ids(self) -> NDArray[np.uint16]:
        """(M,) BPE ids."""

    @property
    def ends(self) -> NDArray[np.int64]:
        """(N + 1,) first id of each sentence, and the number of all ids."""

    @property
    def first(self) -> NDArray[np.int64]:
        """(N,) first sentence of the document of each sentence."""

    @property
    def codes(self) -> NDArray[np.uint16]:
        """(N, K) codes."""

    def identity(self) -> Any:
        """Return the identity of the sentences."""


@dataclass(frozen=True, kw_only=True)
class SentenceFiles(Handle):
    """Arrays of sentences on disk, memory-mapped; small enough to send to processes."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without memory maps."""
        return {"artifact": self.artifact}

    @cached_property
    def ids(self) -> NDArray[np.uint16]:
        """(M,) BPE ids."""
        return self._mapped("ids")  # type: ignore[no-any-return]

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """(N + 1,) first id of each sentence, and the number of all ids."""
        return self._mapped("ends")  # type: ignore[no-any-return]

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """(N,) first sentence of the document of each sentence."""
        return self._mapped("first")  # type: ignore[no-any-return]

    @cached_property
    def codes(self) -> NDArray[np.uint16]:
        """(N, K) codes."""
        return self._mapped("codes")  # type: ignore[no-any-return]

    def _mapped(self, name: str) -> Any:
        return np.load(self.artifact.path / f"{name}.npy", mmap_mode="r")


class Segment(NamedTuple):
    """One sentence as the network reads it: (L,) arrays.

    Attributes:
        ids: what is read.
        places: where it stands.
        targets: what follows in the sentence; -1: nothing is to be predicted here.
        stages: stage of the code that stands here; -1: no code.
    """

    ids: Ids
    places: Ids
    targets: Ids
    stages: Ids


class Reader:
    """Writes codes, context and sentence as ids at their places.

    Args:
        sizes: of the network.
        bpe: trained tokenizer, which writes codes as text; unused otherwise.
    """

    def __init__(self, sizes: RendererSizes, bpe: BpeTokenizer | None = None) -> None:
        self.sizes = sizes
        self.words: list[list[int]] = [[sizes.first_code + n] for n in range(sizes.num_codes)]
        if sizes.conditioning == "none":
            self.words = [[] for _ in range(sizes.num_codes)]
        elif sizes.conditioning == "text":
            assert bpe is not None
            pairs = (divmod(n, sizes.codebook_size) for n in range(sizes.num_codes))
            texts = [code_text(stage, code) for stage, code in pairs]
            self.words = [words.tolist() for words in bpe.encode(texts).documents]
        self.word_counts = np.array([len(words) for words in self.words], dtype=np.int64)

    def prefix(self, codes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return the ids of the codes of a sentence, and the stage of each.

        Args:
            codes: K codes 0 ... V - 1, stage by stage; -1: it is not known.
        """
        size = self.sizes.codebook_size
        known = [(stage, stage * size + int(code)) for stage, code in enumerate(codes) if code >= 0]
        ids = [word for _, number in known for word in self.words[number]]
        stages = [stage for stage, number in known for _ in self.words[number]]
        return ids, stages

    def segment(self, codes: Sequence[int], context: Ids, sentence: Ids) -> Segment:
        """Return a sentence as it is read in training and in scoring.

        Args:
            codes: as in :meth:`prefix`.
            context: BPE ids before the sentence; the last C are read.
            sentence: its BPE ids; of more than S - 1, the first S are predicted, without an end.
        """
        sizes = self.sizes
        words, stages = self.prefix(codes)
        context = context[len(context) - min(len(context), sizes.context_tokens) :]
        read = np.concatenate([[sizes.boundary], sentence])[: sizes.sentence_tokens]
        after = np.concatenate([sentence, [sizes.boundary]])[: sizes.sentence_tokens]
        before = len(words) + len(context)
        nothing = np.full(before, -1, dtype=np.int64)
        begins = sizes.beginning
        return Segment(
            ids=np.concatenate([words, context, read]).astype(np.int64),
            places=np.concatenate(
                [
                    np.arange(len(words)) if sizes.conditioning == "text" else stages,
                    np.arange(begins - len(context), begins + len(read)),
                ]
            ).astype(np.int64),
            targets=np.concatenate([nothing, after]),
            stages=np.concatenate([stages, np.full(len(context) + len(read), -1)]).astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class RendererItems:
    """Rows of sentences; a row is (5, L): ids, places, segments, targets, stages.

    Positions of one sentence have one segment, 0, 1 ...; -1 is padding. See :class:`Segment`.

    Attributes:
        sentences: arrays.
        sizes: of the network.
        bpe: trained tokenizer, for codes that are written as text.
        shuffled: every sentence has the codes of another one, half of all sentences later.
    """

    sentences: Sentences
    sizes: RendererSizes
    bpe: BpeTokenizer | None = None
    shuffled: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone, so that rows are planned again in another process."""
        return {name: getattr(self, name) for name in ("sentences", "sizes", "bpe", "shuffled")}

    def identity(self) -> Any:
        """Return the identity of the sentences, and of how they are read."""
        sizes = {k: v for k, v in self.sizes.as_dict().items() if k not in _NETWORK}
        return {"sentences": self.sentences.identity(), "sizes": sizes}

    @cached_property
    def reader(self) -> Reader:
        """What writes sentences as ids."""
        return Reader(self.sizes, self.bpe)

    @cached_property
    def rows(self) -> list[list[int]]:
        """Numbers of the sentences of every row."""
        return pack(self.lengths, capacity=self.capacity)

    @property
    def capacity(self) -> int:
        """Number of positions of a row, L."""
        return max(_ROW, self.sizes.num_places)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) number of positions of each sentence."""
        sentences, sizes = self.sentences, self.sizes
        ends = np.asarray(sentences.ends)
        before = np.minimum(ends[:-1] - ends[np.asarray(sentences.first)], sizes.context_tokens)
        own = np.minimum(np.diff(ends) + 1, sizes.sentence_tokens)
        numbers = self.codes + np.arange(sizes.num_codebooks) * sizes.codebook_size
        lengths: NDArray[np.int64] = before + own + self.reader.word_counts[numbers].sum(axis=1)
        return lengths

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """(N, K) codes that each sentence is read with."""
        codes = np.asarray(self.sentences.codes).astype(np.int64)
        return np.roll(codes, len(codes) // 2, axis=0) if self.shuffled else codes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def segment(self, sentence: int) -> Segment:
        """Return one sentence as it is read."""
        found = self.sentences
        first, start, end = found.ends[[found.first[sentence], sentence, sentence + 1]].tolist()
        first = max(first, start - self.sizes.context_tokens)
        context, own = (found.ids[a:b].astype(np.int64) for a, b in ((first, start), (start, end)))
        return self.reader.segment(self.codes[sentence].tolist(), context, own)

    def gather(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """Return (B, 5, L) int32 rows."""
        filled = np.full((len(rows), 5, self.capacity), -1, dtype=np.int32)
        filled[:, :2] = 0
        for arrays, row in zip(filled, rows.tolist(), strict=True):
            start = 0
            for number, sentence in enumerate(self.rows[row]):
                segment = self.segment(sentence)
                here = slice(start, start + len(segment.ids))
                arrays[0, here], arrays[1, here], arrays[2, here] = (
                    segment.ids,
                    segment.places,
                    number,
                )
                arrays[3, here], arrays[4, here] = segment.targets, segment.stages
                start = here.stop
        return filled


def pack(lengths: NDArray[np.int64], *, capacity: int) -> list[list[int]]:
    """Fill rows with items in random order: always the longest one that still fits.

    Args:
        lengths: (N,) lengths, none above ``capacity``.
        capacity: of a row.

    >>> pack(np.array([3, 1, 2]), capacity=4)
    [[0, 1], [2]]
    """
    rng = np.random.Generator(np.random.Philox(key=_ORDER))
    order, rows = rng.permutation(len(lengths)), []
    for start in range(0, len(order), _GROUP):
        group = order[start : start + _GROUP]
        by_length = group[np.argsort(lengths[group], kind="stable")].tolist()
        sizes = lengths[by_length].tolist()
        while by_length:
            row, left = [], capacity
            while (place := bisect.bisect_right(sizes, left)) > 0:
                left -= sizes.pop(place - 1)
                row.append(by_length.pop(place - 1))
            rows.append(row)
    return [rows[place] for place in rng.permutation(len(rows)).tolist()]


def hide(segments: NDArray[np.int64], stages: NDArray[np.int64], kept: NDArray[np.int64]) -> None:
    """Take codes out of their segments, in place, so that no position sees them.

    Args:
        segments: (B, L) segments, -1: padding.
        stages: (B, L) stage of a code, -1: no code.
        kept: (B, G) number of first stages that each segment keeps.
    """
    limits = np.take_along_axis(kept, segments.clip(0), axis=1)
    segments[stages >= limits] = -1
