"""``code_...``: what the codes of sentences keep of them, and whether texts say what codes say.

Sentences of real texts are those of the corpus, so for them the scores tell how good the codebooks
are. Those of samples are what the decoder wrote for generated codes: then the same scores tell how
near it came to them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.executors.tiles import one_thread_each
from imagegram.intervals import Documents, ratio_over_images
from imagegram.metrics.features import undefined
from imagegram.protocols import ImageSet, Reference, SentenceTokenizer
from imagegram.records import Features, Measured, Measurement, ScoreInfo, row_sizes

Codes = NDArray[np.int64]
#: Sentences that are compared with all others at a time.
_ROWS: Final = 512


@dataclass(frozen=True, kw_only=True)
class CodesMetric:
    """Metric of sentence codes, over all sentences of a set; intervals are over documents.

    With x the vector of a sentence and y that of its codes: ``code_error_<k>`` |x - y|^2 for the
    codes of the first k stages; ``code_cosine`` cos(x, y); ``code_retrieval`` how often x is the
    nearest to y among the different sentences of the set. ``code_agreement`` is the share of codes
    that the sentence has when it is quantised again, ``code_agreement_1`` that of first codes;
    ``code_chance`` and ``code_chance_1`` are what codes of other sentences of the set would read.
    ``code_usage`` is the share of the codes of a stage that occur, ``code_perplexity`` as how many
    equally frequent ones they are varied; both are means over stages.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 1
    SECONDS: ClassVar[float] = 5.0e-2
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "text", "sentences"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="code_error_{k:d}",
            title="squared error of {k} codes",
            words="Squared distance between a sentence's vector and that of its first {k} codes.",
            better="lower",
            group="tokenizer",
        ),
        ScoreInfo(
            name="code_cosine",
            title="cosine to the codes",
            words="Cosine between a sentence's vector and that of its codes.",
            better="higher",
            group="tokenizer",
            short="code_cosine",
            per_image=("code_cosine",),
        ),
        ScoreInfo(
            name="code_retrieval",
            title="sentences found by their codes",
            words="Sentences that are nearest to their codes among the sentences of the set.",
            unit="% of sentences",
            better="higher",
            group="tokenizer",
            moves_with_n=True,
            short="code_retrieval",
        ),
        ScoreInfo(
            name="code_agreement",
            title="codes of the text again",
            words="Codes that a sentence has when it is quantised again.",
            unit="% of codes",
            better="higher",
            group="tokenizer",
            short="code_agreement",
        ),
        ScoreInfo(
            name="code_agreement_1",
            title="first codes of the text again",
            words="First codes that a sentence has when it is quantised again.",
            unit="% of codes",
            better="higher",
            group="tokenizer",
        ),
        ScoreInfo(
            name="code_chance",
            title="codes of other sentences",
            words="Codes that a sentence shares with another one of the set.",
            unit="% of codes",
            group="tokenizer",
        ),
        ScoreInfo(
            name="code_chance_1",
            title="first codes of other sentences",
            words="First codes that a sentence shares with another one of the set.",
            unit="% of codes",
            group="tokenizer",
        ),
        ScoreInfo(
            name="code_usage",
            title="codes in use",
            words="Codes of a stage that occur in the set.",
            unit="% of codes",
            better="higher",
            group="tokenizer",
            moves_with_n=True,
        ),
        ScoreInfo(
            name="code_perplexity",
            title="perplexity of codes",
            words="As how many equally frequent codes those of a stage are varied.",
            unit="codes",
            better="higher",
            group="tokenizer",
            moves_with_n=True,
        ),
    )

    name: str = "codes"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one set of texts."""
        tokenizer = reference.tokenizer
        assert isinstance(tokenizer, SentenceTokenizer), "needs sentences"
        stages = tokenizer.spec.codebooks
        codes, row_of = all_codes(tokenizer, np.asarray(generated.tokens))
        if not len(codes):
            return Measurement(scalars=_undefined(stages), curves={})
        sentences = [one for row in generated.sentences for one in row]
        task = reference.progress.start("codes", len(codes), "sentences")
        vectors = tokenizer.embed(sentences)
        reference.progress.advance(task, len(codes))
        again = tokenizer.quantize(vectors)
        reference.progress.finish(task)
        mean = _Mean(row_of, generated.num_images, reference.seed, generated.row_documents)
        scalars, errors = {}, []
        for count in range(1, stages + 1):
            coded = tokenizer.vectors(codes[:, :count])
            far = ((coded - vectors).astype(np.float64) ** 2).sum(axis=1)
            scalars[f"code_error_{count}"] = mean(far)
            errors.append(float(far.mean()))
        cosine = cosines(vectors, coded)
        scalars["code_cosine"] = mean(cosine)
        scalars["code_retrieval"] = mean(retrieved(sentences, vectors, coded))
        scalars |= agreement(codes, again, mean)
        usage, perplexity = variety(codes, tokenizer.spec.vocab_size // stages)
        scalars["code_usage"] = Measured(value=float(usage.mean()))
        scalars["code_perplexity"] = Measured(value=float(perplexity.mean()))
        curves = {
            "code_error": np.array(errors),
            "code_usage": usage,
            "code_perplexity": perplexity,
            "code_cosine": mean.by_row(cosine),
        }
        recipe = {"sentences": str(len(codes)), "K": str(stages)}
        return Measurement(scalars=scalars, curves=curves, recipe=recipe)


@dataclass(frozen=True)
class _Mean:
    """Mean over sentences, with an interval over the rows, or documents, that they are of."""

    row_of: NDArray[np.int64]
    num_rows: int
    seed: int
    documents: Documents = None

    def __call__(self, values: NDArray[Any], counts: NDArray[Any] | None = None) -> Measured:
        """Return sum of values by sum of counts (one a sentence)."""
        sizes = np.ones(len(values)) if counts is None else counts
        parts, wholes = self._sums(values), self._sums(sizes)
        written = wholes > 0
        if not written.any():
            return undefined("no sentence has such a code")
        return ratio_over_images(parts, wholes, seed=self.seed, documents=self.documents)

    def by_row(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the (B,) mean of each row; NaN: it has no sentence."""
        sizes = self._sums(np.ones(len(values)))
        with np.errstate(invalid="ignore"):
            return self._sums(values) / sizes

    def _sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        weights = np.asarray(values, dtype=np.float64)
        sums: NDArray[np.float64] = np.bincount(
            self.row_of, weights=weights, minlength=self.num_rows
        ).astype(np.float64)
        return sums


