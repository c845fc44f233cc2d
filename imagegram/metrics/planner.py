"""``tuple_nats`` and its parts: how well a generator foretells steps of K codes.

A step is the K tokens of one place of the layout, such as the codes of a sentence; its *tuple* is
all of them. What a generator gives to them is told for the tuple and for each code, beside what is
had without any generator:

* *unigram*: every code by its frequency at its stage in training documents, whatever stands before
  it; the sum over stages is the cross entropy of a tuple whose codes know nothing of each other.
* *most frequent*: always the code, or the tuple, that training documents have most often.
* *copy*: always that of the step before, in the same sample.

The sum of the stages' nats is that of the tuple, so a perplexity of tuples is ``exp(tuple_nats)``;
the mean over codes says nothing of it. The separator that ends a document is no tuple: its bits
are in ``nll``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from imagegram.intervals import Documents, ratio_over_images
from imagegram.metrics.features import undefined
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo, row_sizes

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PlannerMetric:
    """Metric of the cross entropy and of the accuracy of steps of codes.

    Accuracies of a generator are of its likeliest code given the true codes before it, so a tuple
    is right where all of its codes are; they need ``is_likeliest`` in the trace, which ``planner``
    records. A step that no step of its sample stands before is left out of the copies.

    Attributes:
        name: name of this metric in the configuration.
    """

    VERSION: ClassVar[int] = 2
    NEEDS: ClassVar[frozenset[str]] = frozenset({"trace.log_prob"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="tuple_nats",
            title="nats per tuple",
            words="Cross entropy of all codes of a step under the generator. Fewer: it foretells "
            "them. Read it beside the unigram.",
            unit="nats",
            group="likelihood",
            rank=4,
            short="heldout_tuple_nats",
            short_of="floor",
        ),
        ScoreInfo(
            name="tuple_bits",
            title="bits per tuple",
            words="The same in bits.",
            unit="bits",
            group="likelihood",
        ),
        ScoreInfo(
            name="tuple_perplexity",
            title="perplexity of tuples",
            words="As many equally likely tuples would be as hard to foretell: exp of the nats.",
            group="likelihood",
        ),
        ScoreInfo(
            name="tuple_unigram_nats",
            title="nats per tuple of the unigram",
            words="Cross entropy of a step whose codes are drawn by their frequencies alone.",
            unit="nats",
            group="likelihood",
        ),
        ScoreInfo(
            name="tuple_saved_nats",
            title="nats saved per tuple",
            words="Unigram less generator: what it knows of a step beyond frequencies.",
            unit="nats",
            group="likelihood",
            rank=5,
        ),
        ScoreInfo(
            name="tuple_accuracy",
            title="tuples foretold",
            words="Steps of which every code was the generator's likeliest.",
            unit="% of tuples",
            group="likelihood",
        ),
        ScoreInfo(
            name="tuple_frequent_accuracy",
            title="tuples that are the most frequent",
            words="Steps with the tuple that training documents have most often.",
            unit="% of tuples",
            group="likelihood",
        ),
        ScoreInfo(
            name="tuple_copy_accuracy",
            title="tuples of the step before",
            words="Steps with the tuple of the step before them.",
            unit="% of tuples",
            group="likelihood",
        ),
        ScoreInfo(
            name="code{stage:d}_nats",
            title="nats of code {stage}",
            words="Cross entropy of code {stage} of a step, after the codes before it.",
            unit="nats",
            group="likelihood",
        ),
        ScoreInfo(
            name="code{stage:d}_unigram_nats",
            title="nats of code {stage} of the unigram",
            words="Cross entropy of code {stage} by its frequencies alone.",
            unit="nats",
            group="likelihood",
        ),
        ScoreInfo(
            name="code{stage:d}_accuracy",
            title="codes {stage} foretold",
            words="Codes {stage} that were the generator's likeliest.",
            unit="% of codes",
            group="likelihood",
        ),
        ScoreInfo(
            name="code{stage:d}_frequent_accuracy",
            title="codes {stage} that are the most frequent",
            words="Codes {stage} that training documents have most often.",
            unit="% of codes",
            group="likelihood",
        ),
        ScoreInfo(
            name="code{stage:d}_copy_accuracy",
            title="codes {stage} of the step before",
            words="Codes {stage} of the step before them.",
            unit="% of codes",
            group="likelihood",
        ),
    )

    name: str = "planner"

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Measure one set; reads all training documents."""
        stages = reference.layout.num_channels
        steps = Steps.of(np.asarray(generated.tokens), stages, documents=generated.row_documents)
        if not steps.is_there.any():
            return Measurement(
                scalars={"tuple_nats": undefined("no sample has a whole step")}, curves={}
            )
        known = Frequencies.of(reference, stages)
        log_prob_BT = np.asarray(generated.trace["log_prob"], dtype=np.float64)
        nats_BSK = -steps.cut(log_prob_BT)
        unigram_BSK = known.nats(steps.tokens)
        is_right = generated.trace.get("is_likeliest")
        right_BSK = None if is_right is None else steps.cut(np.asarray(is_right) > 0)
        frequent_BSK = steps.tokens == known.likeliest
        seed = reference.seed
        scalars = steps.told("nats", nats_BSK, nats_BSK.sum(axis=2), seed=seed)
        scalars |= steps.told("unigram_nats", unigram_BSK, unigram_BSK.sum(axis=2), seed=seed)
        saved_BS = (unigram_BSK - nats_BSK).sum(axis=2)
        scalars["tuple_saved_nats"] = steps.mean(saved_BS, seed=seed)
        scalars["tuple_bits"] = _each(scalars["tuple_nats"], lambda nats: nats / math.log(2))
        scalars["tuple_perplexity"] = _each(scalars["tuple_nats"], _exp)
        if right_BSK is not None:
            scalars |= steps.told("accuracy", right_BSK, np.all(right_BSK, axis=2), seed=seed)
        else:
            names = ["tuple_accuracy", *(f"code{k + 1}_accuracy" for k in range(stages))]
            missing = undefined("the generator does not record which token was its likeliest")
            scalars |= dict.fromkeys(names, missing)
        most_BS = (steps.tokens == known.likeliest_tuple).all(axis=2)
        scalars |= steps.told("frequent_accuracy", frequent_BSK, most_BS, seed=seed)
        scalars |= steps.copies(seed=seed)
        return Measurement(scalars=scalars, curves={})


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """The whole steps of some rows of tokens.

    Attributes:
        tokens: (B, S, K) tokens.
        is_there: (B, S) whether a step is one of its document, and no padding.
        documents: (B,) document of each row; None: every row stands for itself.
    """

    tokens: NDArray[Any]
    is_there: NDArray[np.bool_]
    documents: Documents = None

    @classmethod
    def of(cls, tokens_BT: NDArray[Any], stages: int, *, documents: Documents = None) -> Steps:
        """Cut rows into steps; a step that is not whole is left out."""
        rows, length = tokens_BT.shape
        tokens_BSK = tokens_BT[:, : length // stages * stages].reshape(rows, -1, stages)
        sizes_B = row_sizes(tokens_BT) // stages
        return cls(
            tokens=tokens_BSK,
            is_there=np.arange(tokens_BSK.shape[1]) < sizes_B[:, None],
            documents=documents,
        )

    def cut(self, values_BT: NDArray[Any]) -> NDArray[Any]:
        """Return (B, S, K) values of (B, T) ones."""
        rows, steps, stages = self.tokens.shape
        return values_BT[:, : steps * stages].reshape(rows, steps, stages)

    def mean(self, values_BS: NDArray[Any], *, seed: int, first: int = 0) -> Measured:
        """Return the mean over the steps from one on, with an interval over rows or documents."""
        counted_BS = self.is_there[:, first:]
        parts_B = np.where(counted_BS, values_BS[:, first:], 0.0).sum(axis=1)
        wholes_B = counted_BS.sum(axis=1).astype(np.float64)
        if not wholes_B.any():
            return undefined("no sample has a step behind another")
        if not np.isfinite(parts_B).all():
            return undefined("a code is impossible under the generator")
        return ratio_over_images(parts_B, wholes_B, seed=seed, documents=self.documents)

    def told(
        self,
        name: str,
        codes_BSK: NDArray[Any],
        tuples_BS: NDArray[Any],
        *,
        seed: int,
        first: int = 0,
    ) -> dict[str, Measured]:
        """Return a score of tuples, and that of every code."""
        stages = range(codes_BSK.shape[2])
        of_codes = {
            f"code{k + 1}_{name}": self.mean(codes_BSK[..., k], seed=seed, first=first)
            for k in stages
        }
        return {f"tuple_{name}": self.mean(tuples_BS, seed=seed, first=first), **of_codes}

    def copies(self, *, seed: int) -> dict[str, Measured]:
        """Return the scores of copying the step before."""
        same_BSK = np.zeros(self.tokens.shape, dtype=np.bool_)
        same_BSK[:, 1:] = self.tokens[:, 1:] == self.tokens[:, :-1]
        return self.told("copy_accuracy", same_BSK, np.all(same_BSK, axis=2), seed=seed, first=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Frequencies:
    """What training documents have how often.

    Attributes:
        counts: (K, vocabulary) count of every id at every stage.
        num_ends: documents, each of which ends once beside a first code.
        likeliest_tuple: (K,) most frequent tuple, the first seen among equals.
    """

    counts: NDArray[np.int64]
    num_ends: int
    likeliest_tuple: NDArray[np.int64]

    @classmethod
    def of(cls, reference: Reference, stages: int) -> Frequencies:
        """Count all training documents."""
        index = reference.index
        counts_KV = np.zeros((stages, reference.vocab_size), dtype=np.int64)
        tuples: Counter[bytes] = Counter()
        for document in range(index.num_documents):
            tokens = np.asarray(index.document(document), dtype="<u2")
            steps_SK = tokens[: len(tokens) // stages * stages].reshape(-1, stages)
            for stage, codes_S in enumerate(steps_SK.T):
                counts_KV[stage] += np.bincount(codes_S, minlength=reference.vocab_size)
            tuples.update(row.tobytes() for row in steps_SK)
        most = tuples.most_common(1)[0][0] if tuples else b"\0\0" * stages
        return cls(
            counts=counts_KV,
            num_ends=index.num_documents,
            likeliest_tuple=np.frombuffer(most, dtype="<u2").astype(np.int64),
        )

    @property
    def likeliest(self) -> NDArray[np.int64]:
        """(K,) most frequent id of every stage, the smallest among equals."""
        return np.asarray(self.counts.argmax(axis=1))

    def nats(self, tokens_BSK: NDArray[Any]) -> Array:
        """Return (B, S, K) -log of the frequency of tokens at their stage.

        Every id of the stage has one count more than was seen, so that none is impossible: ids that
        no stage shares are V, those that all share the whole vocabulary. The end of a document is
        one more choice at the first stage.
        """
        stages, vocab_size = self.counts.shape
        is_seen_KV = self.counts > 0
        shares = int(is_seen_KV.sum(axis=0).max(initial=1)) > 1 or vocab_size % stages
        size = vocab_size if shares else vocab_size // stages
        totals_K = self.counts.sum(axis=1) + size
        totals_K[0] += self.num_ends
        ids_BSK = np.minimum(tokens_BSK, vocab_size - 1)
        own_BSK = self.counts[np.arange(stages), ids_BSK] + 1
        return np.asarray(np.log(totals_K) - np.log(own_BSK))


def _exp(nats: float) -> float:
    return math.exp(min(nats, 700.0))


def _each(measured: Measured, function: Callable[[float], float]) -> Measured:
    """Return an increasing function of a value and of the ends of its interval."""
    ends = (measured.value, measured.low, measured.high)
    value, low, high = (None if end is None else function(end) for end in ends)
    return Measured(value=value, low=low, high=high, note=measured.note)
