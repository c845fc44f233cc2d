"""Orders of suffixes and their side files, against the definitions."""

from __future__ import annotations

import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from index_folders import EOS, Documents, stream_of, write_index

from imagegram.errors import IndexFormatError, UnsupportedError
from imagegram.indexes.build import orders as order_build
from imagegram.indexes.build.orders import build_order
from imagegram.indexes.format import IndexShard
from imagegram.indexes.order import Order, inverse_width, minima_sizes


def make_order(
    folder: Path, documents: Documents, *, aligned: bool, final: bool = True, workers: int = 1
) -> Order:
    shard = IndexShard.open(write_index(folder, documents, final_separator=final))
    out = folder / "order"
    out.mkdir()
    build_order(shard, out, aligned=aligned, workers=workers)
    return Order.open(out, shard=shard, aligned=aligned)


def unpack(packed: np.ndarray, width: int) -> list[int]:
    rows = packed[: packed.size // width * width].reshape(-1, width).tolist()
    return [int.from_bytes(bytes(row), "little") for row in rows]


def check(order: Order, documents: Documents, *, final: bool) -> None:
    """Everything that ``indexes/order.py`` promises, by sorting and comparing plainly."""
    stream = stream_of(documents, final_separator=final)
    n = len(stream)
    data = np.array(stream, "<u2").tobytes()
    length = len(documents[0]) if documents else 0
    inside = [
        i % (length + 1) if i < len(documents) * (length + 1) else length + 1 for i in range(n)
    ]

    def key(i: int) -> tuple[int, bytes]:
        return inside[i] if order.aligned else 0, data[2 * i :]

    def shared(i: int, j: int) -> int:
        if order.aligned and inside[i] != inside[j]:
            return 0
        room = n - max(i, j)
        if order.aligned:
            room = length + 1 - inside[i]
        same = 0
        while same < room and stream[i + same] == stream[j + same]:
            same += 1
        return min(same, 65535)

    ranked = sorted(range(n), key=key)
    ranks = {position: rank for rank, position in enumerate(ranked)}
    assert unpack(order.table, order.pointer_width) == [2 * i for i in ranked]
    assert order.inverse_width == inverse_width(n)
    assert unpack(order.inverse[: n * order.inverse_width], order.inverse_width) == [
        ranks[i] for i in range(n)
    ]
    assert order.inverse[n * order.inverse_width :].tolist() == [0] * 8
    lcp = [shared(ranked[r - 1], ranked[r]) if r else 0 for r in range(n)]
    assert order.lcp.tolist() == lcp
    assert order.repeat.tolist() == [
        max((shared(i, j) for j in range(n) if j != i), default=0) for i in range(n)
    ]
    levels: list[list[int]] = []
    below = lcp
    while not levels or len(below) > 32:
        below = [min(below[i : i + 32]) for i in range(0, len(below), 32)]
        levels.append(below)
    assert order.minima.tolist() == [entry for level in levels for entry in level]
    assert [len(level) for level in levels] == minima_sizes(n)


TOKENS = st.sampled_from([0, 1, 255, 256, 511, EOS - 1])


@settings(max_examples=150)
@given(
    documents=st.lists(st.lists(TOKENS, max_size=9), max_size=9),
    final=st.booleans(),
    workers=st.integers(1, 3),
)
@example(documents=[[]], final=False, workers=1)
@example(documents=[[], [], []], final=True, workers=2)
@example(documents=[[7] * 40] * 30, final=True, workers=3)
@example(documents=[[256, 1] * 20] * 14, final=False, workers=2)
def test_the_suffix_order_is_what_it_says(
    documents: list[list[int]], final: bool, workers: int
) -> None:
    with TemporaryDirectory() as folder:
        order = make_order(
            Path(folder), documents, aligned=False, final=final or not documents, workers=workers
        )
        check(order, documents, final=final)


@st.composite
def aligned_documents(draw: st.DrawFn) -> list[list[int]]:
    length = draw(st.integers(0, 6))
    documents = draw(st.lists(st.lists(TOKENS, min_size=length, max_size=length), max_size=12))
    return documents + documents[: draw(st.integers(0, len(documents)))]  # some of them twice


@settings(max_examples=150)
@given(documents=aligned_documents(), final=st.booleans(), workers=st.integers(1, 3))
@example(documents=[[5]], final=True, workers=1)
@example(documents=[[], [], []], final=True, workers=2)
@example(documents=[[7] * 40] * 30, final=True, workers=3)
@example(documents=[[256, 1] * 20] * 14, final=False, workers=2)
def test_the_aligned_order_is_what_it_says(
    documents: list[list[int]], final: bool, workers: int
) -> None:
    with TemporaryDirectory() as folder:
        order = make_order(
            Path(folder), documents, aligned=True, final=final or not documents, workers=workers
        )
        check(order, documents, final=final)


def test_positions_lie_where_they_are_said_to_lie(tmp_path: Path) -> None:
    documents = np.random.default_rng(0).integers(0, 3, (5, 4)).tolist()
    order = make_order(tmp_path, documents, aligned=True)
    places = np.array(unpack(order.table, order.pointer_width)) // 2
    for position in range(-1, 4):
        ranks = slice((position + 1) * 5, (position + 2) * 5)
        assert {order.shard.locate(int(i))[1] for i in places[ranks]} == {position}
    assert places[-1] == order.shard.num_tokens - 1


@pytest.mark.parametrize("aligned", [False, True])
def test_shared_lengths_saturate(tmp_path: Path, aligned: bool) -> None:
    documents = [[3] * 70_000] * 2
    order = make_order(tmp_path, documents, aligned=aligned, workers=2)
    assert order.lcp.max() == order.repeat.max() == 65535
    assert order.repeat[0] == 65535
    assert order.repeat[70_000] == (1 if aligned else 2)  # a last token, and the separator behind
    assert order.inverse_width == order.pointer_width == 3


def test_pieces_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = np.random.default_rng(1).integers(0, 2, (40, 20)).tolist()
    monkeypatch.setattr(order_build, "_PIECE", 7)
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        check(make_order(folder, documents, aligned=True, workers=workers), documents, final=True)


def test_documents_of_several_lengths_have_no_aligned_order(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"not equally long.*matching=free"):
        make_order(tmp_path, [[1, 2], [3]], aligned=True)


@pytest.mark.parametrize("name", ["aligned.0", "inverse.0", "lcp.0", "repeat.0", "minima.0"])
def test_a_cut_or_missing_side_file_is_refused(tmp_path: Path, name: str) -> None:
    order = make_order(tmp_path, [[1, 2], [1, 3]], aligned=True)
    file = order.path / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IndexFormatError, match=rf"{name} has \d+ bytes, but the 7 tokens"):
        Order.open(order.path, shard=order.shard, aligned=True)
    file.unlink()
    with pytest.raises(IndexFormatError, match=f"{name} is missing"):
        Order.open(order.path, shard=order.shard, aligned=True)


def test_an_order_travels_without_its_memory_maps(tmp_path: Path) -> None:
    order = make_order(tmp_path, [list(range(3000))], aligned=False)
    assert order.inverse.size > order.lcp.size
    packed = pickle.dumps(order)
    assert len(packed) < 2000
    assert pickle.loads(packed).lcp.tolist() == order.lcp.tolist()