def all_codes(
    tokenizer: SentenceTokenizer, tokens_BT: NDArray[np.integer[Any]]
) -> tuple[Codes, NDArray[np.int64]]:
    """Return the (S, K) codes of the sentences of all rows, and the (S,) row of each."""
    sizes = row_sizes(tokens_BT).tolist()
    rows = [
        tokenizer.steps(row[:size].astype(np.int64))[0]
        for row, size in zip(tokens_BT, sizes, strict=True)
    ]
    row_of = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return np.concatenate([np.empty((0, tokenizer.spec.codebooks), np.int64), *rows]), row_of


def cosines(vectors: Features, others: Features) -> NDArray[np.float64]:
    """Return the (N,) cosines of unit vectors and others; 0 where one has no direction."""
    one, other = vectors.astype(np.float64), others.astype(np.float64)
    norms = np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1), 1e-12)
    cosine: NDArray[np.float64] = (one * other).sum(axis=1) / norms
    return cosine


def retrieved(sentences: list[str], vectors: Features, coded: Features) -> NDArray[np.bool_]:
    """Return whether each sentence is the nearest to its codes, among the different ones.

    Args:
        sentences: N sentences; equal ones count as one.
        vectors: (N, d) unit vectors of them.
        coded: (N, d) vectors of their codes.
    """
    _, firsts, same = np.unique(
        np.array([content_of(one) for one in sentences]), return_index=True, return_inverse=True
    )
    found = np.empty(len(coded), dtype=bool)
    different = np.ascontiguousarray(vectors[firsts]).T
    with one_thread_each():
        for first in range(0, len(coded), _ROWS):
            nearest = (coded[first : first + _ROWS] @ different).argmax(axis=1)
            found[first : first + _ROWS] = nearest == same.reshape(-1)[first : first + _ROWS]
    return found


def content_of(sentence: str) -> str:
    """Return a hash that equal sentences share, whatever white space stands around them."""
    data = sentence.strip().encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def agreement(codes: Codes, again: Codes, mean: _Mean) -> dict[str, Measured]:
    """Return the shares of codes that sentences have again, and what chance gives.

    Args:
        codes: (S, K) codes; -1: none, which does not count.
        again: (S, K) codes of the sentences.
        mean: over sentences.
    """
    scalars = {}
    for suffix, count in (("", codes.shape[1]), ("_1", 1)):
        some, others = codes[:, :count], again[:, :count]
        there = (some >= 0).sum(axis=1)
        scalars[f"code_agreement{suffix}"] = mean((some == others).sum(axis=1), there)
        by_stage = [chance(*pair) for pair in zip(some.T, others.T, strict=True)]
        known = [value for value in by_stage if value is not None]
        scalars[f"code_chance{suffix}"] = (
            Measured(value=float(np.mean(known))) if known else undefined("there is one sentence")
        )
    return scalars


def chance(codes: NDArray[np.int64], again: NDArray[np.int64]) -> float | None:
    """Return how often a sentence's code is that of another sentence; None: there are no two.

    >>> chance(np.array([0, 1]), np.array([0, 1])), chance(np.array([0, 0]), np.array([0, 1]))
    (0.0, 0.5)
    """
    there = codes >= 0
    pairs = int(there.sum()) * (len(again) - 1)
    if pairs <= 0:
        return None
    size = int(max(codes.max(), again.max())) + 1
    required = np.bincount(codes[there], minlength=size).astype(np.float64)
    written = np.bincount(again, minlength=size)
    own = int((codes == again).sum())
    return float((required @ written - own) / pairs)


def variety(codes: Codes, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (K,) share of codes in use, and (K,) perplexity, of each stage.

    >>> variety(np.array([[0, 1], [1, 1]]), 4)
    (array([0.5 , 0.25]), array([2., 1.]))
    """
    usage, perplexity = [], []
    for column in codes.T:
        counts = np.bincount(column[column >= 0], minlength=size)
        shares = counts[counts > 0] / max(counts.sum(), 1)
        usage.append(np.count_nonzero(counts) / size)
        perplexity.append(float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0)
    return np.array(usage), np.array(perplexity)


def _undefined(stages: int) -> dict[str, Measured]:
    nothing = undefined("no sentence was written")
    names = [info.name for info in CodesMetric.SCORES if "{" not in info.name]
    errors = [f"code_error_{count}" for count in range(1, stages + 1)]
    return dict.fromkeys([*errors, *names], nothing)
