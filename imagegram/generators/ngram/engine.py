"""The contract of the n-gram generator's engines, and the records that they are given.

An engine is one way to write images from an index. All engines write the tokens and the trace that
``reference.py`` defines; ``engines.py`` lists them and chooses.

>>> from imagegram.samplers.ngram import NgramSampler
>>> layout = TokenLayout.sequence(9, digits=(8, 5, 5))
>>> sampler = NgramSampler(name="s", context_digits=2)
>>> Request(sampler=sampler, layout=layout, lengths=(9,)).divisor
8
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.budget import available_bytes
from imagegram.generators.ngram.trace import empty_trace
from imagegram.indexes.format import read_at_random
from imagegram.layout import TokenLayout
from imagegram.records import Tokens, Trace
from imagegram.samplers.ngram import NgramSampler

if TYPE_CHECKING:
    from imagegram.indexes.format import IndexShard
    from imagegram.indexes.order import Order
    from imagegram.indexes.screen import Screen


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Side files of index shards that spare an engine its searches.

    Attributes:
        order: ``suffix`` or ``aligned`` (``indexes/order.py``); None: no order.
        divisor: divisor of the ids of coarse shards, which are then ordered and screened; 1: none.
        runs: lengths of the runs that are screened (``indexes/screen.py``), with their places where
            the order is aligned; (): no screen.
    """

    order: str | None = None
    divisor: int = 1
    runs: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """What decides which engine can write the rows.

    Attributes:
        sampler: the knobs.
        layout: layout of the documents.
        lengths: for each shard with documents the number of tokens of each; None: they
            differ.
        ragged: whether documents differ in length, and rows may end early.
        labelled: whether only documents of a label may decide some tokens.
        made: side files that were made; None: the needed ones will be.
    """

    sampler: NgramSampler
    layout: TokenLayout
    lengths: tuple[int | None, ...]
    ragged: bool = False
    labelled: bool = False
    made: Needs | None = None

    @property
    def longest(self) -> int:
        """Tokens of the longest context that any position may have."""
        limits_T = self.sampler.max_context_per_position(self.layout)
        return int(np.minimum(limits_T, np.arange(1, self.layout.num_tokens + 1)).max())

    @property
    def divisor(self) -> int:
        """Divisor of ids, see :func:`divisor_of`."""
        return divisor_of(self.sampler, self.layout)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Knobs that ask more of a document or a context than equal tokens, as they are typed."""
        knobs = {
            f"sampler.anchor={self.sampler.anchor}": self.sampler.anchor > 0,
            "condition=label": self.labelled,
            f"sampler.context_digits={self.sampler.context_digits}": self.divisor > 1,
        }
        return tuple(knob for knob, asked in knobs.items() if asked)


def no_ends(request: Request, engine: str) -> str | None:
    """Say why an engine that knows no ends of documents refuses; None: it need not."""
    if not request.ragged:
        return None
    return (
        f"generator.engine={engine} does not know where documents of different lengths end; use "
        "generator.engine=native"
    )


def divisor_of(sampler: NgramSampler, layout: TokenLayout) -> int:
    """Return the number that ids are divided by before contexts are compared; 1: they are not.

    Raises:
        ConfigError: when tokens have fewer digits than ``context_digits``.
    """
    sampler.max_context_per_position(layout)  # checks the digits
    if sampler.context_digits is None:
        return 1
    return math.prod(layout.digits[: len(layout.digits) - sampler.context_digits])


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """Opened index shards, with the side files that were made for a sampler.

    Orders and screens are those of the coarse shards where there are some, else of the shards.

    Attributes:
        shards: shards with documents, in the order of their document ids.
        coarse: for each shard one with the same documents, ids divided by ``divisor``; or ().
        divisor: divisor of the coarse ids; 1 without coarse shards.
        orders: an order of each shard; or ().
        screens: a screen of each shard; or ().
    """

    shards: tuple[IndexShard, ...]
    coarse: tuple[IndexShard, ...] = ()
    divisor: int = 1
    orders: tuple[Order, ...] = ()
    screens: tuple[Screen, ...] = ()

    @property
    def made(self) -> Needs:
        """Side files that were made."""
        order = None
        if self.orders:
            order = "aligned" if self.orders[0].aligned else "suffix"
        runs = self.screens[0].runs if self.screens else ()
        return Needs(order=order, divisor=self.divisor, runs=runs)

    @property
    def maps(self) -> tuple[NDArray[Any], ...]:
        """Mapped files of all shards, as far as generation reads them."""
        compared = self.coarse or self.shards
        return (
            *(array for shard in compared for array in (shard.tokens, shard.table)),
            *(array for order in self.orders for array in order.maps),
            *(screen.words for screen in self.screens),
        )

    def fit_to_memory(self) -> None:
        """Have files that do not fit in the memory of this machine read in single pages."""
        if sum(array.nbytes for array in self.maps) > available_bytes():
            read_at_random(self.maps)

    @property
    def num_documents(self) -> int:
        """Number of documents of all shards."""
        return sum(shard.num_documents for shard in self.shards)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowLabels:
    """Labels of documents and rows: which documents may decide the first tokens of a row.

    Attributes:
        by_document: (N,) int32 label of every document; -1: it has none.
        by_row: (B,) int32 label of every row; -1: any document may decide.
        num_tokens: number of first tokens of a row that its label decides.
    """

    by_document: NDArray[np.int32]
    by_row: NDArray[np.int32]
    num_tokens: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """B rows to write, to continue or to trace.

    Attributes:
        sampler: the knobs.
        layout: layout of the documents.
        ragged: whether a row ends where a separator is drawn; the rest of it is filled with that.
        samples: (B,) sample ids, B >= 1.
        seed: 0 ... 2**64 - 1.
        forced: (B, T) tokens that are given, and only traced; None: all are drawn.
        forced_until: (B,) int64 first tokens of every row that are given; None: all of ``forced``.
        labels: labels of documents and rows; None: any document may decide.
        advance: called with the number of tokens of finished rows.
        workers: threads.
        device: device of engines with tensors; None: CUDA when there is one.
    """

    sampler: NgramSampler
    layout: TokenLayout
    samples: NDArray[np.uint64]
    seed: int
    ragged: bool = False
    forced: Tokens | None = None
    forced_until: NDArray[np.int64] | None = None
    labels: RowLabels | None = None
    advance: Callable[[int], None] = lambda steps: None
    workers: int = 1
    device: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (B, T) of the rows."""
        return len(self.samples), self.layout.num_tokens

    @property
    def until(self) -> NDArray[np.int64]:
        """(B,) first tokens of every row that are given; the others are drawn."""
        if self.forced_until is not None:
            return self.forced_until
        num_rows, num_tokens = self.shape
        return np.full(num_rows, 0 if self.forced is None else num_tokens, dtype=np.int64)

    def start(self) -> tuple[Tokens, Trace]:
        """Make (B, T) tokens, the given ones or zeros, and an empty trace."""
        zeros = np.zeros(self.shape, dtype=np.uint16)
        tokens_BT = zeros if self.forced is None else self.forced.copy()
        return tokens_BT, empty_trace(*self.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine(ABC):
    """A way to write rows; files that it opens stay open.

    Attributes:
        files: index shards with side files.
    """

    files: Files

    @staticmethod
    @abstractmethod
    def refuses(request: Request) -> str | None:
        """Say why this engine cannot write the rows and what to type; None: it can."""

    @staticmethod
    @abstractmethod
    def needs(request: Request) -> Needs:
        """Name the side files that make it fast."""

    @staticmethod
    def kernels(request: Request) -> tuple[str, ...]:
        """Name the packages of its compiled kernels, if they are listed in the form it calls."""
        return ()

    @abstractmethod
    def rows(self, job: Job) -> tuple[Tokens, Trace]:
        """Write (B, T) tokens and their trace."""
