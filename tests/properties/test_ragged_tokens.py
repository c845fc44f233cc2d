"""Token sets of documents that differ in length, and what is selected of them, against lists."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagegram.indexes import open_index
from imagegram.indexes.build.stage import BuildIndex
from imagegram.indexes.verify import verify
from imagegram.stages.tokens import TokenSet, Windows
from imagegram.store.artifacts import fingerprint
from tests.index_folders import EOS, write_index
from tests.pictures import context
from tests.token_shards import FakeSelect, FakeTokens, FakeTokenShard, Rows

TOKEN = st.integers(0, 5)
DOCUMENT = st.lists(TOKEN, max_size=9).map(tuple)
SHARDS = st.lists(st.lists(DOCUMENT, max_size=4).map(tuple), min_size=1, max_size=4)
relaxed = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def made(shards: list[Rows], length: int | None = None) -> Iterator[tuple[Path, TokenSet]]:
    with tempfile.TemporaryDirectory() as root:
        parts = tuple(FakeTokenShard(rows=rows, length=length) for rows in shards)
        yield Path(root), context(Path(root)).make(FakeTokens(parts=parts))


def padded(document: tuple[int, ...], start: int, length: int) -> list[int]:
    row = list(document[start : start + length])
    return row + [EOS] * (length - len(row))


@given(shards=SHARDS, window=st.integers(1, 12), data=st.data())
@relaxed
def test_documents_and_rows_of_them(shards: list[Rows], window: int, data: st.DataObject) -> None:
    documents = [document for shard in shards for document in shard]
    with made(shards) as (_, tokens):
        tokens = replace(tokens, window=window)
        assert tokens.num_tokens == sum(map(len, documents))
        assert tokens.lengths.tolist() == list(map(len, documents))
        assert [tuple(tokens.document(i).tolist()) for i in range(len(documents))] == documents
        number = st.integers(0, len(documents) - 1)
        drawn = data.draw(st.lists(number, max_size=6)) if documents else []
        starts = [data.draw(st.integers(0, len(documents[i]))) for i in drawn]
        rows = tokens.gather(drawn, starts)
        assert rows.dtype == np.uint16
        assert rows.shape == (len(drawn), window)
        assert rows.tolist() == [
            padded(documents[i], at, window) for i, at in zip(drawn, starts, strict=True)
        ]
        assert tokens.gather(drawn).tolist() == [padded(documents[i], 0, window) for i in drawn]


@given(shards=SHARDS, window=st.integers(1, 12))
@relaxed
def test_windows_hold_every_token_once(shards: list[Rows], window: int) -> None:
    expected = [
        (number, at, padded(document, at, window))
        for number, document in enumerate(document for shard in shards for document in shard)
        for at in range(0, len(document), window)
    ]
    with made(shards) as (_, tokens):
        windows = replace(tokens, window=window).windows()
        assert isinstance(windows, Windows)
        assert windows.num_documents == len(expected)
        everyone = np.arange(len(expected))
        documents, starts = windows.locate(everyone)
        np.testing.assert_array_equal(windows.document_of(everyone), documents)
        rows = windows.gather(everyone)
        found = zip(documents.tolist(), starts.tolist(), rows.tolist(), strict=True)
        assert list(found) == expected
        assert windows.gather(everyone[::-1]).tolist() == rows.tolist()[::-1]


@given(shards=SHARDS, limit=st.sampled_from([1, 12, 2**30]))
@relaxed
def test_an_index_holds_the_documents_whole(shards: list[Rows], limit: int) -> None:
    with made(shards) as (root, tokens):
        model = context(root).make(BuildIndex(tokens=tokens, shard_tokens=limit))
        whole = write_index(root / "whole", [row for shard in shards for row in shard])
        if limit == 2**30:
            for name in ("tokenized.0", "offset.0", "table.0"):
                built = (model.shards[0].path / name).read_bytes()
                assert built == (whole / name).read_bytes()
        index = open_index(model.artifact.path, engine="naive")
        for number in range(tokens.num_documents):
            np.testing.assert_array_equal(index.document(number), tokens.document(number))
            assert index.metadata(number) == tokens.metadata(number)


@given(shards=SHARDS, limit=st.sampled_from([1, 12, 2**30]), data=st.data())
@relaxed
def test_a_selection_is_a_set_of_its_own(
    shards: list[Rows], limit: int, data: st.DataObject
) -> None:
    chosen = [
        tuple(i for i in range(len(rows)) if data.draw(st.booleans(), label=f"document {i}"))
        for rows in shards
    ]
    pairs = zip(shards, chosen, strict=True)
    expected = [rows[i] for rows, numbers in pairs for i in numbers]
    keys = [f"ü{i}" for numbers in chosen for i in numbers]
    with made(shards) as (root, everything):
        tokens = context(root).make(FakeSelect(tokens=everything, chosen=tuple(chosen)))
        tokens = replace(tokens, window=4)
        assert tokens.num_documents == len(expected)
        assert tokens.num_tokens == sum(map(len, expected))
        assert tokens.lengths.tolist() == list(map(len, expected))
        assert [tuple(tokens.document(i).tolist()) for i in range(len(expected))] == expected
        assert [tokens.metadata(i)["key"] for i in range(len(expected))] == keys
        rows = tokens.gather(range(len(expected)))
        assert rows.tolist() == [padded(document, 0, 4) for document in expected]
        windows = tokens.windows()
        assert windows.num_documents == sum(-(-len(document) // 4) for document in expected)
        model = context(root).make(BuildIndex(tokens=tokens, shard_tokens=limit))
        for shard in model.shards:
            verify(shard, deep=True)
        if limit == 2**30:
            whole = write_index(root / "whole", expected)
            for name in ("tokenized.0", "offset.0", "table.0"):
                built = (model.shards[0].path / name).read_bytes()
                assert built == (whole / name).read_bytes()
        index = open_index(model.artifact.path, engine="naive")
        assert index.num_documents == len(expected)
        for number, document in enumerate(expected):
            assert tuple(index.document(number).tolist()) == document
            assert index.metadata(number)["key"] == keys[number]


@given(shards=SHARDS)
@relaxed
def test_equal_selections_share_what_is_built_of_them(shards: list[Rows]) -> None:
    everyone = tuple(tuple(range(len(rows))) for rows in shards)
    last = tuple(numbers[1:] for numbers in everyone)
    with made(shards) as (root, tokens):

        def parts(chosen: tuple[tuple[int, ...], ...], note: str) -> list[tuple[str, object]]:
            selected = context(root).make(FakeSelect(tokens=tokens, chosen=chosen, note=note))
            return [fingerprint(part) for part in BuildIndex(tokens=selected).parts()]

        whole = [fingerprint(part) for part in BuildIndex(tokens=tokens).parts()]
        assert parts(everyone, "a") == parts(everyone, "b") == whole
        assert parts(last, "a") == parts(last, "b")
        assert (parts(last, "a") == whole) == (last == everyone)


@given(rows=st.lists(st.tuples(TOKEN, TOKEN, TOKEN), max_size=5).map(tuple), data=st.data())
@relaxed
def test_equal_lengths_read_the_same_either_way(rows: Rows, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4)) if rows else []
    with made([rows], length=3) as (_, equal), made([rows]) as (_, ragged):
        assert equal.windows() is equal
        sliced = replace(ragged, window=3)
        np.testing.assert_array_equal(equal.gather(drawn), sliced.gather(drawn))
        np.testing.assert_array_equal(equal.gather(drawn), sliced.windows().gather(drawn))
        np.testing.assert_array_equal(
            equal.gather(drawn, [1] * len(drawn)), sliced.gather(drawn, [1] * len(drawn))
        )
        assert equal.lengths.tolist() == ragged.lengths.tolist()
