"""Counts of n-grams from the suffix array, beside dictionaries of all n-grams."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagegram.indexes import Index, open_index
from imagegram.indexes.grams import count_grams, different_grams
from imagegram.indexes.stream import ListedStream
from imagegram.records import EOS_TOKEN_ID, Counting, Grams
from tests.index_folders import write_index

ALPHABETS = ([0, 1], [7, 256, 65534])


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[list[int]]], Counting]:
    """Shards of documents, of one length where positions have classes."""
    token = st.sampled_from(draw(st.sampled_from(ALPHABETS)))
    num_classes = draw(st.integers(1, 3))
    if num_classes == 1:
        document = st.lists(token, max_size=7)
        classes = np.zeros(1, dtype=np.int32)
    else:
        document = st.lists(token, min_size=4, max_size=4)
        classes = np.arange(4, dtype=np.int32) % num_classes
    shards = draw(st.lists(st.lists(document, min_size=1, max_size=4), min_size=1, max_size=3))
    ends = num_classes == 1 and draw(st.booleans())
    return shards, Counting(class_of=classes, continuations=draw(st.booleans()), ends=ends)


def queries_of(rng: np.random.Generator, longest: int, counting: Counting) -> list[Grams]:
    """Random n-grams, of which some occur."""
    queries = []
    for k in range(1, longest + 1):
        tokens = rng.choice([0, 1, 7, 256, 65534], size=(60, k)).astype(np.uint16)
        tokens[rng.random(60) < 0.2, 0] = EOS_TOKEN_ID
        tokens[rng.random(60) < 0.1 * counting.ends, -1] = EOS_TOKEN_ID
        classes = rng.integers(counting.num_classes, size=60).astype(np.int32)
        queries.append(different_grams(tokens, classes)[0])
    return queries


@given(corpora(), st.integers(1, 4), st.integers(0, 2**32), st.booleans(), st.integers(1, 3))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_walk_counts_what_dictionaries_count(
    drawn: tuple[list[list[list[int]]], Counting],
    longest: int,
    seed: int,
    final_separator: bool,
    workers: int,
) -> None:
    shards, counting = drawn
    queries = queries_of(np.random.default_rng(seed), longest, counting)
    with tempfile.TemporaryDirectory() as root:
        folders = [
            write_index(Path(root) / str(i), part, final_separator=final_separator)
            for i, part in enumerate(shards)
        ]
        index = open_index(folders)
        found = index.gram_counts(queries, counting, workers=workers)
        wanted = Index.gram_counts(index, queries, counting)
    for one, other in zip(found, wanted, strict=True):
        for part in ("own", "contexts", "of_counts"):
            np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


def test_continuations_are_different_tokens_before_a_gram() -> None:
    stream = ListedStream.of([EOS_TOKEN_ID, 1, 2, 1, 2, 3, 2, EOS_TOKEN_ID])
    counting = Counting(class_of=np.zeros(1, np.int32), continuations=True, ends=True)
    one, two, three = count_grams([stream], 3, counting)
    assert {gram: count for (gram, _), count in one.items()} == {
        (1,): 2,  # after the separator and after 2
        (2,): 2,
        (3,): 1,
        (EOS_TOKEN_ID,): 1,
    }
    assert two[(1, 2), 0] == 2
    assert two[(EOS_TOKEN_ID, 1), 0] == 1  # nothing precedes it: counted as it is
    assert three[(1, 2, 1), 0] == three[(1, 2, 3), 0] == 1


def test_different_grams_stand_in_table_order() -> None:
    tokens = np.array([[256, 1], [1, 256], [1, 0], [256, 1]], dtype=np.uint16)
    grams, places = different_grams(tokens, np.array([0, 0, 0, 1], dtype=np.int32))
    assert grams.tokens.tolist() == [[256, 1], [256, 1], [1, 0], [1, 256]]  # low bytes first
    assert grams.classes.tolist() == [0, 1, 0, 0]
    assert places.tolist() == [0, 3, 2, 1]
