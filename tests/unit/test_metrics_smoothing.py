"""Smoothed n-grams beside the definition, computed with sets and dictionaries of whole corpora."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.indexes.naive import NaiveIndex
from imagegram.indexes.smoothing import discounts
from imagegram.layout import TokenLayout
from imagegram.metrics.likelihood import LikelihoodMetric, num_bytes
from imagegram.records import EOS_TOKEN_ID, Tokens
from imagegram.samplers.ngram import matching_classes
from tests.image_sets import MemoryImages, MemoryReference, MemoryTokens, free_trace
from tests.index_folders import stream_of

T, VOCABULARY = 6, 3
SMALL = TokenLayout(heights=(1, 1), widths=(1, 2), num_channels=2)
TOKEN = st.integers(0, VOCABULARY - 1)
RAGGED = st.lists(st.lists(TOKEN, min_size=1, max_size=9), min_size=1, max_size=6)
EQUAL = st.lists(st.lists(TOKEN, min_size=T, max_size=T), min_size=1, max_size=5)
METRICS = st.builds(
    LikelihoodMetric,
    max_context=st.integers(1, 3),
    discount=st.sampled_from([None, 0.75]),
    smoothing=st.sampled_from(["kneser_ney", "absolute"]),
    matching=st.sampled_from(["free", "channel", "level"]),
)


@dataclass(frozen=True)
class Corpus(MemoryReference):
    """A reference of documents of any length."""

    vocab_size: ClassVar[int] = VOCABULARY
    documents_of: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, documents: list[list[int]], layout: TokenLayout) -> Corpus:
        documents_of = tuple(map(tuple, documents))
        return cls(MemoryTokens([]), layout=layout, documents_of=documents_of)

    @property
    def index(self) -> NaiveIndex:
        return NaiveIndex.of_streams([stream_of(list(map(list, self.documents_of)))])


class Definition:
    """p(w | h), from all places of a corpus."""

    def __init__(
        self, documents: list[list[int]], metric: LikelihoodMetric, *, windows: bool
    ) -> None:
        self.metric, self.windows = metric, windows
        self.classes = matching_classes("free" if windows else metric.matching, SMALL)
        self.vocabulary = [*range(VOCABULARY), *([EOS_TOKEN_ID] if windows else [])]
        # Every place: what stands before it in its document, its token, the class of the token.
        self.places: list[tuple[tuple[int, ...], int, int]] = []
        for document in documents:
            stream = [EOS_TOKEN_ID, *document, *([EOS_TOKEN_ID] if windows else [])]
            for i in range(1, len(stream)):
                cls = 0 if windows else int(self.classes[i - 1])
                self.places.append((tuple(stream[:i]), stream[i], cls))

    def counts(self, size: int, cls: int) -> Counter[tuple[int, ...]]:
        """Counts of the n-grams of so many tokens."""
        raw: Counter[tuple[int, ...]] = Counter()
        before: dict[tuple[int, ...], set[int]] = {}
        for history, token, place_class in self.places:
            if place_class == cls and len(history) >= size - 1:
                gram = (*history[len(history) - size + 1 :], token)
                raw[gram] += 1
                if len(history) >= size:
                    before.setdefault(gram, set()).add(history[-size])
        if self.metric.smoothing == "absolute" or size == self.metric.max_context + 1:
            return raw
        return Counter(
            {
                gram: count if size > 1 and gram[0] == EOS_TOKEN_ID else len(before[gram])
                for gram, count in raw.items()
            }
        )

    def probability(self, history: tuple[int, ...], token: int, cls: int) -> float:
        p = 1 / len(self.vocabulary)
        for size in range(1, min(self.metric.max_context, len(history)) + 2):
            if history == (EOS_TOKEN_ID,) and size == 1:
                continue
            context = history[len(history) - size + 1 :]
            everywhere = [self.counts(size, each) for each in sorted(set(self.classes.tolist()))]
            told = Counter(count for counts in everywhere for count in counts.values())
            taken = discounts(np.array([told[n] for n in (1, 2, 3, 4)]), self.metric.discount)
            after = {
                gram[-1]: count
                for gram, count in self.counts(size, cls).items()
                if gram[:-1] == context
            }
            if after:
                own = after.get(token, 0)
                spared = sum(taken[min(count, 3)] for count in after.values())
                p = (own - taken[min(own, 3)] + spared * p) / sum(after.values())
        return float(p)


def padded(rows: list[list[int]]) -> Tokens:
    tokens = np.full((len(rows), T), EOS_TOKEN_ID, dtype=np.uint16)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids[:T]
    return tokens


@settings(deadline=None, max_examples=60)
@given(documents=RAGGED, row=st.lists(TOKEN, max_size=T), metric=METRICS)
def test_windows_of_texts_have_the_probabilities_of_the_definition(
    documents: list[list[int]], row: list[int], metric: LikelihoodMetric
) -> None:
    bits = metric.code_lengths(
        padded([row]), Corpus.of(documents, TokenLayout.sequence(T)), windows=True
    )[0]
    definition = Definition(documents, metric, windows=True)
    steps = [*row, EOS_TOKEN_ID][:T]
    wanted = [definition.probability(tuple(row[:t]), token, 0) for t, token in enumerate(steps)]
    np.testing.assert_allclose(2.0 ** -bits[: len(steps)], wanted, rtol=1e-9)
    assert (bits[len(steps) :] == 0).all()


@settings(deadline=None, max_examples=60)
@given(documents=EQUAL, row=st.lists(TOKEN, min_size=T, max_size=T), metric=METRICS)
def test_pictures_have_the_probabilities_of_the_definition(
    documents: list[list[int]], row: list[int], metric: LikelihoodMetric
) -> None:
    bits = metric.code_lengths(padded([row]), Corpus.of(documents, SMALL))[0]
    definition = Definition(documents, metric, windows=False)
    histories = [(EOS_TOKEN_ID, *row[:t]) for t in range(T)]
    wanted = [
        definition.probability(history, token, int(cls))
        for history, token, cls in zip(histories, row, definition.classes, strict=True)
    ]
    np.testing.assert_allclose(2.0**-bits, wanted, rtol=1e-9)


@settings(deadline=None, max_examples=40)
@given(documents=RAGGED, row=st.lists(TOKEN, max_size=T - 1), metric=METRICS)
def test_the_whole_vocabulary_sums_to_one(
    documents: list[list[int]], row: list[int], metric: LikelihoodMetric
) -> None:
    rows = padded([[*row, token] for token in range(VOCABULARY)] + [row])  # or the text ends
    reference = Corpus.of(documents, TokenLayout.sequence(T))
    bits = metric.code_lengths(rows, reference, windows=True)[:, len(row)]
    assert (2.0**-bits).sum() == pytest.approx(1.0, abs=1e-9)


def test_a_word_that_follows_one_word_only_is_unlikely_elsewhere() -> None:
    # Chen and Goodman's San Francisco: token 2 is frequent, but only behind 1.
    documents = [[1, 2] * 4 + [0, 1, 0, 0, 1]]
    row = padded([[0, 2]])
    reference = Corpus.of(documents, TokenLayout.sequence(T))
    bits = {
        smoothing: LikelihoodMetric(smoothing=smoothing, discount=0.75, max_context=1).code_lengths(
            row, reference, windows=True
        )[0, 1]
        for smoothing in ("absolute", "kneser_ney")
    }
    assert bits["kneser_ney"] > bits["absolute"] + 0.3


def test_scores_of_texts_are_sums_of_code_lengths() -> None:
    reference = Corpus.of([[0, 1, 2, 1, 0, 1], [2, 1]], TokenLayout.sequence(T))
    tokens = padded([[0, 1, 2], [1], [0, 1, 2, 0, 1, 2]])
    texts = ["añb", "n", ""]
    images: Any = MemoryImages(
        tokens=tokens,
        trace=free_trace(tokens),
        images=None,
        texts=texts,  # type: ignore[arg-type]
    )
    metric = LikelihoodMetric(smoothing="kneser_ney", discount=None, max_context=4)
    measured = metric.measure(generated=images, reference=reference)
    bits = metric.code_lengths(tokens, reference, windows=True).sum(axis=1)
    values = {name: score.value for name, score in measured.scalars.items()}
    assert values == {
        "bits_per_token": pytest.approx((bits / [4, 2, 6]).mean()),
        "bits_per_byte": pytest.approx(bits[:2].sum() / 5),  # nothing written has no bytes
    }
    assert num_bytes(texts).tolist() == [4, 1, 0]
    assert measured.recipe["smoothing"] == "kneser_ney"
    assert measured.recipe["matching"] == "free"


def test_discounts_of_published_counts() -> None:
    # n1 ... n4 = 1000, 300, 150, 90: Y = 1000 / 1600
    found = discounts(np.array([1000, 300, 150, 90]), None)
    np.testing.assert_allclose(found, [0, 1 - 2 * 0.625 * 0.3, 2 - 3 * 0.625 * 0.5, 3 - 2.5 * 0.6])
    assert discounts(np.array([1, 1, 9, 9]), None).tolist() == [0.0, 0.5, 1.0, 1.5]
    assert discounts(np.array([1, 1, 1, 1]), 0.9).tolist() == [0.0, 0.9, 0.9, 0.9]
