"""Phrases are credited to clusters and documents by definition; tokens to the nearest place."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagegram.indexes import open_index
from imagegram.indexes.naive import NaiveIndex
from imagegram.metrics.sources import parse_sources, token_sources
from imagegram.records import Sources
from tests.image_sets import random_tokens
from tests.index_folders import BruteForce, stream_of, write_index

DOCUMENT = st.lists(st.integers(0, 3), min_size=5, max_size=5)
SHARDS = st.lists(st.lists(DOCUMENT, min_size=1, max_size=4), min_size=1, max_size=3)
ROW = st.lists(st.integers(0, 4), min_size=5, max_size=5)
#: A picture for each of up to twelve documents: those with the same one are near-duplicates.
PICTURES = st.lists(st.integers(0, 4), min_size=12, max_size=12)


def labels_of(pictures: list[int]) -> NDArray[np.int64]:
    """(N,) lowest document that shows the same picture."""
    return np.array([pictures.index(picture) for picture in pictures], np.int64)


def brute_sources(
    shards: list[list[list[int]]], row: list[int], clusters: NDArray[np.int64]
) -> dict[str, object]:
    """The definition by scanning, without a limit of candidates."""
    brute = BruteForce([stream_of(shard) for shard in shards])
    firsts = np.cumsum([0, *map(len, shards)])
    by_cluster: dict[int, int] = {}
    by_document: dict[int, int] = {}
    spans: list[int] = []
    documents: list[int] = []
    num_phrases = 0
    while len(spans) < len(row):
        start = len(spans)
        num_phrases += 1
        length = max(n for n in range(len(row) - start + 1) if brute.count(row[start : start + n]))
        if length == 0:
            spans.append(0)
            documents.append(-1)
            continue
        places = brute.places(row[start : start + length])
        found = {int(firsts[s]) + i // (len(row) + 1) for s, i in places}
        cluster = min({clusters[d] for d in found}, key=lambda c: (-by_cluster.get(c, 0), c))
        inside = {d for d in found if clusters[d] == cluster}
        document = min(inside, key=lambda d: (-by_document.get(d, 0), d))
        by_cluster[cluster] = by_cluster.get(cluster, 0) + length
        by_document[document] = by_document.get(document, 0) + length
        spans += [length] * length
        documents += [document] * length
    largest = min(by_cluster, key=lambda c: (-by_cluster[c], c), default=-1)
    inside = {d for d in by_document if clusters[d] == largest}
    parts = np.array(list(by_cluster.values())) / max(sum(by_cluster.values()), 1)
    return {
        "span_lengths": spans,
        "token_documents": documents,
        "num_phrases": num_phrases,
        "clusters": largest,
        "documents": min(inside, key=lambda d: (-by_document[d], d), default=-1),
        "shares": by_cluster.get(largest, 0) / len(row),
        "num_effective": math.exp(-(parts * np.log(parts)).sum()) if by_cluster else 0.0,
    }


def parsed(
    shards: list[list[list[int]]], rows: NDArray[np.uint16], clusters: NDArray[np.int64]
) -> Sources:
    index = NaiveIndex.of_streams([stream_of(shard) for shard in shards])
    lengths = index.match_lengths(rows)
    return parse_sources(index, rows, lengths, clusters=clusters, max_candidates=1000)


@settings(deadline=None)
@given(shards=SHARDS, row=ROW, pictures=PICTURES)
def test_the_parse_credits_sources_by_definition(
    shards: list[list[list[int]]], row: list[int], pictures: list[int]
) -> None:
    clusters = labels_of(pictures[: sum(map(len, shards))])
    # The row in front must leave nothing behind.
    sources = parsed(shards, np.array([[0, 1, 2, 3, 0], row], np.uint16), clusters)
    for name, expected in brute_sources(shards, row, clusters).items():
        assert getattr(sources, name)[1].tolist() == pytest.approx(expected), name


@settings(deadline=None)
@given(shards=SHARDS, row=ROW, pictures=PICTURES)
def test_duplicates_of_documents_change_no_share(
    shards: list[list[list[int]]], row: list[int], pictures: list[int]
) -> None:
    documents = [document for shard in shards for document in shard]
    clusters = labels_of(pictures[: len(documents)])
    rows = np.array([row], np.uint16)
    once = parsed([documents], rows, clusters)
    twice = parsed([documents, documents], rows, np.concatenate([clusters, clusters]))
    for field in dataclasses.fields(Sources):
        np.testing.assert_array_equal(getattr(once, field.name), getattr(twice, field.name))


def test_native_and_naive_index_give_the_same_sources(tmp_path: Path) -> None:
    shards = [random_tokens(6, seed=seed, vocabulary=3).tolist() for seed in (0, 1)]
    folders = [write_index(tmp_path / str(i), shard) for i, shard in enumerate(shards)]
    native = open_index(folders)
    naive = NaiveIndex.of_streams([stream_of(shard) for shard in shards])
    rows = random_tokens(8, seed=2, vocabulary=4)
    lengths = native.match_lengths(rows)
    clusters = labels_of([0, 1, 2, 0, 4, 5, 2, 7, 8, 0, 10, 5])
    for limit in (64, 2):
        ours = parse_sources(native, rows, lengths, clusters=clusters, max_candidates=limit)
        theirs = parse_sources(naive, rows, lengths, clusters=clusters, max_candidates=limit)
        for field in dataclasses.fields(Sources):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))


def test_a_phrase_goes_to_the_source_that_explains_most_so_far() -> None:
    # "1 2" is in both documents; after "7 8 9" of document 1 it is credited to document 1, before
    # it to document 0, the smaller id.
    shards = [[[1, 2, 5, 5, 5], [7, 8, 9, 1, 2]]]
    rows = np.array([[7, 8, 9, 7, 8], [1, 2, 7, 8, 9], [9, 7, 1, 2, 3]], np.uint16)
    sources = parsed(shards, rows, np.arange(2))
    assert sources.documents.tolist() == [1, 1, 1]
    assert sources.shares.tolist() == [1.0, 0.6, 0.8]
    assert sources.num_phrases.tolist() == [2, 2, 4]
    assert sources.span_lengths.tolist() == [[3, 3, 3, 2, 2], [2, 2, 3, 3, 3], [1, 1, 2, 2, 0]]
    assert sources.token_documents[1].tolist() == [0, 0, 1, 1, 1]


def test_near_duplicates_are_one_source() -> None:
    shards = [[[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 7, 8]]]
    rows = np.array([[4, 5, 6, 3, 4, 7]], np.uint16)
    apart = parsed(shards, rows, np.arange(2))
    together = parsed(shards, rows, np.zeros(2, np.int64))
    assert (apart.shares[0], apart.num_effective[0]) == (0.5, pytest.approx(2.0))
    assert (together.shares[0], together.num_effective[0]) == (1.0, 1.0)
    # The report shows the document that most of it comes from, the first of two alike.
    assert together.documents.tolist() == [0]
    assert together.token_documents.tolist() == [[0, 0, 0, 1, 1, 1]]


@settings(deadline=None)
@given(shards=SHARDS, rows=st.lists(ROW, min_size=1, max_size=3), pictures=PICTURES)
def test_tokens_lie_at_the_nearest_place_of_their_credited_document(
    shards: list[list[list[int]]], rows: list[list[int]], pictures: list[int]
) -> None:
    texts = [document for shard in shards for document in shard]
    clusters = labels_of(pictures[: len(texts)])
    index = NaiveIndex.of_streams([stream_of(shard) for shard in shards])
    tokens = np.array(rows, np.uint16)
    lengths = index.match_lengths(tokens)
    sources = parse_sources(index, tokens, lengths, clusters=clusters)
    documents, positions, spans = token_sources(index, tokens, lengths, clusters=clusters)
    np.testing.assert_array_equal(documents, sources.token_documents)
    np.testing.assert_array_equal(spans, sources.span_lengths)
    for b, row in enumerate(rows):
        start = 0
        while start < len(row):
            length = int(spans[b, start])
            if length == 0:
                assert documents[b, start] == positions[b, start] == -1
                start += 1
                continue
            text, phrase = texts[documents[b, start]], row[start : start + length]
            places = [i for i in range(len(text)) if text[i : i + length] == phrase]
            nearest = min(places, key=lambda i: (abs(i - start), i))
            expected = list(range(nearest, nearest + length))
            assert positions[b, start : start + length].tolist() == expected
            start += length


def test_the_place_may_lie_before_or_behind_and_left_wins_ties() -> None:
    index = NaiveIndex.of_streams([stream_of([[7, 8, 1, 2, 7, 8]])])
    rows = np.array([[2, 9, 7, 8, 9, 1]], np.uint16)
    lengths = index.match_lengths(rows)
    found = token_sources(index, rows, lengths, clusters=np.zeros(1, np.int64))
    # "2" is taken from behind, "7 8" from two to the left rather than two to the right, "1" from
    # before.
    assert found.positions.tolist() == [[3, -1, 0, 1, -1, 2]]
    assert found.documents.tolist() == [[0, -1, 0, 0, -1, 0]]
