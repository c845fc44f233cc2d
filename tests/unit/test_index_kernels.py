"""The compiled searches, called as other kernels call them."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from index_folders import EOS, stream_of, write_index
from numba import njit, prange

from imagegram.errors import IndexFormatError
from imagegram.indexes.format import IndexShard
from imagegram.indexes.kernels import search as kernels
from imagegram.indexes.kernels.search import ShardViews, shard_views

BYTES = [[[1, 2, 1, 2], [2, 2], [255]], [[1], [1, 2, 255, 0]]]
WIDE = [[[1, 300, 1], [300, 65534]], [[0, 1]]]


@pytest.fixture(params=[BYTES, WIDE], ids=["bytes", "wide"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> tuple:
    """Views, streams and the shards that the views point into."""
    parts = request.param
    shards = [
        IndexShard.open(write_index(tmp_path / str(i), part, final_separator=i == 0))
        for i, part in enumerate(parts)
    ]
    streams = [stream_of(part, final_separator=i == 0) for i, part in enumerate(parts)]
    return shard_views(shards), streams, shards


def test_byte_valued_shards_get_pair_buckets(corpus: tuple) -> None:
    views, streams, _ = corpus
    is_wide = any(300 in stream for stream in streams)
    assert views.pairs.shape == (2, 0 if is_wide else 257 * 257)


def test_tokens_and_pointers_are_read_through_their_addresses(corpus: tuple) -> None:
    views, streams, _ = corpus
    for s, stream in enumerate(streams):
        assert [kernels.token_at(views, s, i) for i in range(len(stream))] == stream
        pointers = [kernels.pointer_at(views, s, rank) for rank in range(len(stream))]
        data = np.array(stream, "<u2").tobytes()
        assert pointers == sorted(range(len(stream)), key=lambda i: data[2 * i :])


@pytest.mark.parametrize("width", range(1, 9))
def test_pointers_of_every_width_are_read(tmp_path: Path, width: int) -> None:
    folder = write_index(tmp_path, [[3, 1, 2], [1]])
    pointers = np.fromfile(folder / "table.0", np.uint8)
    wide = np.zeros((len(pointers), width), np.uint8)
    wide[:, 0] = pointers
    wide.tofile(folder / "table.0")
    shard = IndexShard.open(folder)
    views = shard_views([shard])
    found = [kernels.pointer_at(views, 0, rank) for rank in range(len(pointers))]
    assert found == (pointers // 2).tolist()


def test_find_and_narrow_give_the_interval_of_every_substring(corpus: tuple) -> None:
    views, streams, _ = corpus
    for s, stream in enumerate(streams):
        for start in range(len(stream)):
            lo, hi = 0, len(stream)
            for end in range(start, len(stream)):
                ids = np.array([77, *stream[start : end + 1], 77], np.uint16)  # a range of ids
                lo, hi = kernels.narrow(views, s, lo, hi, end - start, stream[end])
                assert (lo, hi) == kernels.find(views, s, ids, 1, len(ids) - 1)
                length = end - start + 1
                query = stream[start : end + 1]
                places = [i for i in range(len(stream)) if stream[i : i + length] == query]
                assert sorted(kernels.pointer_at(views, s, r) for r in range(lo, hi)) == places
                absent = kernels.narrow(views, s, lo, hi, length, 9)
                assert absent[0] == absent[1]


def test_next_groups_count_what_follows(corpus: tuple) -> None:
    views, streams, _ = corpus
    for s, stream in enumerate(streams):
        for token in {*stream}:
            ids = np.array([token], np.uint16)
            lo, hi = kernels.find(views, s, ids, 0, 1)
            tokens, counts = np.empty(hi - lo, np.uint16), np.empty(hi - lo, np.uint64)
            number = kernels.next_groups(views, s, lo, hi, 1, tokens, counts)
            expected = Counter(b for a, b in itertools.pairwise(stream) if a == token)
            found = zip(tokens[:number].tolist(), counts[:number].tolist(), strict=True)
            assert dict(found) == dict(expected)
            first = kernels.continued(views, s, lo, hi, 1)
            assert hi - first == expected.total()


def test_locate_agrees_with_the_shards(corpus: tuple) -> None:
    views, streams, shards = corpus
    for s, stream in enumerate(streams):
        for i in range(len(stream)):
            document, position = shards[s].locate(i)
            expected = (document + int(views.first_document[s]), position)
            assert kernels.locate(views, s, i) == expected


@njit(parallel=True)
def total_found(views: ShardViews, rows: np.ndarray) -> int:
    total = 0
    for b in prange(len(rows)):
        for s in range(views.num_tokens.size):
            lo, hi = kernels.find(views, s, rows[b], 0, rows.shape[1])
            total += hi - lo
    return total


def test_views_pass_into_parallel_kernels(corpus: tuple) -> None:
    views, streams, _ = corpus
    rows = np.array([[1], [2], [300], [EOS]], np.uint16)
    expected = sum(stream.count(token) for stream in streams for token in rows[:, 0].tolist())
    assert total_found(views, rows) == expected


def test_no_shards_is_an_error() -> None:
    with pytest.raises(IndexFormatError, match="at least one shard"):
        shard_views([])
