from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagegram.errors import TokenError
from imagegram.metrics import positional
from imagegram.metrics.positional import aligned_agreement, aligned_suffix_lengths
from imagegram.records import Tokens
from tests.image_sets import MemoryTokens


def brute_length(row: list[int], end: int, documents: list[list[int]]) -> int:
    """The definition: the most tokens before ``end`` that one document has in the same places."""
    return max(
        length
        for document in documents
        for length in range(end + 1)
        if row[end - length : end] == document[end - length : end]
    )


def brute_lengths(rows: Tokens, documents: Tokens) -> list[list[int]]:
    theirs = documents.tolist()
    return [
        [brute_length(row, end, theirs) for end in range(1, len(row) + 1)] for row in rows.tolist()
    ]


def brute_agreement(rows: Tokens, documents: Tokens) -> tuple[list[int], list[int]]:
    """The definition: compare all, take the most, then the smallest id."""
    counts, best = [], []
    for row in rows.tolist():
        equal = [sum(map(int.__eq__, row, document)) for document in documents.tolist()]
        counts.append(max(equal))
        best.append(equal.index(max(equal)))
    return counts, best


def check(rows: Tokens, corpus: MemoryTokens, *, workers: int = 1) -> None:
    """Both functions against both definitions."""
    lengths = aligned_suffix_lengths(rows, corpus, workers=workers)
    assert lengths.dtype == np.int32
    assert lengths.tolist() == brute_lengths(rows, corpus.all)
    counts, documents = aligned_agreement(rows, corpus, workers=workers)
    assert (counts.dtype, documents.dtype) == (np.int32, np.int64)
    assert (counts.tolist(), documents.tolist()) == brute_agreement(rows, corpus.all)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Tokens, MemoryTokens]:
    """Rows and a corpus with few tokens, hence many ties, some of whose rows are documents."""
    num_tokens = draw(st.integers(1, 9))
    tokens = st.sampled_from(draw(st.sampled_from([(0,), (0, 1), (0, 1, 2), (3, 259, 65534)])))
    line = st.lists(tokens, min_size=num_tokens, max_size=num_tokens)
    shards = draw(st.lists(st.lists(line, min_size=1, max_size=4), min_size=1, max_size=3))
    known = st.sampled_from([document for shard in shards for document in shard])
    rows = draw(st.lists(line | known, min_size=1, max_size=5))
    corpus = MemoryTokens(shards=[np.array(shard, np.uint16) for shard in shards])
    return np.array(rows, np.uint16), corpus


@settings(deadline=None)
@given(table=tables(), workers=st.integers(1, 3), block_tokens=st.sampled_from([1, 20, 1 << 20]))
def test_matches_and_agreement_are_those_of_the_definition(
    table: tuple[Tokens, MemoryTokens], workers: int, block_tokens: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positional, "_BLOCK_TOKENS", block_tokens)
        check(*table, workers=workers)


@pytest.mark.parametrize("vocabulary", [1, 2, 5, 300])
def test_positions_beyond_one_tile_and_documents_beyond_one_strip(vocabulary: int) -> None:
    rng = np.random.default_rng(vocabulary)
    # Longer than what is sorted at a time, and than what a byte can count.
    long = rng.integers(vocabulary, size=(7, 261)).astype(np.uint16)
    check(long[:2], MemoryTokens(shards=[long[2:]]))
    check(long[:2], MemoryTokens(shards=[long[1:]]))
    many = rng.integers(vocabulary, size=(1030, 5)).astype(np.uint16)
    check(many[:3], MemoryTokens(shards=[many[3:700], many[700:]]))


def test_a_token_that_no_byte_can_hold_is_not_taken_for_one_that_a_byte_can() -> None:
    rows = np.array([[300, 1], [44, 1]], np.uint16)  # 300 = 256 + 44
    corpus = MemoryTokens(shards=[np.array([[44, 2], [9, 9]], np.uint16)])
    check(rows, corpus)
    assert aligned_agreement(rows, corpus)[0].tolist() == [0, 1]


def test_equal_blocks_give_the_smallest_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positional, "_BLOCK_TOKENS", 1)
    corpus = MemoryTokens(shards=[np.array([[1, 1], [1, 2], [1, 2], [2, 2]], np.uint16)])
    rows = np.array([[1, 2], [2, 1], [3, 3]], np.uint16)
    counts, documents = aligned_agreement(rows, corpus, workers=3)
    assert counts.tolist() == [2, 1, 0]
    assert documents.tolist() == [1, 0, 0]


def test_a_match_elsewhere_is_no_match_in_place() -> None:
    corpus = MemoryTokens(shards=[np.array([[5, 1, 2, 3, 4]], np.uint16)])
    rows = np.array([[1, 2, 3, 4, 5], [5, 1, 9, 3, 4]], np.uint16)
    assert aligned_suffix_lengths(rows, corpus).tolist() == [[0, 0, 0, 0, 0], [1, 2, 0, 1, 2]]


def test_every_document_is_told_once() -> None:
    told: list[int] = []
    corpus = MemoryTokens(shards=[np.zeros((7, 4), np.uint16)])
    rows = np.zeros((2, 4), np.uint16)
    aligned_suffix_lengths(rows, corpus, workers=3, advance=told.append)
    aligned_agreement(rows, corpus, workers=2, advance=told.append)
    assert told == [3, 3, 1, 4, 3]


def test_rows_of_another_length_are_refused() -> None:
    corpus = MemoryTokens(shards=[np.zeros((2, 4), np.uint16)])
    for function in (aligned_suffix_lengths, aligned_agreement):
        with pytest.raises(TokenError, match=r"rows of 3 tokens .* documents of 4"):
            function(np.zeros((1, 3), np.uint16), corpus)
