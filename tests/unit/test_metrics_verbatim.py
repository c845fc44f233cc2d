"""Longest verbatim runs, beside all runs of a text; the words of texts."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import ConfigError
from imagegram.metrics.verbatim import VerbatimMetric
from imagegram.metrics.vocabulary import Lexicon, VocabularyMetric, distinct, inner_words
from imagegram.records import Tokens
from tests.documents import documents
from tests.image_sets import MemoryIndex
from tests.text_sets import TextReference, text_set

TEXT = st.text("ab .", max_size=12)
TRAINING = documents(40, seed=0, longest=3)
REFERENCE = TextReference.of(TRAINING)


@settings(deadline=None, max_examples=60)
@given(corpus=st.lists(TEXT.filter(len), min_size=1, max_size=4), texts=st.lists(TEXT, min_size=1))
def test_runs_are_the_longest_of_all_runs(corpus: list[str], texts: list[str]) -> None:
    measured = VerbatimMetric(run_tokens=3).measure(
        generated=text_set(texts), reference=TextReference.of(corpus)
    )
    for text, characters, words, is_long in zip(
        texts,
        measured.curves["longest_run_characters"],
        measured.curves["longest_run_words"],
        measured.curves["verbatim"],
        strict=True,
    ):
        runs = [
            (a, b)
            for a in range(len(text))
            for b in range(a + 1, len(text) + 1)
            if any(text[a:b] in document for document in corpus)
        ]
        spans = [word.span() for word in re.finditer(r"\w+", text)]
        assert characters == max((b - a for a, b in runs), default=0)
        assert words == max(
            (sum(a <= first and last <= b for first, last in spans) for a, b in runs), default=0
        )
        assert is_long == (characters >= 3)
    np.testing.assert_array_equal(
        measured.curves["longest_run_tokens"], measured.curves["longest_run_characters"]
    )


@pytest.mark.parametrize("percent", [5, 20])
def test_planted_copies_are_found_and_held_out_texts_are_not(percent: int) -> None:
    # Words of another language between those of the corpus: no long run stands in both.
    held_out = [text.replace(" ", " zq ") for text in documents(100, seed=1, longest=3)]
    copied = [TRAINING[i % len(TRAINING)] for i in range(percent)]
    measured = VerbatimMetric(run_tokens=20).measure(
        generated=text_set([*copied, *held_out[percent:]]), reference=REFERENCE
    )
    rate = measured.scalars["verbatim_rate_20"]
    assert rate.value == percent / 100
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low < rate.value < rate.high
    floor = VerbatimMetric(run_tokens=20).measure(generated=text_set(held_out), reference=REFERENCE)
    assert floor.scalars["verbatim_rate_20"].value == 0


def test_a_collage_reads_a_quarter_of_what_a_copy_reads() -> None:
    parts = [
        text.ljust(80, "-")[:80] for text in ("first " * 20, "second " * 20, "3 " * 50, "4" * 80)
    ]
    metric, reference = VerbatimMetric(), TextReference.of(parts)
    read = [
        metric.measure(generated=text_set([text]), reference=reference).scalars
        for text in (parts[0], "".join(part[20:40] for part in parts))
    ]
    assert read[0]["longest_run_characters"].value == 80
    assert 20 <= (read[1]["longest_run_characters"].value or 0) < 30


def test_legal_words_are_those_of_the_corpus() -> None:
    metric = VocabularyMetric()
    training = metric.measure(generated=text_set(TRAINING), reference=REFERENCE)
    assert training.scalars["legal_words"].value == 1
    texts = ["X the Wolf saw a zzyzx y", "X qqq y", "a b"]
    scalars = metric.measure(generated=text_set(texts), reference=REFERENCE).scalars
    assert scalars["legal_words"].value == pytest.approx(4 / 6)  # the, wolf, saw, a; zzyzx, qqq
    assert scalars["distinct_1"].value == 1
    nothing = metric.measure(generated=text_set(["", "two words"]), reference=REFERENCE).scalars
    assert nothing["legal_words"].value is None
    assert nothing["distinct_3"].note == "no text has 3 whole words in a row"


class CountedReference(TextReference):
    """A corpus of the store, which counts the documents that are decoded."""

    decoded: ClassVar[list[int]] = []

    @property
    def index(self) -> Any:
        index = super().index
        digest = str(self.texts)
        return MemoryIndex(shards=index.shards, digest=digest)

    def decode(self, tokens_BT: Tokens) -> Any:
        self.decoded.append(len(tokens_BT))
        return super().decode(tokens_BT)


def test_all_sets_of_a_corpus_read_its_texts_once() -> None:
    metric, texts = VocabularyMetric(), ["X the wolf zzyzx y", "X qqq the lamb y"]
    corpus: Any = CountedReference.of(TRAINING)
    expected = metric.measure(generated=text_set(texts), reference=REFERENCE).scalars
    CountedReference.decoded.clear()
    for _ in range(3):
        assert metric.measure(generated=text_set(texts), reference=corpus).scalars == expected
    assert sum(CountedReference.decoded) == len(TRAINING)
    other: Any = CountedReference.of(["qqq is a word here"])
    legal = metric.measure(generated=text_set(texts), reference=other).scalars["legal_words"]
    assert legal.value == 1 / 6
    assert sum(CountedReference.decoded) == len(TRAINING) + 1


def test_shuffled_letters_are_no_words() -> None:
    rng = np.random.default_rng(0)
    shuffled = ["".join(rng.permutation(list(text))) for text in TRAINING]
    value = VocabularyMetric().measure(generated=text_set(shuffled), reference=REFERENCE)
    assert (value.scalars["legal_words"].value or 0) < 0.3


def test_repeated_texts_are_less_distinct() -> None:
    once = [inner_words(text) for text in documents(20, seed=3)]
    for n in (1, 2, 3):
        all_of_them, twice = distinct(once, n).value, distinct(once * 2, n).value
        assert all_of_them is not None
        assert twice == pytest.approx(all_of_them / 2)
    assert Lexicon(["A WOLF."]).known({"wolf", "zzyzx"}) == {"wolf"}


def test_impossible_knobs_are_refused() -> None:
    with pytest.raises(ConfigError, match="run_tokens"):
        VerbatimMetric(run_tokens=0)
    with pytest.raises(ConfigError, match="shown_n"):
        VocabularyMetric(shown_n=(0, 1))
