"""Contracts of generation: indexes, generators, models, samplers and conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.layout import TokenLayout
from imagegram.records import (
    Counting,
    GramCounts,
    Grams,
    NextTokenDist,
    Phrase,
    Phrases,
    Span,
    Tokens,
    Trace,
)
from imagegram.store.stage import Context, Progress, Ready, Stage


class Index(Protocol):
    """A suffix array over shards of documents; every engine gives the same answers."""

    @property
    def shards(self) -> tuple[Any, ...]:
        """Index shards, in the order that numbers the documents."""

    def identity(self) -> str:
        """Return kind/digest of the artifact."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens of all shards, including separators."""

    @property
    def num_documents(self) -> int:
        """Number of documents of all shards; ids run shard by shard."""

    def count(self, ids: Sequence[int]) -> int:
        """Return the occurrences of ``ids`` (separators allowed); [] occurs num_tokens times."""

    def next_token(
        self, prompt_ids: Sequence[int], *, max_context: int | None = None, min_count: int = 1
    ) -> NextTokenDist:
        """Return the next tokens after the longest suffix with ``min_count`` continuations."""

    def longest_suffix(self, prompt_ids: Sequence[int], *, min_count: int = 1) -> int:
        """Return the length of the longest suffix of the prompt that occurs ``min_count`` times."""

    def spans(
        self, ids: Sequence[int], *, min_len: int = 1, max_occurrences: int = 10
    ) -> list[Span]:
        """Return the maximal matching spans: those that no longer matching span contains."""

    def match_lengths(
        self,
        tokens_BT: Tokens,
        *,
        workers: int | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> NDArray[np.int32]:
        """Return the (B, T) length of the longest match that begins at each position."""

    def parse(self, row: Sequence[int] | Tokens, *, max_occurrences: int = 64) -> list[Phrase]:
        """Return one row as corpus phrases, each with its count and its first occurrences."""

    def parse_rows(
        self,
        tokens_BT: Tokens,
        lengths_BT: NDArray[np.integer[Any]],
        *,
        max_occurrences: int = 64,
        workers: int | None = None,
    ) -> Phrases:
        """Return the rows as corpus phrases: from the left, always the longest match."""

    def gram_counts(
        self, queries: Sequence[Grams], counting: Counting, *, workers: int | None = None
    ) -> list[GramCounts]:
        """Return the counts that n-grams are smoothed with, by order; reads the whole corpus."""

    def positions(self, ids: Sequence[int] | NDArray[np.integer[Any]]) -> list[NDArray[np.int64]]:
        """Return, per shard, the stream positions of all occurrences of ``ids``, in any order."""

    def documents_equal(
        self, tokens_BT: Tokens, *, workers: int | None = None
    ) -> NDArray[np.int64]:
        """Return the (B,) number of documents that are identical to each row."""

    def document(self, document: int) -> Tokens:
        """Return the token ids of one document, without separators."""

    def metadata(self, document: int) -> dict[str, Any]:
        """Return source key, shard, caption ... of one document, in O(1)."""


class Sampler(Protocol):
    """Options of sampling: one frozen dataclass a family of generators."""

    @property
    def name(self) -> str:
        """Name of the configuration file."""


class Condition(Protocol):
    """Requested property of each sample, drawn by (seed, sample id); see ``conditions/``."""

    @property
    def name(self) -> str:
        """Name of the configuration file."""


class Model(Protocol):
    """A generator that is ready to sample; it owns no index of the training documents."""

    def identity(self) -> Any:
        """Return the identity: kind and digest."""

    def prepared(
        self,
        sampler: Sampler,
        context: Context,
        layout: TokenLayout,
        condition: Condition | None = None,
    ) -> Model:
        """Return the model with the artifacts that make a sampler fast; makes missing ones."""

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
        """Return (B, T) tokens and their trace; row b depends only on (seed, samples[b]).

        Args:
            samples: (B,) sample ids, B >= 1.
            sampler: options of sampling.
            layout: layout of the tokenizer.
            seed: 0 ... 2**64 - 1.
            condition: requested property of all samples; None: any.
            progress: progress of the finished tokens.
            workers: number of threads.
        """


@runtime_checkable
class Scores(Protocol):
    """A model that can score given tokens; see :meth:`Generator.scores`."""

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
        """Return the trace of given tokens, as if the sampler had drawn them.

        For samples of the model itself, under their seed and sample ids, it is their own trace.

        Args:
            tokens_BT: (B, T) ids.
            sampler: options of sampling.
            layout: layout of the tokenizer.
            seed: seed of the samples.
            condition: condition of the samples.
            samples: (B,) sample ids; None: 0 ... B - 1.
            progress: progress of the scored tokens.
            workers: number of threads.
        """


@runtime_checkable
class AnyLength(Protocol):
    """A model that may write rows of another length than the layout of its tokenizer has."""

    @property
    def any_length(self) -> bool:
        """Whether it can: a network has as many positions as it was trained on."""


@runtime_checkable
class ScoresByLabel(Protocol):
    """A model that scores a document under the document's own label."""

    def condition_of(
        self, metadata: Iterable[Mapping[str, Any]], condition: Condition | None
    ) -> Condition | None:
        """Return the condition of documents, where ``condition`` is that of samples."""


@runtime_checkable
class Paints(Protocol):
    """A model that writes pictures; the tokenizer of the experiment encodes them for the audit."""

    def paint(
        self,
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Return (B, S, S, 3) uint8 pictures; row b depends only on (seed, samples[b]).

        Arguments are those of :meth:`Model.generate`, whose tokens are the pictures' own.
        """


@runtime_checkable
class Denoises(Protocol):
    """A model that says how far off it is where it denoises pictures, its own and real ones."""

    def denoises(self, sampler: Sampler) -> bool:
        """Return whether it does so under a sampler."""

    def errors(
        self,
        pictures: Iterable[Any],
        samples: NDArray[np.uint64],
        *,
        sampler: Sampler,
        seed: int,
        condition: Condition | None = None,
        progress: Progress | None = None,
    ) -> Trace:
        """Return (B, M) arrays of errors, M draws a picture, by name.

        Args:
            pictures: B of (H, W, 3) uint8.
            samples: (B,) ids, which decide the draws together with the seed.
            sampler: says how many draws.
            seed: 0 ... 2**64 - 1.
            condition: captions of the pictures; None: none is asked for.
            progress: progress of the measured pictures.
        """


@runtime_checkable
class ReadsCaptions(Protocol):
    """A generator whose samples are asked for by captions."""

    @property
    def captions(self) -> str:
        """Key of the captions in the metadata of documents, which it learned to read."""

    @property
    def caption_dropout(self) -> float:
        """Share of the training images whose caption was hidden; 0: it cannot do without one."""

    def check_captions(self, texts: Sequence[str]) -> None:
        """Refuse captions that would be cut.

        Raises:
            ConfigError: with the first of them.
        """


class Generator(Protocol):
    """A component of the group ``generator``: fits models.

    One that asks more of a tokenizer than its layout may also have ``check_tokenizer(tokenizer)``,
    which is called beside :meth:`check`; ``tokens.tokenizer`` is that tokenizer, fitted.
    """

    name: str

    def check(
        self, sampler: Sampler, layout: TokenLayout, condition: Condition | None = None
    ) -> None:
        """Refuse a sampler or a condition that cannot work on such tokens, naming those that can.

        Called when the experiment is composed; ``samplers/kinds.py`` has the words.
        """

    def scores(self, sampler: Sampler) -> bool:
        """Return whether its models implement :class:`Scores` under a sampler."""

    def fit(self, tokens: Any, *, index: Index, holdout: Any = None) -> Stage[Model] | Ready[Model]:
        """Return the stage that fits a token set, or the model itself where nothing is learned.

        Args:
            tokens: training documents, a ``stages.tokens.TokenSet``.
            index: suffix array over them.
            holdout: held-out documents, to validate a training on; None: there are none.
        """
