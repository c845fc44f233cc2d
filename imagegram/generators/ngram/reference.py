"""The definition of n-gram generation: slow, readable Python over plain token streams.

Every fast path must reproduce these tokens and this trace bit for bit. For position ``t`` of an
image with tokens ``x[0..t-1]`` the history is the separator and those tokens; the context is its
last ``max_context[t]`` tokens. A *candidate* for a suffix of the context of length ``L`` is a
place of the corpus that follows an occurrence of that suffix, holds a token of an image (never a
separator) and obeys the sampler's ``matching``. The longest suffix with enough candidates
decides (``min_count``, at most the number of documents); the empty suffix always does.

Three knobs ask more. With a ``label``, a candidate for one of the first ``label_tokens`` lies in a
document of the sample's label (and at most the number of those is enough). With an ``anchor``, it
lies in a document that begins with the first ``a`` tokens of the sample: the largest a up to
``anchor`` and t is taken that leaves enough candidates of the empty suffix, then the longest
suffix. With ``context_digits``, the tokens of anchor and suffix, in sample and corpus, are compared
by these digits only; the next token is a whole one. Equal candidates are numbered in the order of
the table of what is compared: whole tokens, or their digits.

Where documents are *ragged*, they differ in length, and the separator behind a document is a
candidate too, of that document; only the empty suffix, which says nothing of an end, never ends
one. A row that draws it is finished: it is padded with separators, and its trace with nothing.

>>> import numpy as np
>>> corpus = StreamCorpus(streams=(np.array([65535, 7, 8, 9, 65535], dtype=np.uint16),))
>>> from imagegram.samplers.ngram import NgramSampler
>>> from imagegram.layout import TokenLayout
>>> job = Job(sampler=NgramSampler(name="s"), layout=TokenLayout.sequence(3),
...           samples=np.arange(1, dtype=np.uint64), seed=0)
>>> tokens, trace = trace_rows(ReferenceLookup(corpus=corpus, job=job), job)
>>> tokens.tolist(), trace["suffix_len"].tolist(), trace["source_position"].tolist()
([[7, 8, 9]], [[1, 2, 3]], [[0, 1, 2]])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.labels import ANY
from imagegram.generators.ngram.engine import Engine, Job, Needs, Request
from imagegram.records import EOS_TOKEN_ID, Tokens, Trace
from imagegram.samplers.ngram import NgramSampler, distribution, matching_classes
from imagegram.samplers.truncation import draw, entropy_bits
from imagegram.seeding import uniforms


class Place(NamedTuple):
    """One token of the corpus: its shard and its index in the shard's stream."""

    shard: int
    at: int


