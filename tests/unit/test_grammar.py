"""A language of known entropy: closed forms beside what is drawn, and what is no text of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imagegram.corpora.grammar import GrammarCorpus
from imagegram.errors import ConfigError
from imagegram.texts.grammar import SENTENCES, STORIES, Grammar

DOCUMENTS = 2000
#: Nested brackets around one of two words.
NESTED = "text: 1 a | 2 b | 1 open text close"


@pytest.fixture(scope="module")
def stories() -> list[str]:
    return [GrammarCorpus(seed=1).document(number) for number in range(DOCUMENTS)]


def near(values: list[float], expected: float) -> bool:
    """Whether a mean lies within five standard errors, which one in a million does not."""
    return abs(np.mean(values) - expected) < 5 * np.std(values) / math.sqrt(len(values))


def test_the_entropy_is_the_mean_of_minus_log_probability(stories: list[str]) -> None:
    bits = [STORIES.bits(story) for story in stories]
    assert np.isfinite(bits).all()
    assert near(bits, STORIES.entropy())
    # Stories differ much in length; sentences show a much smaller error.
    sentence = Grammar(STORIES.rules, start="does")
    random = np.random.default_rng(0).random
    bits = [sentence.bits(sentence.draw(random)) for _ in range(10_000)]
    assert near(bits, STORIES.entropy("does"))
    assert not near(bits, STORIES.entropy("does") * 1.06)


def test_expected_counts_are_those_of_what_is_drawn(stories: list[str]) -> None:
    assert near([len(story.encode()) for story in stories], STORIES.expected_bytes())
    assert near([story.split().count("red") for story in stories], STORIES.expected("red"))
    ends = [story.count(". ") for story in stories]  # the last ". " is before "The end."
    assert near(ends, sum(map(STORIES.expected, SENTENCES)))


def test_all_texts_of_a_small_grammar_sum_to_one_and_give_its_entropy() -> None:
    """The reference: every text up to a depth beyond which the rest has no weight."""
    grammar = Grammar(NESTED, start="text")
    texts = [
        " ".join(["open"] * depth + [word] + ["close"] * depth)
        for depth, word in itertools.product(range(40), "ab")
    ]
    probabilities = np.array([2.0 ** -grammar.bits(text) for text in texts])
    assert probabilities.sum() == pytest.approx(1.0)
    entropy = -(probabilities * np.log2(probabilities)).sum()
    assert grammar.entropy() == pytest.approx(entropy)
    assert grammar.expected("open") == pytest.approx(1 / 3)
    lengths = np.array([len(text) for text in texts])
    assert grammar.expected_bytes() == pytest.approx((probabilities * lengths).sum())


def test_frequencies_of_what_is_drawn_are_the_probabilities() -> None:
    grammar = Grammar(NESTED, start="text")
    random = np.random.default_rng(0).random
    drawn = [grammar.draw(random) for _ in range(4000)]
    for text in ("a", "b", "open b close"):
        share = 2.0 ** -grammar.bits(text)
        assert abs(drawn.count(text) / 4000 - share) < 5 * math.sqrt(share / 4000)


def test_what_is_legal(stories: list[str]) -> None:
    assert all(map(STORIES.legal, stories))
    story = "Anna says, \u201cBen sees a red ball\u201d. Ben laughs. The end."
    assert STORIES.legal(story)
    for wrong in (
        *("", " ", "The end.", story + " ", story + " The end.", story[:-1], story.lower()),
        *(story.replace("red", "blue"), story.replace(" a ", " a  "), story.replace("red ", "")),
        *(story.replace("\u201d", ""), story.replace(" Ben laughs.", " laughs."), "\0", "Anna"),
    ):
        legal = wrong == story.replace("red ", "")
        assert STORIES.legal(wrong) == legal
        assert math.isinf(STORIES.bits(wrong)) != legal


def test_a_nest_of_a_thousand_quotations_is_no_recursion() -> None:
    grammar = Grammar(NESTED, start="text")
    deep = " ".join(["open"] * 5000 + ["a"] + ["close"] * 5000)
    assert grammar.bits(deep) == pytest.approx(2 * 5001)
    assert not grammar.legal(deep + " close")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("text: 1 a b | 1 a c", "two alternatives begin with 'a'"),
        ("text: 1 a | 1 other\nother: 1 a", "two alternatives begin with 'a'"),
        ("text: 1 text a | 1 b", "begins with itself"),
        ("text: 1 a text text | 1 b", "no end on average"),
        ("text: 1 a text", "no end on average"),
        ("text: a | 1 b", "is no rule"),
        ("text: 0 a | 1 b", "is no rule"),
        ("text: 1 a\ntext: 1 b", "the second of its symbol"),
        ("other: 1 a", "no rule gives text"),
        ("text: 1 don't", "is no word"),
    ],
)
def test_rules_that_are_no_such_grammar_are_refused(rules: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grammar(rules, start="text")


def test_a_story_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    def texts(**fields: int) -> Iterator[str]:
        corpus = GrammarCorpus(write_to=str(tmp_path), **fields)
        return (record.data.decode() for shard in corpus.shards for record in shard)

    few = list(texts(num_documents=30, documents_per_shard=20))
    assert few == list(texts(num_documents=50, documents_per_shard=7))[:30]
    assert few == [GrammarCorpus().document(number) for number in range(30)]
    assert few != list(texts(num_documents=30, seed=1))
    assert len({*few}) > 25


def test_the_entropy_is_shown_when_a_run_begins(tmp_path: Path) -> None:
    corpus = GrammarCorpus(write_to=str(tmp_path), num_documents=10)
    found = corpus.snapshot.found
    assert "entropy 124.856 bits a document, 11.351 bits a sentence, 0.427 bits a byte" in found
    assert corpus.snapshot.counts["bits_per_document"] == STORIES.entropy()
    with pytest.raises(ConfigError, match="num_documents must be at least 1"):
        GrammarCorpus(num_documents=0)
    with pytest.raises(ConfigError, match="seed must lie in"):
        GrammarCorpus(seed=-1)
