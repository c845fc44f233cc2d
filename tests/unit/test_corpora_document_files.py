"""Files of many documents: JSON lines and Parquet, found, nested, held out, refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagegram.corpora.document_files import JsonlCorpus
from imagegram.errors import ConfigError, CorpusError
from tests.parquets import write

DOCUMENTS = [{"id": f"story {n}", "text": f"text {n}", "genre": "prose"} for n in range(4)]


def lines(documents: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "books"
    root.mkdir()
    (root / "a.jsonl").write_bytes(lines(DOCUMENTS[:1]))
    (root / "b.jsonl.gz").write_bytes(gzip.compress(lines(DOCUMENTS[1:2]), mtime=0))
    columns: Mapping[str, Any] = {
        name: [document[name] for document in DOCUMENTS[2:]] for name in DOCUMENTS[0]
    }
    write(root / "c.parquet", dict(columns))
    (root / "notes.txt").write_text("no documents")
    (root / ".cache").mkdir()
    return root


def test_all_files_of_a_folder_in_order(folder: Path) -> None:
    corpus = JsonlCorpus(files=str(folder), id="id", label="genre")
    shards = corpus.shards
    assert [shard.name for shard in shards] == ["a", "b", "c"]
    records = [record for shard in shards for record in shard]
    assert [record.key for record in records] == [document["id"] for document in DOCUMENTS]
    assert [record.data.decode() for record in records] == [one["text"] for one in DOCUMENTS]
    assert all(record.info and record.info["label"] == "prose" for record in records)
    for shard in shards:
        assert len(shard) == len(list(shard))
        for record in shard:
            assert shard.read(record.locator) == record.data
    found = corpus.snapshot.found
    assert found.endswith("; 1 other file (1 .txt), 1 hidden file (.cache)")
    assert found.startswith("3 files of ")
    assert JsonlCorpus(files=str(folder), id="id", label="genre", num_shards=2).shards == shards[:2]


def test_files_are_held_out_whole(folder: Path) -> None:
    corpus = JsonlCorpus(files=str(folder / "[ab].*"), holdout_files=[str(folder / "c.parquet")])  # type: ignore[arg-type]
    assert [shard.name for shard in corpus.shards] == ["a", "b"]
    (held,) = corpus.holdout_shards
    assert [record.key for record in held] == ["row 0", "row 1"]
    assert corpus.look() == corpus.snapshot


def test_rows_of_one_key_count_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"id": ["x", "x", None], "text": ["1", "2", "3"]})
    (shard,) = JsonlCorpus(files=str(path), id="id").shards
    records = list(shard)
    assert [record.failure for record in records] == [None, "duplicate_key", None]
    assert [record.key for record in records] == ["x", "row 1", "row 2"]


def test_what_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"no files are named; type corpus\.files=FOLDER"):
        _ = JsonlCorpus().shards
    with pytest.raises(CorpusError, match=r"1 of 1 files are missing .*first d\.jsonl"):
        _ = JsonlCorpus(files=str(folder / "d.jsonl")).shards
    with pytest.raises(CorpusError, match=r"3 files found in .*, 4 wanted; check corpus\.files"):
        _ = JsonlCorpus(files=str(folder), num_shards=4).shards
    with pytest.raises(CorpusError, match=r"has no column of texts body; .* id, text, genre"):
        _ = JsonlCorpus(files=str(folder / "c.parquet"), text="body").shards
    with pytest.raises(ConfigError, match=r"corpus\.id=text is the field of the texts too"):
        JsonlCorpus(id="text")
    with pytest.raises(ConfigError, match="num_shards must be at least 1"):
        JsonlCorpus(num_shards=0)
    (shard,) = JsonlCorpus(files=str(folder / "c.parquet"), label="colour").shards
    with pytest.raises(CorpusError, match="has no column colour; all its columns: id, text, genre"):
        list(shard)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(DOCUMENTS[:1]), mtime=0))
    with pytest.raises(CorpusError, match="the same file as it seems, compressed and not"):
        _ = JsonlCorpus(files=str(folder)).shards
