"""Longest matches of rows that copy, repeat and end, beside one search for each of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_folders import write_index

from imagegram.errors import ConfigError
from imagegram.indexes import Index, native, open_index
from imagegram.indexes.kernels.suffixes import DEPTH, sort_by_pair, sort_group

ALPHABETS = ([0, 1], [128], [0, 7, 255], [0, 256, 300, 65534])


@st.composite
def rows_of_pieces(draw: st.DrawFn) -> tuple[list[list[list[int]]], np.ndarray, int]:
    """Shards of documents longer than the walk compares, rows spliced from them, and a chunk."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    alphabet = draw(st.sampled_from(ALPHABETS))
    length = draw(st.integers(1, 4 * DEPTH))
    period = draw(st.integers(1, 2 * length))
    num_shards = draw(st.integers(1, 3))
    documents = np.resize(rng.choice(alphabet, size=period), (6, length))
    noise = rng.random(documents.shape) < draw(st.sampled_from([0.0, 0.01, 0.1, 1.0]))
    documents = np.where(noise, rng.choice(alphabet, size=documents.shape), documents)
    rows = documents[rng.integers(6, size=5)]
    for row in rows:
        for _ in range(draw(st.integers(0, 4))):
            start, source = rng.integers(length), documents[rng.integers(6)]
            row[start:] = np.roll(source, rng.integers(length))[start:]
    strange = rng.random(rows.shape) < draw(st.sampled_from([0.0, 0.01]))
    rows = np.where(strange, rng.choice([9, 65535, 0]), rows)
    shards = [part.tolist() for part in np.array_split(documents, num_shards)]
    return shards, rows.astype(np.uint16), draw(st.integers(1, 3 * length))


@given(rows_of_pieces(), st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_matches_and_phrases_are_those_of_single_searches(
    drawn: tuple[list[list[list[int]]], np.ndarray, int], final_separator: bool
) -> None:
    shards, rows, chunk = drawn
    done: list[int] = []
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_CHUNK_TOKENS", chunk)
        patch.setattr(native, "_PIECES", 7)
        folders = [
            write_index(Path(root) / str(i), part, final_separator=final_separator)
            for i, part in enumerate(shards)
        ]
        index = open_index(folders)
        lengths = index.match_lengths(rows, workers=2, advance=done.append)
        assert sum(done) == len(rows)
        np.testing.assert_array_equal(lengths, Index.match_lengths(index, rows))
        limit = min(chunk, 5)
        found = index.parse_rows(rows, lengths, max_occurrences=limit, workers=3)
        expected = Index.parse_rows(index, rows, lengths, max_occurrences=limit)
        assert found.ends.tolist() == expected.ends.tolist()
        assert found.starts.tolist() == expected.starts.tolist()
        assert found.lengths.tolist() == expected.lengths.tolist()
        for p, place in enumerate(found.places):
            ours = found.documents[found.offsets[place] : found.offsets[place + 1]]
            theirs = expected.documents[expected.offsets[p] : expected.offsets[p + 1]]
            assert ours.tolist() == theirs.tolist()


@given(rows_of_pieces())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_suffixes_are_sorted_and_what_they_share_is_known(
    drawn: tuple[list[list[list[int]]], np.ndarray, int],
) -> None:
    rows = drawn[1]
    num_tokens = rows.shape[1]
    order = np.empty(rows.size, np.uint32)
    sort_by_pair(rows, order)
    assert sorted(order.tolist()) == list(range(rows.size))

    def suffix(position: int) -> bytes:
        return rows.ravel()[position : position + num_tokens - position % num_tokens].tobytes()

    pairs = [suffix(int(p))[:4] for p in order]
    assert pairs == sorted(pairs)
    pair = pairs[len(pairs) // 2]
    if len(pair) < 4:
        return
    group = order[[p == pair for p in pairs]]
    shared = np.empty(group.size, np.int16)
    sort_group(
        np.uint64(rows.ctypes.data), num_tokens, group, np.empty(group.size, np.uint64), shared
    )
    cut = [suffix(int(p))[: 2 * DEPTH] for p in group]
    assert cut == sorted(cut)
    for j in range(1, group.size):
        a, b = (np.frombuffer(text, "<u2") for text in (cut[j - 1], cut[j]))
        least = min(a.size, b.size)
        differ = np.flatnonzero(a[:least] != b[:least])
        assert shared[j] == (differ[0] if differ.size else least)


def test_workers_are_counted_from_one(tmp_path: Path) -> None:
    index = open_index(write_index(tmp_path, [[1, 2]]))
    with pytest.raises(ConfigError, match="workers must be an integer of at least 1"):
        index.match_lengths(np.array([[1, 3]]), workers=0)