class Candidates(NamedTuple):
    """The candidates for the next token.

    Attributes:
        suffix_len: L, tokens of context that every candidate follows.
        tokens: (K,) distinct next tokens, ascending.
        counts: (K,) candidates that hold each.
        choose: (token, number) to the place of that candidate among those that hold the token:
            shard by shard, in table order.
        contains: whether a place of the corpus is one of the candidates.
    """

    suffix_len: int
    tokens: NDArray[Any]
    counts: NDArray[Any]
    choose: Callable[[int, int], Place]
    contains: Callable[[Place], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamCorpus:
    """Token streams with a separator before (and, in ours, after) each document."""

    streams: tuple[Tokens, ...]

    @cached_property
    def separators(self) -> tuple[NDArray[np.int64], ...]:
        """Per shard, the stream indices of the separators that begin a document."""
        found = [np.flatnonzero(np.asarray(stream) == EOS_TOKEN_ID) for stream in self.streams]
        return tuple(
            at[:-1] if len(at) and at[-1] == len(stream) - 1 else at
            for at, stream in zip(found, self.streams, strict=True)
        )

    @cached_property
    def first_documents(self) -> NDArray[np.int64]:
        """(S + 1,) documents before each shard; the last entry is their number."""
        return np.cumsum([0, *(len(at) for at in self.separators)])

    @property
    def num_documents(self) -> int:
        """Number of documents of all shards."""
        return int(self.first_documents[-1])

    def locate(self, shard: int, index: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return global documents, and positions inside them, of stream indices of tokens."""
        starts = self.separators[shard]
        local = np.searchsorted(starts, index, side="left") - 1
        return local + self.first_documents[shard], index - starts[local] - 1


def suffix_ranks(stream: Tokens) -> NDArray[np.int64]:
    """Rank every suffix by the bytes of its little-endian tokens, by prefix doubling.

    >>> suffix_ranks(np.array([1, 256, 1], dtype=np.uint16)).tolist()  # 256 is 00 01: before 1
    [2, 0, 1]
    """
    rank = np.unique(np.asarray(stream, dtype="<u2").byteswap(), return_inverse=True)[1]
    width = 1
    while width < len(stream):
        after = np.zeros_like(rank)  # a suffix that ends sorts first
        after[:-width] = rank[width:] + 1
        rank = np.unique(rank * (len(stream) + 1) + after, return_inverse=True)[1]
        width *= 2
    return rank.astype(np.int64)


class Lookup(Protocol):
    """Finds the candidates of a history; one per engine."""

    @property
    def corpus(self) -> StreamCorpus:
        """Streams that places refer to."""

    def candidates(self, history: Sequence[int], limit: int, label: int) -> Candidates:
        """Find the candidates for the token after ``history``, from its last ``limit`` tokens.

        ``label`` is the one that their documents must have; -1: any.
        """


@dataclass(frozen=True, kw_only=True)
class ReferenceLookup:
    """Candidates by scanning the streams."""

    corpus: StreamCorpus
    job: Job

    @cached_property
    def contexts(self) -> tuple[Tokens, ...]:
        """Streams that contexts are compared in: whole tokens or some of their digits."""
        return tuple(self._compared(stream) for stream in self.corpus.streams)

    @cached_property
    def ranks(self) -> tuple[NDArray[np.int64], ...]:
        """Per shard, the rank of every suffix in the order of the table."""
        return tuple(suffix_ranks(stream) for stream in self.contexts)

    def candidates(self, history: Sequence[int], limit: int, label: int = ANY) -> Candidates:
        """Lengthen first the anchor, then the suffix, while enough candidates are left."""
        compared = self._compared(np.array(history, dtype=np.uint16)).tolist()
        position = len(history) - 1
        needed = min(self.job.sampler.min_count, self._num_documents(label))
        for anchor in range(min(self.job.sampler.anchor, position), -1, -1):
            following = self._places(position, compared[1 : anchor + 1], label)
            places = self._tokens(following)
            if self._support(places) >= needed:
                break
        length = 0
        while length < limit:
            longer = [
                at[_tokens_at(stream, at - length - 1) == compared[-length - 1]]
                for at, stream in zip(following, self.contexts, strict=True)
            ]
            if self._support(longer) < needed:
                break
            places = following = longer
            length += 1
        held = [stream[at] for at, stream in zip(places, self.corpus.streams, strict=True)]
        tokens_K, counts_K = np.unique(np.concatenate(held), return_counts=True)

        def choose(token: int, number: int) -> Place:
            for shard, at in enumerate(places):
                same = at[held[shard] == token]
                if number < len(same):
                    same = same[np.argsort(self.ranks[shard][same])]
                    return Place(shard, int(same[number]))
                number -= len(same)
            raise AssertionError("a candidate's number exceeds its count")

        def contains(place: Place) -> bool:
            return bool((places[place.shard] == place.at).any())

        return Candidates(length, tokens_K, counts_K, choose, contains)

    def _compared(self, tokens: Tokens) -> Tokens:
        digits = self.job.sampler.context_digits
        return tokens if digits is None else self.job.layout.coarse(tokens, digits)

    def _num_documents(self, label: int) -> int:
        if label == ANY or self.job.labels is None:
            return self.corpus.num_documents
        return int((self.job.labels.by_document == label).sum())

    def _places(self, position: int, anchor: list[int], label: int) -> list[NDArray[np.int64]]:
        """Return, per shard, the places that ``position`` admits, in documents that may decide."""
        sampler, labels = self.job.sampler, self.job.labels
        classes = matching_classes(sampler.matching, self.job.layout)
        places = []
        for shard, stream in enumerate(self.corpus.streams):
            at = np.arange(1, len(stream))  # the first separator ends no document
            if not self.job.ragged:
                at = at[stream[at] != EOS_TOKEN_ID]
            documents, positions = self.corpus.locate(shard, at)
            keep = np.ones(len(at), dtype=np.bool_)
            if sampler.matching != "free":
                keep &= classes[positions] == classes[position]
            if label != ANY and labels is not None:
                keep &= labels.by_document[documents] == label
            first = at - positions
            for i, token in enumerate(anchor):
                # Where a document is shorter, there is a separator or nothing.
                inside = np.minimum(first + i, len(stream) - 1)
                keep &= (first + i < len(stream)) & (self.contexts[shard][inside] == token)
            places.append(at[keep])
        return places

    def _tokens(self, places: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Drop the places that hold a separator."""
        return [
            at[stream[at] != EOS_TOKEN_ID]
            for at, stream in zip(places, self.corpus.streams, strict=True)
        ]

    def _support(self, places: list[NDArray[np.int64]]) -> int:
        if not self.job.sampler.count_documents:
            return sum(len(at) for at in places)
        return sum(
            len(np.unique(self.corpus.locate(shard, at)[0])) for shard, at in enumerate(places)
        )


def _tokens_at(stream: Tokens, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return tokens of the stream; -1 before its beginning."""
    return np.where(index >= 0, np.asarray(stream)[np.maximum(index, 0)].astype(np.int64), -1)


def trace_rows(lookup: Lookup, job: Job) -> tuple[Tokens, Trace]:
    """Write rows token by token, or trace those that are given: (B, T) tokens and their trace."""
    num_rows, num_tokens = job.shape
    limits_T = job.sampler.max_context_per_position(job.layout)
    tokens_BT, trace = job.start()
    until_B = job.until
    for b in range(num_rows):
        history = [EOS_TOKEN_ID]
        source: Place | None = None
        for t in range(num_tokens):
            found = lookup.candidates(history, min(int(limits_T[t]), t + 1), _label(job, b, t))
            first, second = uniforms(seed=job.seed, sample=int(job.samples[b]), position=t)
            p_K = _distribution(job.sampler, found.counts)
            chosen = draw(p_K, first)
            token = int(tokens_BT[b, t] if t < until_B[b] else found.tokens[chosen])
            where = np.flatnonzero(found.tokens == token)
            previous, source = source, None
            if len(where):
                chosen = int(where[0])
                trace["probability"][b, t] = p_K[chosen]
                source = _continue(lookup.corpus, previous, found, token)
                if source is None:
                    count = int(found.counts[chosen])
                    source = found.choose(token, min(int(second * count), count - 1))
                document, position = lookup.corpus.locate(source.shard, np.array([source.at]))
                trace["source_document"][b, t] = document[0]
                trace["source_position"][b, t] = position[0]
            trace["suffix_len"][b, t] = found.suffix_len
            trace["num_contexts"][b, t] = int(found.counts.sum())
            trace["num_distinct"][b, t] = len(found.tokens)
            trace["entropy"][b, t] = entropy_bits(p_K)
            tokens_BT[b, t] = token
            history.append(token)
            if token == EOS_TOKEN_ID:
                tokens_BT[b, t:] = EOS_TOKEN_ID
                break
        job.advance(num_tokens)
    return tokens_BT, trace


def _label(job: Job, b: int, t: int) -> int:
    """Return the label that documents must have to decide token ``t`` of row ``b``; -1: any."""
    if job.labels is None or t >= job.labels.num_tokens:
        return ANY
    return int(job.labels.by_row[b])


def _distribution(sampler: NgramSampler, counts_K: NDArray[Any]) -> NDArray[np.float64]:
    return distribution(
        counts_K, sampler.temperature, sampler.top_k or 0, sampler.top_p, sampler.min_p
    )


def _continue(
    corpus: StreamCorpus, previous: Place | None, found: Candidates, token: int
) -> Place | None:
    """Return the place after the previous source, if it is a candidate with this token."""
    if previous is None:
        return None
    after, stream = Place(previous.shard, previous.at + 1), corpus.streams[previous.shard]
    if after.at >= len(stream) or stream[after.at] != token or not found.contains(after):
        return None
    return after


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceEngine(Engine):
    """The definition itself."""

    @staticmethod
    def refuses(request: Request) -> str | None:
        """Refuse nothing."""
        return None

    @staticmethod
    def needs(request: Request) -> Needs:
        """Ask for nothing: streams are scanned."""
        return Needs()

    def rows(self, job: Job) -> tuple[Tokens, Trace]:
        """Write (B, T) tokens and their trace."""
        return trace_rows(ReferenceLookup(corpus=self.corpus, job=job), job)

    @cached_property
    def corpus(self) -> StreamCorpus:
        """Streams of the shards."""
        return StreamCorpus(streams=tuple(shard.tokens for shard in self.files.shards))
