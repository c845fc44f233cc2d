"""Any folder of images becomes shards in the order of the names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imagegram.corpora.folder import FolderCorpus
from imagegram.errors import ConfigError, CorpusError
from tests.pictures import encode, noise


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for number, name in enumerate(["b.png", "a/2.JPG", "a/10.jpeg", "c.webp", "a.png"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(number), "PNG"))
    (root / "b.txt").write_text("a caption\n")
    (root / "b.json").write_text(json.dumps({"year": 1999}))
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"")
    return root


def test_order_captions_and_access(photos: Path) -> None:
    (shard,) = FolderCorpus(path=str(photos)).shards
    records = list(shard)
    members = [record.locator.member for record in records]
    assert members == ["a.png", "a/10.jpeg", "a/2.JPG", "b.png", "c.webp"]
    assert len(shard) == 5
    assert [r.key for r in records] == ["a", "a/10", "a/2", "b", "c"]
    assert records[3].caption == "a caption"
    assert records[3].info == {"year": 1999}
    assert records[0].caption is None
    for record in records:
        assert (
            shard.read(record.locator)
            == record.data
            == (photos / record.locator.member).read_bytes()
        )


def test_a_link_that_leads_nowhere_is_refused_not_forgotten(photos: Path) -> None:
    (photos / "lost.png").symlink_to(photos / "nowhere.png")
    (shard,) = FolderCorpus(path=str(photos)).shards
    assert len(shard) == 6
    with pytest.raises(CorpusError, match=r"lost\.png could not be read"):
        shard.identity()


def test_equal_stems_keep_distinct_keys(photos: Path) -> None:
    (photos / "b.jpg").write_bytes(encode(noise(9), "JPEG"))
    (shard,) = FolderCorpus(path=str(photos)).shards
    assert [r.key for r in shard][3:5] == ["b.jpg", "b.png"]


def test_shards_are_cut_and_nested(photos: Path) -> None:
    shards = FolderCorpus(path=str(photos), images_per_shard=2).shards
    assert [(s.name, len(s)) for s in shards] == [("00000", 2), ("00001", 2), ("00002", 1)]
    assert FolderCorpus(path=str(photos), images_per_shard=2, num_shards=2).shards == shards[:2]


@pytest.mark.parametrize("name", ["b.png", "b.txt", "b.json"])
def test_identity_follows_content_and_not_the_place(photos: Path, name: str) -> None:
    cache = str(photos.parent / "hashes")
    (shard,) = FolderCorpus(path=str(photos), hash_cache=cache).shards
    before = shard.identity()
    assert shard.identity() == before
    moved = photos.parent / "moved"
    photos.rename(moved)
    (again,) = FolderCorpus(path=str(moved), hash_cache=cache).shards
    assert again.identity() == before
    (moved / name).write_bytes(b"changed")
    assert again.identity() != before


def test_what_has_no_images_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus.path=FOLDER"):
        _ = FolderCorpus().shards
    with pytest.raises(CorpusError, match="is not a folder"):
        _ = FolderCorpus(path=str(tmp_path / "nowhere")).shards
    with pytest.raises(CorpusError, match="is not a folder"):
        _ = FolderCorpus(path=str(photos / "b.png")).shards
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CorpusError, match=r"no file below .*empty ends in \.jpg, \.jpeg, \.png"):
        _ = FolderCorpus(path=str(empty)).shards
    with pytest.raises(ConfigError, match="images_per_shard"):
        FolderCorpus(images_per_shard=0)


def test_names_that_are_no_utf8(photos: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.png")
    (photos / name).write_bytes(encode(noise(9)))
    (shard,) = FolderCorpus(path=str(photos), hash_cache=str(photos.parent / "hashes")).shards
    assert shard.identity() == shard.identity()
    record = next(record for record in shard if record.locator.member == name)
    assert shard.read(record.locator) == record.data


def test_changes_while_reading(photos: Path) -> None:
    (shard,) = FolderCorpus(path=str(photos)).shards
    reading = iter(shard)
    record = next(reading)
    os.utime(photos / "b.png", ns=(1, 1))
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(reading)
    reading = iter(shard)
    next(reading)
    (photos / record.locator.member).unlink()
    with pytest.raises(CorpusError, match="changed while it was read"):
        list(reading)
    with pytest.raises(CorpusError, match="is gone"):
        shard.read(record.locator)
    with pytest.raises(CorpusError, match=r"photos: .*a\.png could not be read"):
        shard.identity()
