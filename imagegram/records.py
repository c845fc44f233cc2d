"""What travels between the rooms: token and image arrays, records, traces, measurements.

Array names carry shape suffixes; the legend is in ``protocols/``.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imagegram.numerals import interval_text, number_text

Tokens = NDArray[np.uint16]
Images = NDArray[np.uint8]
Features = NDArray[np.float32]
#: What decided each token of (B, T) samples: arrays (B, T) by name. Those of the n-gram are in
#: ``generators/ngram/trace.py``; neural models have ``log_prob`` where
#: a token has a likelihood, ``entropy`` (bits) and ``step``.
Trace = Mapping[str, NDArray[Any]]
#: Array of a trace that says which tokens were given: those of a prompt.
PROMPT: Final = "is_prompt"
#: What a modality finds near-duplicates by: thumbnails or MinHash values.
Sketches = NDArray[Any]
#: What a modality reads and writes: one image, (H, W, 3) uint8, or one text.
Item = Any

#: The separator before and after every document; never a token of an image.
EOS_TOKEN_ID: Final = 65535

#: Bytes of a token on disk: little-endian uint16.
TOKEN_BYTES: Final = 2

#: Longest context that a trace can tell: ``suffix_len`` is uint16.
MAX_SUFFIX_LEN: Final = 65535


def row_sizes(tokens_BT: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """(B,) tokens of every row before its first separator: what follows it is padding.

    >>> row_sizes(np.array([[7, 65535, 65535], [7, 8, 9]])).tolist()
    [1, 3]
    """
    ended_BT = np.asarray(tokens_BT) == EOS_TOKEN_ID
    first_B = ended_BT.argmax(axis=1) if ended_BT.shape[1] else np.zeros(len(ended_BT), np.int64)
    return np.where(ended_BT.any(axis=1), first_B, ended_BT.shape[1]).astype(np.int64)


def lengths_inside(
    lengths_BT: NDArray[np.integer[Any]], tokens_BT: NDArray[np.integer[Any]]
) -> NDArray[np.integer[Any]]:
    """Longest matches that begin at every position, cut where the padding of their row begins.

    Args:
        lengths_BT: matches of whole rows, separators included.
        tokens_BT: the rows.

    >>> rows = np.array([[7, 8, 65535, 65535]])
    >>> lengths_inside(np.array([[3, 2, 1, 1]]), rows).tolist()
    [[2, 1, 0, 0]]
    """
    sizes_B, width = row_sizes(tokens_BT), lengths_BT.shape[1]
    if (sizes_B == width).all():
        return lengths_BT
    left_BT = np.maximum(sizes_B[:, None] - np.arange(width), 0)
    return np.asarray(np.minimum(lengths_BT, left_BT), dtype=lengths_BT.dtype)


@dataclass(frozen=True, kw_only=True)
class Locator:
    """Where the bytes of one image lie, for O(1) access.

    Attributes:
        member: file name inside the shard (tar member or relative path).
        offset: first byte inside the shard's tar; 0 for a plain file.
        size: bytes.
    """

    member: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image of a shard, still encoded, or the reason why it cannot be read.

    Attributes:
        key: the source key (tar stem or relative path), as it can be shown, unique in its shard.
        data: encoded bytes; empty when ``failure`` is set.
        caption: text beside the image, if any.
        info: JSON beside the image, if any.
        locator: where the bytes lie.
        failure: reason of a skip (``truncated_tar``, ``interleaved_keys``, ``empty_file`` ...).
        view: view of the item that is meant, see ``Modality.view``; None: the item as it is.
    """

    key: str
    locator: Locator
    data: bytes = b""
    caption: str | None = None
    info: dict[str, Any] | None = None
    failure: str | None = None
    view: str | None = None


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What a tokenizer makes of some items.

    Attributes:
        documents: ids of each item, uint16, in their order.
        counts: of all items together, by name: ``clipped`` residuals ...
    """

    documents: Sequence[Tokens] | Tokens
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NextTokenDist:
    """What followed the longest suffix of a prompt that is supported well enough.

    Attributes:
        suffix_len: tokens of that suffix (0: nothing of the prompt was used).
        num_contexts: occurrences of the suffix that have a next token; the sum of ``counts``.
        tokens: (K,) distinct next tokens, ascending.
        counts: (K,) occurrences followed by each, uint64.
        approx: True when an engine did not count exactly; none of ours does that.
    """

    suffix_len: int
    num_contexts: int
    tokens: Tokens
    counts: NDArray[np.uint64]
    approx: bool = False


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """A place in the corpus: document id and token position inside it (0 = its first token)."""

    document: int
    position: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """A maximal run ``ids[start:end]`` that occurs in the corpus.

    Attributes:
        start, end: half-open range in the query.
        count: all occurrences.
        occurrences: the first few, shard by shard in table order.
    """

    start: int
    end: int
    count: int
    occurrences: tuple[Occurrence, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Phrase:
    """One longest match of a greedy parse: ``row[start : start + length]``.

    Attributes:
        start: first token in the row.
        length: tokens; 1 also for a token that occurs nowhere.
        count: occurrences in the corpus; 0 for such a token.
        documents: (K,) int64 documents of the first occurrences, shard by shard in table order.
        positions: (K,) int64 where they begin inside these documents.
    """

    start: int
    length: int
    count: int
    documents: NDArray[np.int64]
    positions: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Phrases:
    """Greedy parses of B rows into P longest matches, as flat arrays.

    Phrase p of all rows occurs in ``documents[offsets[places[p]] : offsets[places[p] + 1]]``.

    Attributes:
        ends: (B,) int64, phrases of this row and of all rows before it.
        starts: (P,) int32, first token in its row.
        lengths: (P,) int32 tokens; 0 for a token that occurs nowhere.
        places: (P,) int64, each phrase's place in ``offsets``.
        offsets: (P + 1,) int64.
        documents: int32 documents of the first occurrences, shard by shard in table order.
    """

    ends: NDArray[np.int64]
    starts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    places: NDArray[np.int64]
    offsets: NDArray[np.int64]
    documents: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Counting:
    """Which n-grams are counted, and how.

    Attributes:
        class_of: (T,) int32 class of each position of a document: n-grams of different classes of
            their last token are different. Of length 1: all positions are of one class.
        continuations: whether n-grams of fewer than the most tokens count the different tokens
            before them, as Kneser and Ney have it; those that begin with the separator, which
            nothing precedes, are counted as they are.
        ends: whether the separator behind a document is a next token.
    """

    class_of: NDArray[np.int32]
    continuations: bool
    ends: bool

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return int(self.class_of.max()) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Grams:
    """Different n-grams of one order, in table order.

    Attributes:
        tokens: (Q, k) uint16.
        classes: (Q,) int32 class of the last token.
    """

    tokens: Tokens
    classes: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class GramCounts:
    """Counts of the queries of one order.

    Attributes:
        own: (Q,) int64 count of each n-gram.
        contexts: (Q, 4) int64 sum of the counts of all n-grams with the same first k - 1 tokens and
            class, and how many of these have count 1, 2, 3 or more.
        of_counts: (4,) int64 number of all n-grams of this order with count 1, 2, 3, 4.
    """

    own: NDArray[np.int64]
    contexts: NDArray[np.int64]
    of_counts: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The parse of (B, T) tokens.

    Attributes:
        span_lengths: (B, T) int32 length of the phrase that each token lies in; 0: unseen token.
        token_documents: (B, T) int32 training document that each token is credited to; -1: none.
        num_phrases: (B,) int64 phrases, unseen tokens included.
        clusters: (B,) int64 cluster with most credited tokens, ties to the smallest id; -1: none.
        documents: (B,) int64 document of that cluster with most credited tokens, ties to the
            smallest id; -1: none.
        shares: (B,) float64 share of the image's tokens credited to that cluster, 0 ... 1.
        num_effective: (B,) float64 exp(entropy) of the clusters' shares of the credited tokens,
            natural logarithm: 1 is one source, k is k equal ones; 0: no token is credited.
    """

    span_lengths: NDArray[np.int32]
    token_documents: NDArray[np.int32]
    num_phrases: NDArray[np.int64]
    clusters: NDArray[np.int64]
    documents: NDArray[np.int64]
    shares: NDArray[np.float64]
    num_effective: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number with its 95 % interval.

    Attributes:
        value: None where it is not defined; ``note`` then says why.
        low, high: None where no honest interval is known.
        note: why the value is missing; empty otherwise.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a metric says of one image set.

    Attributes:
        scalars: by score name.
        curves: arrays for the report, by name (histograms, curves); float64.
        recipe: what numbers must share to be comparable (N, N_ref, D, encoder, resize, codec).
    """

    scalars: dict[str, Measured]
    curves: dict[str, NDArray[np.float64]]
    recipe: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScoreInfo:
    """What tables, figures and dashboards know of a score, told by the metric that writes it.

    A part of the name that varies stands in braces, ``kd_{encoder}`` for a word and
    ``novelty_n{n:d}`` for a number; the words may repeat it: "runs of {n} tokens".

    Attributes:
        name: of the score.
        title: what readers call it, in a few words; empty: the name.
        words: what it means, in one or two sentences.
        unit: ``%`` for shares of 1, with what they are shares of (``% of samples``); else bits,
            tokens, dB ...; empty for plain numbers.
        better: the direction that is better at equal values of everything else; None where neither
            is: the score describes, or is to be as that of held-out items.
        group: of a table: ``copying``, ``quality`` ...
        moves_with_n: sets of different sizes are not comparable.
        rank: place among those of its group that are drawn when nobody chose; 0: not drawn.
        short: name on dashboards, which stays whatever the encoder is called; empty: none.
        short_of: what has the short name: the value, its floor, or the value less the floor.
        headline: place among the numbers that a report begins with; 0: none of them.
        counts: one and several of what the score counts, where each is a fact and not an estimate:
            ``("exact copy", "exact copies")``; the first of ``per_image`` is 1 where there is one.
        bounds: least and greatest value that the score can have; of shares 0 and 1.
        per_image: curves of one number an image that the score is made of.
        needs: of the metric; known once a score is written.
    """

    name: str
    title: str = ""
    words: str = ""
    unit: str = ""
    better: Literal["lower", "higher"] | None = None
    group: str = "other"
    moves_with_n: bool = False
    rank: int = 0
    short: str = ""
    short_of: Literal["value", "floor", "gap"] = "value"
    headline: int = 0
    counts: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    per_image: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> ScoreInfo:
        """Read what :func:`dataclasses.asdict` made, of this version or another."""
        names = {f.name for f in dataclasses.fields(cls)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored.items()
            if name in names
        }
        return cls(**known)

    @property
    def is_share(self) -> bool:
        """Whether values are shares of 1, shown in per cent."""
        return self.unit.startswith("%")

    @property
    def is_main(self) -> bool:
        """Whether the score is among those that are shown when nobody asked for all."""
        return bool(self.headline or self.rank or self.short)

    def reaches_bound(self, low: float, high: float) -> bool:
        """Whether an interval ends at the least or greatest value that the score can have.

        >>> ScoreInfo(name="x", unit="% of tokens").reaches_bound(0.03, 1.0)
        True
        """
        bounds = self.bounds or ((0.0, 1.0) if self.is_share else ())
        return bool(bounds) and (low <= bounds[0] or high >= bounds[-1])

    @property
    def reads_trace(self) -> bool:
        """Whether the score tells of a model's trace and not of what it wrote."""
        return any(need.startswith("trace.") for need in self.needs)

    def named(self, score: str) -> ScoreInfo | None:
        """This info with the varying parts of one score filled in; None for another score.

        >>> ScoreInfo(name="n{n:d}", words="Runs of {n} tokens").named("n8").words
        'Runs of 8 tokens'
        """
        kinds = {"d": r"\d+", "": r"\w+"}
        pattern = "".join(
            re.escape(text) + (f"(?P<{part}>{kinds[kind or '']})" if part else "")
            for text, part, kind, _ in string.Formatter().parse(self.name)
        )
        found = re.fullmatch(pattern, score)
        if found is None:
            return None
        parts = {part: text.replace("_", " ") for part, text in found.groupdict().items()}
        told = {name: getattr(self, name).format(**parts) for name in ("title", "words")}
        return dataclasses.replace(self, name=score, **told)

    def show(self, value: float | None) -> str:
        """Write a value; a dash where there is none.

        >>> ScoreInfo(name="x", unit="% of samples").show(0.5), ScoreInfo(name="x").show(12345.6)
        ('50.0 %', '12,346')
        """
        return number_text(value, is_share=self.is_share)

    def show_interval(self, low: float | None, high: float | None) -> str:
        """Write an interval in brackets; empty where there is none.

        >>> ScoreInfo(name="x", unit="% of samples").show_interval(0.5, 0.75)
        '[50.0, 75.0] %'
        """
        return interval_text(low, high, is_share=self.is_share)


def find_info(infos: Iterable[ScoreInfo], score: str) -> ScoreInfo:
    """The info of a score; without one it is shown by its name alone, in no direction.

    >>> find_info([ScoreInfo(name="kd_{encoder}", better="lower")], "kd_pixels").better
    'lower'
    >>> find_info([], "my_own")
    ScoreInfo(name='my_own', title='', words='', unit='', better=None, group='other', \
moves_with_n=False, rank=0, short='', short_of='value', headline=0, counts=(), bounds=(), \
per_image=(), needs=())
    """
    found = (info.named(score) for info in infos)
    return next((info for info in found if info is not None), ScoreInfo(name=score))
