"""All engines agree with brute force on small corpora of every awkward shape."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_folders import EOS, BruteForce, stream_of, write_index

from imagegram.indexes import Index, open_index
from imagegram.indexes.open import ENGINES

ALPHABETS = ([0, 1], [1, 2, 255], [0, 1, 256, 65534])


@dataclass(frozen=True)
class Corpus:
    shards: list[list[list[int]]]
    final_separator: bool
    queries: list[list[int]]
    row: list[int]

    @property
    def streams(self) -> list[list[int]]:
        return [stream_of(part, final_separator=self.final_separator) for part in self.shards]


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    alphabet = draw(st.sampled_from(ALPHABETS))
    token = st.sampled_from(alphabet)
    documents = st.lists(st.lists(token, max_size=6), max_size=5)
    shards = draw(st.lists(documents, min_size=1, max_size=3))
    if not any(shards):
        shards[0] = [[alphabet[0]]]
    final_separator = draw(st.booleans())
    streams = [stream_of(part, final_separator=final_separator) for part in shards]
    loose = st.lists(st.sampled_from([*alphabet, EOS, 7]), max_size=7)
    queries = draw(st.lists(loose, min_size=1, max_size=4))
    for stream in streams:  # queries that occur, up to the very end of a shard
        start = draw(st.integers(0, len(stream)))
        end = draw(st.integers(start, len(stream)))
        queries += [stream[start:end], stream[start:]]
    row = draw(st.lists(st.sampled_from([*alphabet, 7]), max_size=9))
    return Corpus(shards, final_separator, queries, row)


@contextmanager
def engines(corpus: Corpus) -> Iterator[dict[str, Index]]:
    with tempfile.TemporaryDirectory() as root:
        folders = [
            write_index(Path(root) / str(i), part, final_separator=corpus.final_separator)
            for i, part in enumerate(corpus.shards)
        ]
        yield {name: open_index(folders, engine=name) for name in ENGINES}


relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(corpora(), st.integers(1, 4), st.none() | st.integers(0, 5))
@relaxed
def test_counts_and_next_tokens(corpus: Corpus, min_count: int, max_context: int | None) -> None:
    brute = BruteForce(corpus.streams)
    with engines(corpus) as opened:
        for query in corpus.queries:
            count = brute.count(query)
            suffix = brute.longest_suffix(query, min_count)
            expected = brute.next_token(query, max_context, min_count)
            for name, index in opened.items():
                assert index.count(query) == count, name
                assert index.longest_suffix(query, min_count=min_count) == suffix, name
                dist = index.next_token(query, max_context=max_context, min_count=min_count)
                counts = dict(zip(dist.tokens.tolist(), dist.counts.tolist(), strict=True))
                assert (dist.suffix_len, counts) == expected, name
                assert dist.num_contexts == sum(counts.values()), name


@given(corpora())
@relaxed
def test_match_lengths_spans_and_phrases(corpus: Corpus) -> None:
    brute = BruteForce(corpus.streams)
    rows = [row for row in (corpus.row, corpus.row[::-1], *corpus.queries) if row]
    with engines(corpus) as opened:
        for row in rows:
            prefixes, suffixes = brute.prefix_lengths(row), brute.suffix_lengths(row)
            spans = brute.maximal_spans(row)
            for name, index in opened.items():
                assert index.match_lengths(np.array([row])).tolist() == [prefixes], name
                assert index.suffix_match_lengths(np.array([row])).tolist() == [suffixes], name
                found = index.spans(row, max_occurrences=0)
                assert [(span.start, span.end, span.count) for span in found] == spans, name
                position = 0
                for phrase in index.parse(row):
                    length = prefixes[position]
                    query = row[position : position + length]
                    assert phrase.start == position, name
                    assert phrase.length == max(length, 1), name
                    assert phrase.count == (brute.count(query) if length else 0), name
                    position += phrase.length
                assert position == len(row), name
                check_phrases(index, row, limit=2)


def check_phrases(index: Index, row: list[int], *, limit: int) -> None:
    """The parse in arrays is the parse in objects."""
    rows = np.array([row, row[::-1]], np.uint16)
    found = index.parse_rows(rows, index.match_lengths(rows), max_occurrences=limit)
    p = 0
    for one, end in zip(rows, found.ends.tolist(), strict=True):
        for phrase in index.parse(one, max_occurrences=limit):
            place = found.places[p]
            documents = found.documents[found.offsets[place] : found.offsets[place + 1]]
            assert found.starts[p] == phrase.start
            assert found.lengths[p] == (phrase.length if phrase.count else 0)
            assert documents.tolist() == phrase.documents.tolist()
            p += 1
        assert p == end


@given(corpora())
@relaxed
def test_occurrences_are_placed_in_documents(corpus: Corpus) -> None:
    brute = BruteForce(corpus.streams)
    with engines(corpus) as opened:
        for query in filter(None, corpus.queries):
            answers = {name: index.occurrences(query, limit=99) for name, index in opened.items()}
            assert answers["naive"] == answers["native"] == answers["fastgram"]
            assert len(answers["naive"]) == len(brute.places(query))
            few = {name: index.occurrences(query, limit=2) for name, index in opened.items()}
            assert all(places == answers["naive"][:2] for places in few.values())
            for place in answers["naive"]:
                if place.document < 0 or place.position < 0:
                    assert query[0] == EOS
                    continue
                padded = [*opened["naive"].document(place.document).tolist(), EOS]
                part = padded[place.position : place.position + len(query)]
                assert part == query[: len(part)]


@given(corpora())
@relaxed
def test_documents_equal_counts_whole_documents_only(corpus: Corpus) -> None:
    documents = [document for part in corpus.shards for document in part]
    rows = [*documents, corpus.row, *corpus.queries, []]
    with engines(corpus) as opened:
        for row in rows:
            expected = sum(row == document for document in documents)
            for name, index in opened.items():
                found = index.documents_equal(np.array([row], np.uint16).reshape(1, -1))
                assert found.tolist() == [expected], (name, row)
